/** Real nodes on loopback whose connection goes through a real TURN server: what it carries, and what it sees of it. */
import { afterEach, expect, test } from "bun:test";
import { createCredentials } from "../../../core/infra/turn-credentials.ts";
import { openTurnSockets, type TurnSockets } from "../../../core/infra/turn-sockets.ts";
import { createLog } from "../../../core/log.ts";
import { createRealWorld } from "../../../core/net/real-world.ts";
import type { ByteStream, UdpHandlers, UdpSocket, World } from "../../../core/net/world.ts";
import type { Node } from "../../../core/node/node.ts";
import type { TurnServer } from "../../../core/node/node-config.ts";
import { startAedes } from "../signal/brokers.ts";
import { ask, until } from "./node-steps.ts";
import { startNode, stopAll } from "./start-node.ts";

const LOOPBACK = "127.0.0.1";
/** Others on this machine may run the same test. */
const PORT = 30_000 + (process.pid % 10_000);
const MIB = 1024 * 1024;
const running: { close(): unknown }[] = [];

afterEach(async () => {
  await stopAll();
  for (const one of running.splice(0)) await one.close();
});

for (const transport of ["udp", "tcp"] as const) {
  test(`over ${transport} 4 MiB come back whole through a relay that sees none of it, and all is given back`, async () => {
    const seen: Uint8Array[] = [];
    const { sockets, turn } = await startTurn(seen);
    const { a, b } = await pair(turn);
    const options = transport === "tcp" ? ({ transport } as const) : {};
    const con = await a.open("con", b.address(), options);
    expect(con).toMatchObject({
      strategy: "relay",
      transport,
      path: /tcp/.test(transport) ? "relay/turn-tcp" : "relay/turn-udp",
    });
    const secret = "a word that nobody else may read";
    expect(await ask(con, `ECHO ${secret}`)).toBe(secret);
    const octets = Buffer.concat(seen);
    expect(octets.length).toBeGreaterThan(1000);
    expect(octets.includes("ECHO")).toBe(false);
    expect(octets.includes(secret.slice(0, 8))).toBe(false);

    const echo = await a.open("echo", b.address(), { ...options, service: "echo" });
    const sent = createRealWorld().randomBytes(MIB);
    const received = new Bun.CryptoHasher("sha256");
    const expected = new Bun.CryptoHasher("sha256");
    let left = 4 * MIB;
    const reading = (async () => {
      while (left > 0) {
        const { bytes } = await echo.pipe.recv("all", 10_000);
        received.update(bytes);
        left -= bytes.length;
      }
    })();
    for (let i = 0; i < 4; i++) {
      expected.update(sent);
      await echo.pipe.send(sent);
    }
    await reading;
    expect(received.digest("hex")).toBe(expected.digest("hex"));
    expect(sockets.server.allocations.all.size).toBe(2);
    await Promise.all([a.close("con"), a.close("echo")]);
    await until(() => sockets.server.allocations.all.size === 0);
  }, 30_000);
}

test("the end of a node gives back what it had allocated", async () => {
  const { sockets, turn } = await startTurn([]);
  const { a, b } = await pair(turn);
  await a.open("con", b.address());
  expect(sockets.server.allocations.all.size).toBe(1);
  await a.close();
  expect(sockets.server.allocations.all.size).toBe(0);
});

async function pair(turn: TurnServer): Promise<{ a: Node; b: Node }> {
  const broker = await startAedes();
  running.push(broker);
  const config = { mqttBrokers: [broker.url], strategies: ["relay"] } as const;
  const a = await startNode({ ...config, turnServers: [turn] });
  const b = await startNode(config);
  for (const node of [a, b])
    await until(() => node.status().some(({ part, state }) => part === "brokers" && state === "up"));
  return { a, b };
}

/** @param seen every octet that the server reads or writes, clients and peers alike */
async function startTurn(seen: Uint8Array[]): Promise<{ sockets: TurnSockets; turn: TurnServer }> {
  const user = { name: "user", password: "pass" };
  const sockets = await openTurnSockets(listened(createRealWorld(), seen), {
    hosts: [{ ip: LOOPBACK, shown: LOOPBACK }],
    port: PORT,
    otherPort: PORT + 1,
    stun: true,
    turn: {
      realm: "test",
      credentials: createCredentials({ realm: "test", users: [user] }),
      limits: { allocations: 10, perAccount: 10, portFirst: 50_000, portLast: 50_999 },
      allowedPeers: [{ ip: "127.0.0.0", prefixLength: 8 }],
    },
    answersPerSecond: 0,
    log: createLog({ level: "error", format: "text", wallMs: () => 0, write: () => undefined }),
  });
  running.push(sockets);
  const turn = {
    host: LOOPBACK,
    port: PORT,
    transport: "udp",
    username: user.name,
    password: user.password,
  } as const;
  return { sockets, turn };
}

/** The same world, whose sockets tell what goes through them. */
function listened(world: World, seen: Uint8Array[]): World {
  const hear = (bytes: Uint8Array): void => void seen.push(bytes.slice());
  const datagrams = (handlers: UdpHandlers): UdpHandlers => ({
    ...handlers,
    message(bytes, from) {
      hear(bytes);
      handlers.message(bytes, from);
    },
  });
  const listenedStream = (stream: ByteStream): ByteStream =>
    Object.assign(Object.create(stream) as ByteStream, {
      attach: (handlers: Parameters<ByteStream["attach"]>[0]) =>
        stream.attach({
          data(bytes) {
            hear(bytes);
            handlers.data(bytes);
          },
          drain: () => handlers.drain(),
          end: () => handlers.end(),
          close: (error) => handlers.close(error),
        }),
      write(bytes: Uint8Array) {
        hear(bytes);
        return stream.write(bytes);
      },
    });
  return {
    ...world,
    async openUdp({ handlers, ...options }) {
      const socket = await world.openUdp({
        ...options,
        ...(handlers === undefined ? {} : { handlers: datagrams(handlers) }),
      });
      return Object.assign(Object.create(socket) as UdpSocket, {
        attach: (next: UdpHandlers) => socket.attach(datagrams(next)),
        send(bytes: Uint8Array, to: Parameters<UdpSocket["send"]>[1]) {
          hear(bytes);
          return socket.send(bytes, to);
        },
      });
    },
    listenTcp: ({ accept, ...options }) =>
      world.listenTcp({ ...options, accept: (stream) => accept(listenedStream(stream)) }),
    connectTcp: async (options) => listenedStream(await world.connectTcp(options)),
  };
}
