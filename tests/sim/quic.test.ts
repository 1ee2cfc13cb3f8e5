/** The simulation's QUIC: one round trip, keys, datagrams, loss, a path that dies, a punched port. */
import { expect } from "bun:test";
import type { QuicEndpoint, QuicOptions, QuicPath } from "../../core/net/world.ts";
import { createTestIdentity } from "../core/net/credentials.ts";
import { changeSettings, type LinkSettings } from "../nat/settings.ts";
import { parseConfiguration } from "../nat/configurations.ts";
import { type RouterKind, twoHosts } from "../nat/topologies.ts";
import { codeOf } from "./code-of.ts";
import { collectStream } from "./collect-stream.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";

const [alice, bob] = [createTestIdentity(), createTestIdentity()];
const open = line("open-internet", {});
const slow = twoHosts(line("open-internet", { delayMs: 50 }), open);

simTest(
  "a path stands after one round trip, with both keys proved, and carries data and datagrams",
  [1],
  async (sim) => {
    const [client, server, tookMs] = await path(sim);
    expect(tookMs).toBeWithin(100, 101);
    expect(client.rttMs()).toBeWithin(100, 102);
    expect([client.peerKey, server.peerKey]).toEqual([bob.key, alice.key]);
    const seen: number[] = [];
    expect(client.sendDatagram(Uint8Array.of(7))).toBe(true);
    expect(client.sendDatagram(new Uint8Array(client.maxDatagramBytes + 1))).toBe(false);
    await sim.sleep(100);
    server.attachDatagrams((bytes) => void seen.push(...bytes));
    client.sendDatagram(Uint8Array.of(8));
    await sim.sleep(100);
    expect(seen).toEqual([7, 8]);
    const [atClient, atServer] = [collectStream(client), collectStream(server)];
    client.write(new Uint8Array(200_000).fill(3));
    client.end();
    expect(await atServer.ended).toEqual(new Uint8Array(200_000).fill(3));
    server.write(Uint8Array.of(4));
    server.end();
    expect(await atClient.ended).toEqual(Uint8Array.of(4));
    expect(await Promise.all([atClient.closed, atServer.closed])).toEqual([undefined, undefined]);
  },
  { topology: slow },
);

simTest(
  "a quarter of all packets lost: the handshake and the data come through",
  [1, 2, 3, 4, 5, 6],
  async (sim) => {
    const [client, server] = await path(sim);
    const atServer = collectStream(server);
    client.write(new Uint8Array(100_000).fill(9));
    client.end();
    expect(await atServer.ended).toHaveLength(100_000);
  },
  { topology: twoHosts(line("open-internet", { delayMs: 30, jitterMs: 10, loss: 0.25 }), open) },
);

simTest(
  "another key, nobody there, silence and an abort are told apart",
  [1],
  async (sim) => {
    const [from, to] = [
      await endpoint(sim, "alice"),
      await endpoint(sim, "bob", { accept: () => undefined }),
    ];
    const at = (port: number, ip = sim.host("bob").ip()): { ip: string; port: number } => ({ ip, port });
    const attempt = { remote: to.local, expectedKey: bob.key, timeoutMs: 3000 };
    expect(await codeOf(from.connect({ ...attempt, expectedKey: alice.key }))).toBe("peer-key");
    await sim.sleep(1000);
    expect(to.counters).toEqual({ accepted: 0, strangers: 0, turnedAway: 0, failed: 1 });
    expect(await codeOf(from.connect({ ...attempt, remote: at(9) }))).toBe("refused");
    expect(await codeOf(from.connect({ ...attempt, remote: at(9, "5.44.99.99") }))).toBe("timeout");
    expect(await codeOf(from.connect({ ...attempt, remote: at(0) }))).toBe("bad-argument");
    expect(await codeOf(from.connect({ ...attempt, remote: at(9, "::1") }))).toBe("bad-argument");
    const signal = AbortSignal.abort();
    expect(await codeOf(from.connect({ ...attempt, signal }))).toBe("aborted");
    const stop = new AbortController();
    const stopped = codeOf(from.connect({ ...attempt, signal: stop.signal }));
    stop.abort();
    expect(await stopped).toBe("aborted");
    await from.close();
    expect(await codeOf(from.connect(attempt))).toBe("closed");
    await sim.sleep(20_000);
    expect(to.counters.strangers).toBe(0);
  },
  { topology: slow },
);

