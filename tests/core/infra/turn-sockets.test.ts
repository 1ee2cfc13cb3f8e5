/** The TURN server on real sockets under clients that are not well: connections that say nothing, nonsense, or never read. */
import { expect, test } from "bun:test";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { P2pdError, toP2pdError } from "../../../core/errors.ts";
import { createRealWorld } from "../../../core/net/real-world.ts";
import type { World } from "../../../core/net/world.ts";
import { openTurn, type OpenTurn, type OpenTurnOptions } from "../../../core/turn/open-turn.ts";
import { createTurnLogin, type Signature } from "../../../core/turn/turn-login.ts";
import { attribute } from "../../../core/wire/stun-attributes.ts";
import { decodeStun, encodeStun, readAttribute, type StunMessage } from "../../../core/wire/stun.ts";
import { CONNECT, CONNECTION_BIND, CONNECTION_ID, XOR_PEER_ADDRESS } from "../../../core/wire/turn.ts";
import { makeTlsIdentity } from "../signal/tls-identity.ts";
import { portOf, startTestInfra, type TestInfra } from "./infra-options.ts";

const world = createRealWorld();
const UDP: OpenTurnOptions = { relayed: "udp", families: [4], localIp: "127.0.0.1" };

test.each([
  ["what is no message", Buffer.from([0x80, 0, 0, 0])],
  ["a length that is no whole number of words", Buffer.from("0003000121 12a442".replaceAll(" ", ""), "hex")],
  ["another cookie", Buffer.from("000300002112a443", "hex")],
])("a connection that sends %s is closed, and counted", async (_, bytes) => {
  await using running = await startTestInfra({ infraServers: ["turn"] });
  const socket = await dial(running, "turn over tcp");
  socket.write(bytes);
  await ended(socket);
  expect(running.infra.turn?.server.counts.malformed).toBe(1);
  expect(running.infra.turn?.streams.count).toBe(0);
});

test("where the free port of UDP is taken for TCP, another one is found", async () => {
  const asked: number[] = [];
  const crowded: World = {
    ...world,
    listenTcp: (options) => {
      asked.push(options.local.port);
      const isTaken = asked.length === 1;
      return isTaken ? Promise.reject(new P2pdError("address-in-use", "taken")) : world.listenTcp(options);
    },
  };
  await using running = await startTestInfra({ infraServers: ["turn"] }, crowded);
  expect(asked).toEqual([expect.any(Number), portOf(running, "turn over udp")]);
});

test("a client that never reads costs a bounded backlog while its peers go on sending, and what it loses is counted", async () => {
  await using running = await startTestInfra({ infraServers: ["turn"] });
  const turn = await open(running, "tcp");
  const path = [...(running.infra.turn?.server.allocations.all ?? [])][0]?.path;
  const datagram = new Uint8Array(60_000);
  // The client is in this process, and does not get to read in this loop: 300 MB are for it.
  const before = process.memoryUsage().rss;
  for (let i = 0; i < 5000; i++) path?.send(datagram);
  expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024);
  expect(running.infra.turn?.server.counts.dropSlowClient).toBeGreaterThan(4000);
  await turn.close();
});

test("a connection that says more behind a ConnectionBind than that ends, and was joined with one peer at most", async () => {
  await using running = await startTestInfra({ infraServers: ["turn"] });
  const turn = await open(running, "tcp", { relayed: "tcp" });
  const ids: number[] = [];
  for (let i = 0; i < 2; i++) {
    const peer = await world.listenTcp({ local: { ip: "127.0.0.1", port: 0 }, accept() {} });
    const answer = await turn.ask(CONNECT, [attribute(XOR_PEER_ADDRESS, peer.local)]);
    ids.push(readAttribute(answer, CONNECTION_ID) as number);
    peer.close();
  }
  const socket = await dial(running, "turn over tcp");
  socket.write(encodeStun({ class: "request", method: CONNECTION_BIND, transactionId: new Uint8Array(12) }));
  const [challenge] = (await once(socket, "data")) as [Buffer];
  const login = createTurnLogin("user", "pass");
  login.learn(decodeStun(new Uint8Array(challenge)) as StunMessage, undefined);
  const { attributes, integrity } = login.sign() as Signature;
  const bind = (id: number): Uint8Array =>
    encodeStun({
      class: "request",
      method: CONNECTION_BIND,
      transactionId: world.randomBytes(12),
      attributes: [attribute(CONNECTION_ID, id), ...attributes],
      integrity: { key: integrity.key, hashes: [integrity.hash] },
    });
  socket.write(Buffer.concat(ids.map(bind)));
  await ended(socket);
  expect(running.infra.turn?.server.connections.count).toBe(1);
  await turn.close();
});

