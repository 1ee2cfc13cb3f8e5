/** The broker under its own bounds: MQTT spoken by the package that our nodes use, and by raw octets where that would not. */
import { expect, test } from "bun:test";
import { once } from "node:events";
import { connect as connectTcp } from "node:net";
import mqtt, { type IClientOptions, MqttClient } from "mqtt";
import {
  BROKER_BOUNDS,
  type BrokerBounds,
  type InfraBroker,
  openBroker,
} from "../../../core/infra/broker.ts";
import { createRetainedMessages } from "../../../core/infra/retained-messages.ts";
import { createLog } from "../../../core/log.ts";
import { createRealWorld } from "../../../core/net/real-world.ts";
import { connectBroker } from "../../../core/signal/broker-stream.ts";
import { parseBrokerUrl } from "../../../core/signal/broker-url.ts";
import { byteDuplex } from "../../../core/signal/byte-duplex.ts";

const world = createRealWorld();
const log = createLog({ level: "error", format: "text", wallMs: () => 0, write: () => undefined });
const LOOPBACK = { ip: "127.0.0.1", port: 0 };

test("a message reaches who subscribed, over TCP and WebSocket alike, with every quality of service", async () => {
  await using broker = await start();
  const [one, two] = [await broker.client("mqtt"), await broker.client("ws")];
  await two.subscribeAsync("topic", { qos: 2 });
  for (const qos of [0, 1, 2] as const) {
    const heard = messageTo(two);
    await one.publishAsync("topic", `qos ${qos}`, { qos });
    expect(await heard).toBe(`qos ${qos}`);
  }
  expect(broker.clients).toBe(2);
  expect(broker.counts.published).toBe(3);
});

test("a retained message waits for who comes later, until an empty one takes it away", async () => {
  await using broker = await start();
  const one = await broker.client("mqtt");
  await one.publishAsync("kept", "old", { qos: 1, retain: true });
  await one.publishAsync("kept", "new", { qos: 1, retain: true });
  const two = await broker.client("mqtt");
  const heard = messageTo(two);
  await two.subscribeAsync("kept");
  expect(await heard).toBe("new");
  expect(broker.retained.count).toBe(1);
  await one.publishAsync("kept", "", { qos: 1, retain: true });
  expect([broker.retained.count, broker.retained.octets]).toEqual([0, 0]);
});

test.each(["#", "+/a", "a/#", "$SYS/#", "$SYS/x", "a".repeat(257)])(
  "nobody may subscribe to %p, which names no topic of his own",
  async (topic) => {
    await using broker = await start();
    const client = await broker.client("mqtt");
    const refused = await client.subscribeAsync(topic).catch((thrown: Error) => thrown.message);
    expect(refused).toContain("Unspecified error");
    expect(await client.subscribeAsync("allowed")).toHaveLength(1);
  },
);

test("a session ends with its connection, whatever the client asks for", async () => {
  await using broker = await start();
  const first = await broker.client("mqtt", { clientId: "same", clean: false });
  await first.subscribeAsync("t", { qos: 1 });
  await first.endAsync();
  const again = mqtt.connect(broker.url("mqtt"), { protocolVersion: 4, clientId: "same", clean: false });
  const present = await new Promise((resolve) =>
    again.once("connect", ({ sessionPresent }) => resolve(sessionPresent)),
  );
  expect(present).toBe(false);
  await again.endAsync();
});

test.each<[string, Partial<BrokerBounds>, (client: MqttClient) => void]>([
  ["a packet that is too long", { packetOctets: 1000 }, (client) => client.publish("t", Buffer.alloc(1000))],
  ["a topic that is too long", {}, (client) => client.publish("t".repeat(257), "x")],
  ["a topic of the broker's own", {}, (client) => client.publish("$SYS/x", "x")],
  [
    "messages faster than allowed",
    { publishesPerSecond: 5 },
    (client) => {
      for (let i = 0; i < 60; i++) client.publish("t", "x");
    },
  ],
])("%s ends the client and nobody else", async (_, bounds, act) => {
  await using broker = await start(bounds);
  const [bad, good] = [await broker.client("mqtt"), await broker.client("mqtt")];
  await good.subscribeAsync("fine");
  const closed = new Promise<void>((resolve) => void bad.once("close", resolve));
  act(bad);
  await closed;
  const heard = messageTo(good);
  await good.publishAsync("fine", "still here");
  expect(await heard).toBe("still here");
});