simTest(
  "a path that is aborted, closed or cut off ends on both sides",
  [1],
  async (sim) => {
    const [client, server] = await path(sim);
    const [atClient, atServer] = [collectStream(client), collectStream(server)];
    client.abort();
    expect((await atClient.closed)?.code).toBe("aborted");
    expect((await atServer.closed)?.code).toBe("closed");
    const [second, far] = await path(sim);
    const [atSecond, atFar] = [collectStream(second), collectStream(far)];
    await sim.sleep(200_000);
    second.write(Uint8Array.of(1));
    await sim.sleep(1000);
    expect(atFar.bytes()).toEqual(Uint8Array.of(1));
    sim.router("a").setLine(false);
    const began = sim.scheduler.nowMs;
    const ends = await Promise.all([atSecond.closed, atFar.closed]);
    expect(ends.map((error) => error?.code)).toEqual(["timeout", "timeout"]);
    expect(sim.scheduler.nowMs - began).toBeWithin(15_000, 31_000);
  },
  { topology: slow },
);

simTest(
  "a path outlives a new address of the router",
  [1],
  async (sim) => {
    const [client, server] = await path(sim);
    const [atClient, atServer] = [collectStream(client), collectStream(server)];
    sim.router("a").setExternalIp("5.44.11.10");
    client.write(Uint8Array.of(1));
    await sim.sleep(1000);
    server.write(Uint8Array.of(2));
    await sim.sleep(1000);
    expect([atServer.bytes(), atClient.bytes()]).toEqual([Uint8Array.of(1), Uint8Array.of(2)]);
  },
  { topology: twoHosts(line("port-restricted/random", {}), open) },
);

simTest(
  "a hole punched by plain datagrams serves QUIC from the same port, through two port-restricted NATs",
  [1, 2],
  async (sim) => {
    const outside = ["a", "b"].map((name) => ({ ip: sim.router(name).ipv4.externalIp, port: 5000 }));
    const [outsideA, outsideB] = outside as [{ ip: string; port: number }, { ip: string; port: number }];
    for (const [name, to] of [
      ["alice", outsideB],
      ["bob", outsideA],
    ] as const) {
      const host = sim.host(name);
      const socket = await host.world.openUdp({ local: { ip: host.ip(), port: 5000 } });
      socket.send(Uint8Array.of(0), to);
      socket.close();
    }
    await sim.sleep(200);
    const accepted = Promise.withResolvers<QuicPath>();
    await endpoint(sim, "bob", { accept: accepted.resolve, local: { ip: sim.host("bob").ip(), port: 5000 } });
    const from = await endpoint(sim, "alice", { local: { ip: sim.host("alice").ip(), port: 5000 } });
    const client = await from.connect({ remote: outsideB, expectedKey: bob.key, timeoutMs: 2000 });
    expect((await accepted.promise).remote).toEqual(outsideA);
    expect(client.local).toEqual({ ip: sim.host("alice").ip(), port: 5000 });
  },
  {
    topology: twoHosts(
      line("port-restricted/equal", { delayMs: 20 }),
      line("port-restricted/equal", { delayMs: 20 }),
    ),
  },
);

function line(name: string, link: Partial<LinkSettings>): RouterKind {
  return { kind: "box", settings: changeSettings(parseConfiguration(name).settings, { link }) };
}

async function endpoint(
  sim: Simulation,
  name: "alice" | "bob",
  more: Partial<QuicOptions> = {},
): Promise<QuicEndpoint> {
  const { credentials } = name === "alice" ? alice : bob;
  const host = sim.host(name);
  const made = await host.world.openQuic?.({ local: { ip: host.ip(), port: 0 }, credentials, ...more });
  if (made === undefined) throw new Error("the simulated world has QUIC");
  return made;
}

/** Both ends of a path from alice to bob, who listens on all addresses, and how long the connect took. */
async function path(sim: Simulation): Promise<readonly [client: QuicPath, server: QuicPath, tookMs: number]> {
  const accepted = Promise.withResolvers<QuicPath>();
  const to = await endpoint(sim, "bob", { accept: accepted.resolve, local: { ip: "::", port: 0 } });
  const from = await endpoint(sim, "alice");
  const began = sim.scheduler.nowMs;
  const remote = { ip: sim.host("bob").ip(), port: to.local.port };
  const client = await from.connect({ remote, expectedKey: bob.key, timeoutMs: 60_000 });
  const tookMs = sim.scheduler.nowMs - began;
  return [client, await accepted.promise, tookMs];
}
