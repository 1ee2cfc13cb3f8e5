/** The TURN client with our server in virtual time: kept up for an hour, refused in every way, and left alone by servers. */
import { expect } from "bun:test";
import { P2pdError } from "../../../core/errors.ts";
import type { Endpoint } from "../../../core/ip.ts";
import type { ByteStream } from "../../../core/net/world.ts";
import {
  openNearestTurn,
  openTurn,
  type OpenTurn,
  type OpenTurnOptions,
} from "../../../core/turn/open-turn.ts";
import { changeSettings, DEFAULT_SETTINGS } from "../../nat/settings.ts";
import { parseRouterKind, twoHosts } from "../../nat/topologies.ts";
import { simTest } from "../../sim/sim-test.ts";
import type { Simulation } from "../../sim/simulation.ts";
import { type EchoPeer, startEchoPeer, startTurnServer } from "../../sim/turn-server.ts";

const SEEDS = [1, 2, 3];
const UDP: OpenTurnOptions = { relayed: "udp", families: [4] };
const TCP: OpenTurnOptions = { relayed: "tcp", families: [4] };
const behindNat = {
  topology: twoHosts(parseRouterKind("symmetric/random"), parseRouterKind("open-internet")),
};
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
const hello = new TextEncoder().encode("hello");

for (const transport of ["udp", "tcp"] as const) {
  simTest(
    `over ${transport}: an hour with a channel and a permission, and every datagram comes back`,
    [1],
    async (sim) => {
      const server = await startTurnServer(sim);
      const [peer, other] = [await echoAt(sim, "peer"), await echoAt(sim, "other")];
      const turn = await openTurn(sim.host("alice").world, server.at(transport), UDP);
      const heard = listen(turn);
      await turn.bind(peer.endpoint);
      await turn.permit([other.endpoint.ip]);
      for (let minute = 0; minute < 60; minute++) {
        turn.send(Buffer.from(`a${minute}`), peer.endpoint);
        turn.send(Buffer.from(`b${minute}`), other.endpoint);
        await sim.sleep(60_000);
      }
      expect(heard.filter((one) => one.startsWith("a"))).toEqual(
        Array.from({ length: 60 }, (_, i) => `a${i}`),
      );
      expect(heard.filter((one) => one.startsWith("b"))).toEqual(
        Array.from({ length: 60 }, (_, i) => `b${i}`),
      );
      expect(peer.heard.every(({ port }) => port === turn.relayed[0]?.port)).toBe(true);
      expect(server.sockets.server.counts).toMatchObject({
        allocated: 1,
        expired: 0,
        dropNoPermission: 0,
        dropNoChannel: 0,
      });
      await turn.close();
      expect(server.sockets.server.allocations.all.size).toBe(0);
    },
    { ...behindNat, limitMs: 2 * 3_600_000 },
  );
}

simTest(
  "over a line that loses a fifth of its packets it allocates, binds and keeps up all the same",
  SEEDS,
  async (sim) => {
    const server = await startTurnServer(sim);
    const peer = await echoAt(sim, "peer");
    const options = { ...UDP, timeoutMs: 20_000 };
    const turn = await openTurn(sim.host("alice").world, server.at("udp"), options);
    await turn.bind(peer.endpoint);
    await sim.sleep(1_800_000);
    const heard = listen(turn);
    for (let i = 0; i < 20; i++) turn.send(hello, peer.endpoint);
    await sim.sleep(1000);
    expect(heard.length).toBeGreaterThan(5);
    await turn.close();
  },
  {
    topology: twoHosts(
      { kind: "box", settings: changeSettings(DEFAULT_SETTINGS, { link: { loss: 0.2 } }) },
      parseRouterKind("open-internet"),
    ),
  },
);