test("TLS clients are served, and those that fail the handshake leave nothing behind", async () => {
  const identity = makeTlsIdentity("localhost");
  await using place = await startTestInfra({ infraServers: ["stun"] });
  const [infraTlsCertificate, infraTlsKey] = [`${place.directory}/cert.pem`, `${place.directory}/key.pem`];
  await Bun.write(infraTlsCertificate, identity.cert);
  await Bun.write(infraTlsKey, identity.key);
  await using running = await startTestInfra({ infraServers: ["turn"], infraTlsCertificate, infraTlsKey });
  const plain = await dial(running, "turn over tls");
  plain.write(encodeStun({ class: "request", method: 1, transactionId: new Uint8Array(12) }));
  await ended(plain);
  expect(await failure(open(running, "tls"))).toMatchObject({ code: "peer-key" });
  const turn = await open(running, "tls", { authorities: [identity.cert] });
  expect(turn.relayed).toHaveLength(1);
  await turn.close();
});

test("when the server is told to end, its clients are told by their connections, and ports are free again", async () => {
  const first = await startTestInfra({ infraServers: ["turn"] });
  const turn = await open(first, "tcp");
  const closed = Promise.withResolvers<P2pdError>();
  turn.attach({ message() {}, closed: closed.resolve });
  const infraPort = portOf(first, "turn over udp");
  const relayed = turn.relayed[0] as { ip: string; port: number };
  await first[Symbol.asyncDispose]();
  expect((await closed.promise).code).toBe("closed");
  const again = await world.openUdp({ local: relayed });
  again.close();
  await using second = await startTestInfra({ infraServers: ["turn"], infraPort });
  expect(portOf(second, "turn over udp")).toBe(infraPort);
});

test("two thousand allocations stand beside each other and cost little", async () => {
  await using running = await startTestInfra({ infraServers: ["turn"], infraMaxPerUser: 3000 });
  const server = running.infra.turn?.server;
  const turns: OpenTurn[] = [];
  for (let i = 0; i < 2000; i += 100) {
    turns.push(...(await Promise.all(Array.from({ length: 100 }, () => open(running, "udp")))));
  }
  expect(server?.allocations.all.size).toBe(2000);
  expect(new Set(turns.map((turn) => turn.relayed[0]?.port)).size).toBe(2000);
  while (turns.length > 0) await Promise.all(turns.splice(0, 100).map((turn) => turn.close()));
  expect(server?.allocations.all.size).toBe(0);
}, 60_000);

function open(
  running: TestInfra,
  transport: "udp" | "tcp" | "tls",
  more: Partial<OpenTurnOptions> = {},
): Promise<OpenTurn> {
  const port = portOf(running, `turn over ${transport}`);
  const at = { host: "localhost", port, transport, username: "user", password: "pass" };
  return openTurn(world, at, { ...UDP, ...more });
}

async function dial(running: TestInfra, server: string): Promise<Socket> {
  const socket = connect(portOf(running, server), "127.0.0.1");
  socket.on("error", () => socket.destroy());
  await once(socket, "connect");
  return socket;
}

function ended(socket: Socket): Promise<void> {
  socket.resume();
  return new Promise((resolve) => void socket.once("close", () => resolve()));
}

function failure(promise: Promise<unknown>): Promise<P2pdError> {
  return promise.then(() => new P2pdError("internal", "nothing failed"), toP2pdError);
}