test("clients beyond the bound are turned away, and there is room again when one leaves", async () => {
  await using broker = await start({ clients: 2 });
  const [first] = [await broker.client("mqtt"), await broker.client("ws")];
  const third = connectTcp(broker.port("mqtt"), "127.0.0.1");
  third.on("error", () => third.destroy());
  await new Promise<void>((resolve) => void third.once("close", () => resolve()));
  expect(broker.counts.refused).toBe(1);
  await first.endAsync();
  expect((await broker.client("mqtt")).connected).toBe(true);
});

test("a subscriber that stops reading is cut off, and holds nobody up", async () => {
  await using broker = await start({ backlogOctets: 64 * 1024, publishesPerSecond: 10_000 });
  const slow = connectTcp(broker.port("mqtt"), "127.0.0.1");
  slow.on("error", () => slow.destroy());
  await once(slow, "connect");
  // CONNECT as "slow", SUBSCRIBE to "t".
  slow.write(Buffer.from("101000044d5154540402003c0004736c6f77", "hex"));
  slow.write(Buffer.from("820600010001740 0".replaceAll(" ", ""), "hex"));
  await once(slow, "data");
  slow.pause();
  const [publisher, reader] = [await broker.client("mqtt"), await broker.client("mqtt")];
  await reader.subscribeAsync("t");
  let heard = 0;
  const last = Promise.withResolvers<void>();
  reader.on("message", (_, bytes) => {
    heard++;
    if (bytes.length === 4) last.resolve();
  });
  const payload = Buffer.alloc(32 * 1024);
  let sent = 0;
  while (broker.clients === 3 && sent < 2000) {
    await publisher.publishAsync("t", payload, { qos: 1 });
    sent++;
  }
  expect(broker.clients).toBe(2);
  await reader.publishAsync("t", "last", { qos: 1 });
  await last.promise;
  expect(heard).toBe(sent + 1);
  slow.destroy();
});

test.each([
  ["no GET", "POST / HTTP/1.1\r\n\r\n", "426"],
  ["no upgrade", "GET / HTTP/1.1\r\n\r\n", "426"],
  [
    "another protocol",
    "GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
    "426",
  ],
  ["a head without end", `GET / HTTP/1.1\r\nx: ${"y".repeat(9000)}`, "431"],
])("a WebSocket handshake with %s is refused", async (_, head, status) => {
  await using broker = await start();
  const socket = connectTcp(broker.port("ws"), "127.0.0.1");
  socket.on("error", () => socket.destroy());
  await once(socket, "connect");
  socket.write(head);
  const [answer] = (await once(socket, "data")) as [Buffer];
  expect(answer.toString()).toStartWith(`HTTP/1.1 ${status} `);
  socket.destroy();
});

test("who was refused a WebSocket and does not close gives his place back all the same", async () => {
  await using broker = await start({ clients: 1 });
  const socket = connectTcp({ port: broker.port("ws"), host: "127.0.0.1", allowHalfOpen: true });
  const closed = new Promise<void>((resolve) => void socket.once("close", () => resolve()));
  socket.on("error", () => socket.destroy());
  await once(socket, "connect");
  socket.write("POST / HTTP/1.1\r\n\r\n");
  socket.resume();
  await closed;
  expect((await broker.client("mqtt")).connected).toBe(true);
});