simTest(
  "both families of one allocation carry data, each to its own peers",
  SEEDS,
  async (sim) => {
    const server = await startTurnServer(sim);
    const four = await echoAt(sim, "peer");
    const six = await echoAt(sim, "six", 6);
    const turn = await openTurn(sim.host("alice").world, server.at("udp"), {
      relayed: "udp",
      families: [4, 6],
    });
    expect(turn.relayed.map(({ ip }) => ip.includes(":"))).toEqual([false, true]);
    expect(turn.mapped?.ip).toBe(sim.router("a").ipv4.externalIp as never);
    const heard = listen(turn);
    await turn.permit([four.endpoint.ip]);
    await turn.permit([six.endpoint.ip]);
    turn.send(Buffer.from("four"), four.endpoint);
    turn.send(Buffer.from("six"), six.endpoint);
    await sim.sleep(1000);
    expect(heard.toSorted()).toEqual(["four", "six"]);
    await turn.close();
  },
  behindNat,
);

simTest(
  "refusals have codes, and say which server refused what",
  [1],
  async (sim) => {
    const server = await startTurnServer(sim, "turn", { perAccount: 2, allocations: 2 });
    const { world } = sim.host("alice");
    const wrong = await failureOf(openTurn(world, server.at("udp", "wrong"), UDP));
    expect(wrong).toMatchObject({ code: "unauthorized", detail: { turnCode: 401 } });
    expect(wrong.message).toContain(":3478 does not accept the user or the password (401 Unauthorized)");
    const turn = await openTurn(world, server.at("udp"), UDP);
    expect(await failureOf(turn.permit(["10.0.0.1"]))).toMatchObject({
      code: "refused",
      detail: { turnCode: 403 },
    });
    expect(await failureOf(turn.bind({ ip: "2a01:5a40::99", port: 1 }))).toMatchObject({
      detail: { turnCode: 443 },
    });
    expect(await failureOf(openTurn(world, server.at("udp"), TCP))).toMatchObject({
      detail: { turnCode: 400 },
    });
    const second = await openTurn(world, server.at("udp"), UDP);
    expect(await failureOf(openTurn(world, server.at("udp"), UDP))).toMatchObject({
      code: "unavailable",
      detail: { turnCode: 486 },
    });
    await second.close();
    await (await openTurn(world, server.at("udp"), UDP)).close();
    await turn.close();
  },
  behindNat,
);

simTest(
  "a server that is not there, or goes, is said so in time",
  [1],
  async (sim) => {
    const { world } = sim.host("alice");
    const nobody = { host: "5.45.0.99", port: 3478, username: "u", password: "p", transport: "udp" } as const;
    expect((await failureOf(openTurn(world, nobody, { ...UDP, timeoutMs: 2000 }))).code).toBe("timeout");
    for (const transport of ["udp", "tcp"] as const) {
      const server = await startTurnServer(sim, transport);
      const turn = await openTurn(world, server.at(transport), UDP);
      let lost: P2pdError | undefined;
      turn.attach({ message() {}, closed: (error) => (lost = error) });
      server.sockets.close();
      await sim.sleep(700_000);
      expect(lost?.code).toBe(transport === "udp" ? "timeout" : "closed");
      expect((await failureOf(turn.permit(["5.44.0.9"]))).code).toBe(lost?.code as never);
      await turn.close();
    }
  },
  behindNat,
);

simTest(
  "of two servers the nearer serves, and the other gets its allocation back",
  SEEDS,
  async (sim) => {
    const [far, near] = [
      await startTurnServer(sim, "far", { delayMs: 120 }),
      await startTurnServer(sim, "near", { delayMs: 10 }),
    ];
    const { world } = sim.host("alice");
    const began = sim.scheduler.nowMs;
    const turn = await openNearestTurn(world, [far.at("udp"), near.at("udp")], UDP);
    expect(turn.from.host).toBe(near.at("udp").host);
    // One round trip to be told the realm, one to allocate.
    expect(sim.scheduler.nowMs - began).toBeLessThan(45);
    await sim.sleep(5000);
    expect(far.sockets.server.allocations.all.size).toBe(0);
    expect(near.sockets.server.allocations.all.size).toBe(1);
    await turn.close();
    const wrong = [far.at("udp", "x"), near.at("udp", "x")];
    expect((await failureOf(openNearestTurn(world, wrong, UDP))).code).toBe("unauthorized");
    expect((await failureOf(openNearestTurn(world, [], UDP))).code).toBe("unavailable");
  },
  behindNat,
);

