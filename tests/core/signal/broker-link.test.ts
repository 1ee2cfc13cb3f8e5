import { afterEach, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { createRealWorld } from "../../../core/net/real-world.ts";
import type { World } from "../../../core/net/world.ts";
import { type BrokerLink, createBrokerLink } from "../../../core/signal/broker-link.ts";
import { parseBrokerUrl } from "../../../core/signal/broker-url.ts";
import { startAedes, startMosquitto, startSilent } from "./brokers.ts";
import { makeTlsIdentity } from "./tls-identity.ts";
import { until } from "./signaling-nodes.ts";

const isLab = process.env["P2PD_LAB"] === "1";
const cleanUps: (() => void | Promise<void>)[] = [];

afterEach(async () => {
  for (const step of cleanUps.splice(0).toReversed()) await step();
});

describe("a link", () => {
  test("to a broker that knows no MQTT 5 falls back to 3.1.1 at once", async () => {
    const broker = await startAedes();
    cleanUps.push(() => broker.close());
    const link = open(broker.url);
    await connected(link);
    expect(link.status()).toMatchObject({ state: "connected", mqtt: "3.1.1" });
  });

  test("over IPv6 works like one over IPv4", async () => {
    const broker = await startAedes({ host: "::1" });
    cleanUps.push(() => broker.close());
    const link = open(broker.url);
    await connected(link);
    expect(link.name).toBe(`mqtt://[::1]:${broker.port}`);
  });

  test("to a server that accepts and says nothing gives up after its time, and says so", async () => {
    const broker = await startSilent();
    cleanUps.push(() => broker.close());
    const link = open(broker.url, { connectTimeoutMs: 100 });
    await until(() => link.status().state === "waiting");
    expect(link.status()).toMatchObject({ error: "no answer within 100 ms" });
    expect(link.status().retryInMs).toBeGreaterThan(0);
    expect(link.publish("x", new Uint8Array(1))).toBe(false);
  });

  test("to a broker that announces 256 MiB is cut", async () => {
    const port = await serve(Uint8Array.of(0x20, 2, 0, 0, 0x30, 0xff, 0xff, 0xff, 0x7f));
    const link = open(`mqtt://127.0.0.1:${port}`);
    await until(() => link.status().error !== undefined);
    expect(link.status().error).toContain("too long");
  });

  test("to something that is no broker says what came instead", async () => {
    const port = await serve(new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n"));
    const link = open(`mqtt://127.0.0.1:${port}`);
    await until(() => link.status().state === "waiting");
    expect(link.status().error).toBeString();
    const web = open(`ws://127.0.0.1:${port}/mqtt`);
    await until(() => web.status().state === "waiting");
    expect(web.status().error).toContain('the server said "HTTP/1.1 400 Bad Request"');
  });

  test("checks the certificate of a broker with TLS", async () => {
    const tls = makeTlsIdentity("localhost");
    const broker = await startAedes({ tls });
    cleanUps.push(() => broker.close());
    const real = createRealWorld();
    const trusting: World = {
      ...real,
      secureServer: (stream, options) =>
        real.secureServer?.(stream, { ...options, authorities: [tls.cert] }) ?? Promise.reject(new Error()),
    };
    const good = open(`mqtts://localhost:${broker.port}`, {}, trusting);
    await connected(good);
    expect(good.status().state).toBe("connected");
    const stranger = open(`mqtts://localhost:${broker.port}`);
    await until(() => stranger.status().error !== undefined);
    expect(stranger.status().error).toContain("certificate is not trusted");
    const misnamed = open(`mqtts://127.0.0.1:${broker.port}`, {}, trusting);
    await until(() => misnamed.status().error !== undefined);
    expect(misnamed.status().error).toContain("certificate is not trusted");
    const without: World = { ...real };
    Reflect.deleteProperty(without, "secureServer");
    const plain = open(`mqtts://localhost:${broker.port}`, {}, without);
    await until(() => plain.status().error !== undefined);
    expect(plain.status().error).toContain("no TLS");
  });

  test("that is closed while it connects leaves nothing behind", async () => {
    const broker = await startSilent();
    cleanUps.push(() => broker.close());
    const link = open(broker.url);
    link.close();
    link.close();
    expect(link.status().state).toBe("closed");
  });
});

describe.skipIf(!isLab)("a link to mosquitto", () => {
  test("speaks MQTT 5, over TCP and over a WebSocket, and hears what is sent and retained", async () => {
    const broker = await startMosquitto();
    cleanUps.push(() => broker.close());
    for (const url of [broker.url, broker.webSocketUrl]) {
      const heard: string[] = [];
      const link = open(url);
      link.subscribe("p2pd/test", (payload) => heard.push(Buffer.from(payload).toString()));
      await connected(link);
      expect(link.status().mqtt).toBe("5");
      link.publish("p2pd/test", Buffer.from("one"), { retain: true, expirySeconds: 60 });
      await until(() => heard.length > 0);
      const late: string[] = [];
      const stop = link.subscribe("p2pd/test", (payload) => late.push(Buffer.from(payload).toString()));
      await until(() => late.includes("one"));
      stop();
    }
  });

  test("says that all that is retained has come, after it has come, and at once where there is nothing", async () => {
    const broker = await startMosquitto();
    cleanUps.push(() => broker.close());
    for (const url of [broker.url, broker.webSocketUrl]) {
      const link = open(url);
      await connected(link);
      link.publish("p2pd/kept", Buffer.from("kept"), { retain: true, expirySeconds: 60 });
      for (const [topic, expected] of [
        ["p2pd/kept", ["kept", "all"]],
        ["p2pd/none", ["all"]],
      ] as const) {
        const events: string[] = [];
        const stop = link.subscribe(
          topic,
          (payload) => events.push(Buffer.from(payload).toString()),
          (isAnswered) => events.push(isAnswered ? "all" : "failed"),
        );
        await until(() => events.includes("all"), 1000);
        expect(events).toEqual([...expected]);
        stop();
      }
    }
  });

  test("notices that the broker is frozen, and comes back when it thaws", async () => {
    const broker = await startMosquitto();
    cleanUps.push(() => broker.close());
    const link = open(broker.url);
    await connected(link);
    process.kill(broker.pid, "SIGSTOP");
    link.check();
    await until(() => link.status().state !== "connected", 12_000);
    expect(link.status().error).toBe("no answer to a ping within 300 ms");
    await until(() => link.status().error?.includes("the broker is frozen") === true, 12_000);
    process.kill(broker.pid, "SIGCONT");
    await until(() => link.status().state === "connected", 20_000);
  }, 40_000);

  test("with a user and a password that are wrong says so", async () => {
    const broker = await startMosquitto(["allow_anonymous false"]);
    cleanUps.push(() => broker.close());
    const link = open(broker.url.replace("mqtt://", "mqtt://ann:secret@"));
    await until(() => link.status().state === "waiting");
    expect(link.status().error).toContain("refused");
    expect(JSON.stringify(link.status())).not.toContain("secret");
  });
});

describe("a broker's URL", () => {
  test("is read with its defaults, and written without credentials", () => {
    expect(parseBrokerUrl("mqtt://EXAMPLE.org")).toEqual({
      scheme: "mqtt",
      host: "example.org",
      port: 1883,
      path: "",
    });
    expect(parseBrokerUrl("wss://a:b%40c:d@[2001:DB8::1]/x/y")).toEqual({
      scheme: "wss",
      host: "2001:db8::1",
      port: 443,
      path: "x/y",
      username: "a",
      password: "b@c:d",
    });
    expect(parseBrokerUrl("mqtts://100%:1@h")).toMatchObject({ username: "100%" });
  });

  test("that is unreadable is named without its password", () => {
    for (const text of ["http://x", "mqtt://", "mqtt://h:0", "mqtt://h:70000", "mqtt://[zz]", "x"]) {
      expect(() => parseBrokerUrl(text)).toThrow("is unreadable");
    }
    expect(() => parseBrokerUrl("mqtt://ann:secret@h:99999")).not.toThrow("secret");
  });
});

function open(
  url: string,
  options: { connectTimeoutMs?: number } = {},
  world = createRealWorld(),
): BrokerLink {
  const link = createBrokerLink(world, { broker: parseBrokerUrl(url), ...options });
  cleanUps.push(() => link.close());
  return link;
}

function connected(link: BrokerLink): Promise<void> {
  return until(() => link.status().state === "connected");
}

async function serve(answer: Uint8Array): Promise<number> {
  const server = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.on("data", () => socket.write(answer));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanUps.push(() => void server.close());
  return (server.address() as AddressInfo).port;
}