test("what is retained stays within its bounds, and the oldest makes room", () => {
  const store = createRetainedMessages({ messages: 3, octets: 100, share: 1 });
  const put = (topic: string, size: number): void =>
    store.store({ topic, payload: new Uint8Array(size) }, "owner");
  for (const topic of ["a", "b", "c", "a", "d"]) put(topic, 10);
  expect(["a", "b", "c", "d"].map((topic) => store.get(topic) !== undefined)).toEqual([
    true,
    false,
    true,
    true,
  ]);
  put("e", 90);
  expect([store.count, store.octets, store.dropped]).toEqual([1, 91, 4]);
  put("f", 101);
  expect(store.get("f")).toBeUndefined();
  expect(store.get("e")).toBeDefined();
});

test("who fills his share of what is retained loses his own oldest, and nobody else's", () => {
  const store = createRetainedMessages({ messages: 8, octets: 400, share: 1 / 4 });
  const put = (owner: string, topic: string, size: number): void =>
    store.store({ topic, payload: new Uint8Array(size) }, owner);
  put("good", "g", 10);
  for (let i = 0; i < 50; i++) put("bad", `b${i}`, 10);
  expect([store.get("g"), store.get("b47"), store.get("b48"), store.get("b49")].map(Boolean)).toEqual([
    true,
    false,
    true,
    true,
  ]);
  put("bad", "large", 90);
  expect([store.count, store.octets]).toEqual([2, 106]);
  put("bad", "larger", 100);
  expect(store.get("larger")).toBeUndefined();
  // Who publishes to another's topic has it from then on.
  put("bad", "g", 5);
  expect([store.count, store.get("large")]).toEqual([1, undefined]);
});

test("one network's retained messages leave room for the others'", async () => {
  await using broker = await start({ retained: { messages: 8, octets: 10_000, share: 1 / 4 } });
  const [one, two] = [await broker.client("mqtt"), await broker.client("ws")];
  for (const [i, client] of [one, two, one, two].entries()) {
    await client.publishAsync(`topic ${i}`, "x", { qos: i % 2 === 0 ? 1 : 2, retain: true });
  }
  expect([broker.retained.count, broker.retained.dropped]).toEqual([2, 2]);
});

interface TestBroker extends AsyncDisposable, InfraBroker {
  url(scheme: "mqtt" | "ws"): string;
  port(scheme: "mqtt" | "ws"): number;
  client(scheme: "mqtt" | "ws", options?: IClientOptions): Promise<MqttClient>;
}

async function start(bounds: Partial<BrokerBounds> = {}): Promise<TestBroker> {
  const broker = await openBroker(world, {
    tcp: [LOOPBACK],
    webSocket: [LOOPBACK],
    bounds: { ...BROKER_BOUNDS, ...bounds },
    log,
  });
  const clients: MqttClient[] = [];
  const port = (scheme: "mqtt" | "ws"): number =>
    (scheme === "mqtt" ? broker.listening.tcp : broker.listening.webSocket)[0]?.port as number;
  const url = (scheme: "mqtt" | "ws"): string => `${scheme}://127.0.0.1:${port(scheme)}`;
  return Object.assign(Object.create(broker) as InfraBroker, {
    url,
    port,
    async client(scheme: "mqtt" | "ws", options: IClientOptions = {}) {
      // The package's own WebSocket does not open on this runtime; ours carries it.
      const where = parseBrokerUrl(url(scheme));
      const signal = new AbortController().signal;
      const stream = await connectBroker(world, where, { timeoutMs: 5000, signal });
      const duplex = byteDuplex(stream, () => true);
      const client = new MqttClient(() => duplex, { protocolVersion: 4, reconnectPeriod: 0, ...options });
      clients.push(client);
      client.on("error", () => undefined);
      await new Promise((resolve) => void client.once("connect", resolve));
      return client;
    },
    async [Symbol.asyncDispose]() {
      for (const client of clients) await client.endAsync(true);
      await broker.close();
    },
  });
}

/** The payload of the next message. */
function messageTo(client: MqttClient): Promise<string> {
  return new Promise((resolve) => client.once("message", (_, payload) => resolve(payload.toString())));
}