simTest(
  "a TCP allocation connects to a peer, and carries a megabyte there and back",
  SEEDS,
  async (sim) => {
    const server = await startTurnServer(sim);
    const peer = await echoAt(sim, "peer");
    const turn = await openTurn(sim.host("alice").world, server.at("tcp"), TCP);
    const stream = await turn.connect(peer.endpoint);
    expect(stream.remote).toEqual(peer.endpoint);
    expect(stream.local).toEqual(turn.relayed[0] as Endpoint);
    const sent = Uint8Array.from({ length: 1_000_000 }, () => sim.random.between(0, 255));
    const back = collect(stream);
    stream.write(sent);
    stream.end();
    expect(Bun.hash(await back)).toBe(Bun.hash(sent));
    const nobody = await failureOf(turn.connect({ ...peer.endpoint, port: 9 }));
    expect(nobody).toMatchObject({ code: "unreachable", detail: { turnCode: 447 } });
    await turn.close();
  },
  behindNat,
);

simTest(
  "a peer that comes to a TCP allocation is told of and taken; one without permission is not",
  SEEDS,
  async (sim) => {
    const server = await startTurnServer(sim);
    const bob = sim.host("bob");
    const turn = await openTurn(sim.host("alice").world, server.at("tcp"), TCP);
    const arrived = Promise.withResolvers<ByteStream>();
    turn.attach({
      message() {},
      attempt: (id, peer) => void turn.accept(id, peer).then(arrived.resolve, arrived.reject),
      closed() {},
    });
    const remote = turn.relayed[0] as Endpoint;
    const early = await bob.world.connectTcp({ remote, timeoutMs: 5000 });
    const refused = Promise.withResolvers<void>();
    early.attach({ data() {}, drain() {}, end() {}, close: () => refused.resolve() });
    await refused.promise;
    await turn.permit([bob.ip(4)]);
    const theirs = await bob.world.connectTcp({ remote, timeoutMs: 5000 });
    theirs.write(hello);
    const ours = await arrived.promise;
    expect(ours.remote).toEqual(theirs.local);
    const heard = [collect(ours), collect(theirs)];
    theirs.end();
    ours.write(Buffer.from("hello yourself"));
    ours.end();
    expect((await Promise.all(heard)).map(text)).toEqual(["hello", "hello yourself"]);
    await turn.close();
  },
  behindNat,
);

async function echoAt(sim: Simulation, name: string, family: 4 | 6 = 4): Promise<EchoPeer> {
  const host = sim.addServer(name, { link: { delayMs: 5 } });
  return startEchoPeer(host.world, host.ip(family));
}

/** What comes, as text. */
function listen(turn: OpenTurn): string[] {
  const heard: string[] = [];
  turn.attach({
    message: (bytes) => void heard.push(text(bytes)),
    closed: (error) => void heard.push(error.message),
  });
  return heard;
}

function collect(stream: ByteStream): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  return new Promise((resolve, reject) => {
    stream.attach({
      data: (bytes) => void pieces.push(bytes.slice()),
      drain() {},
      end: () => resolve(Buffer.concat(pieces)),
      close: (error) => error !== undefined && reject(error),
    });
  });
}

function failureOf(promise: Promise<unknown>): Promise<P2pdError> {
  return promise.then(
    () => new P2pdError("internal", "nothing failed"),
    (thrown: P2pdError) => thrown,
  );
}
