import { afterEach, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { createRealWorld } from "../../../core/net/real-world.ts";
import { createBrokerLink } from "../../../core/signal/broker-link.ts";
import { parseBrokerUrl } from "../../../core/signal/broker-url.ts";
import { openWebSocket } from "../../../core/signal/websocket-stream.ts";
import { memoryStreams } from "../node/memory-stream.ts";
import { startAedes } from "./brokers.ts";
import { failure, until } from "./signaling-nodes.ts";

const cleanUps: (() => void | Promise<void>)[] = [];

afterEach(async () => {
  for (const step of cleanUps.splice(0).toReversed()) await step();
});

test("a broker behind a WebSocket is heard, pinged by it or not", async () => {
  const broker = await startAedes();
  cleanUps.push(() => broker.close());
  const server = Bun.serve<{ socket?: Socket }>({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request, self) => {
      const headers = { "Sec-WebSocket-Protocol": "mqtt" };
      return self.upgrade(request, { data: {}, headers }) ? undefined : new Response("no", { status: 400 });
    },
    websocket: {
      open(ws) {
        ws.ping("there?");
        ws.data.socket = connect(broker.port, "127.0.0.1");
        ws.data.socket.on("data", (bytes) => void ws.send(bytes));
        ws.data.socket.on("close", () => ws.close());
      },
      message: (ws, bytes) => void ws.data.socket?.write(bytes),
      close: (ws) => void ws.data.socket?.destroy(),
    },
  });
  cleanUps.push(() => server.stop(true));
  const heard: Uint8Array[] = [];
  const link = createBrokerLink(createRealWorld(), {
    broker: parseBrokerUrl(`ws://127.0.0.1:${server.port}/mqtt`),
  });
  cleanUps.push(() => link.close());
  link.subscribe("p2pd/test", (payload) => heard.push(payload));
  await until(() => link.status().state === "connected");
  link.publish("p2pd/test", new Uint8Array(4000).fill(7));
  await until(() => heard.length === 1);
  expect(heard[0]).toHaveLength(4000);
  broker.cut();
  await until(() => link.status().state !== "connected");
  await until(() => link.status().state === "connected");
});

test("an answer that is no agreement ends the handshake", async () => {
  const answers = {
    "HTTP/1.1 101 Yes\r\nSec-WebSocket-Accept: wrong\r\n\r\n": "did not answer our key",
    [`HTTP/1.1 101 Yes\r\n${"x: y\r\n".repeat(5000)}`]: "never ends",
  };
  for (const [answer, reason] of Object.entries(answers)) {
    const [near, far] = memoryStreams();
    const options = { host: "h", path: "", signal: new AbortController().signal };
    const opening = openWebSocket(createRealWorld(), near, options);
    far.attach({ data() {}, drain() {}, end() {}, close() {} });
    far.write(new TextEncoder().encode(answer));
    expect((await failure(opening)).message).toContain(reason);
  }
  const [near, far] = memoryStreams();
  const controller = new AbortController();
  const opening = openWebSocket(createRealWorld(), near, { host: "h", path: "", signal: controller.signal });
  far.attach({ data() {}, drain() {}, end() {}, close() {} });
  controller.abort();
  expect(await failure(opening)).toMatchObject({ code: "aborted" });
});
