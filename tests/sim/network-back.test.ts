/** Who waits for the network to be back is told when a lost broker answers, or when an external address is another one. */
import { beforeAll, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openIdentity } from "../../core/node/identity.ts";
import { Network } from "../../core/node/network.ts";
import { Relaying } from "../../core/node/relaying.ts";
import { Signals } from "../../core/node/signals.ts";
import { loadSignaling } from "../../core/signal/signaling.ts";
import { quiet } from "../core/signal/signaling-nodes.ts";
import { parseRouterKind, planRouter, twoHosts } from "../nat/topologies.ts";
import { startMqttBroker } from "./mqtt-broker.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";
import { startStunServer } from "./stun-server.ts";

const SEEDS = [1, 2, 3];
const home = parseRouterKind("port-restricted/equal");
const topology = twoHosts(home, home);

beforeAll(loadSignaling);

simTest(
  "a lost broker that answers again is told once, and external addresses are asked for at once",
  SEEDS,
  async (sim) => {
    const { signals, network, backs, stop } = await start(sim, true);
    sim.router("a").reboot();
    signals.suspect();
    await sim.sleep(700);
    expect(backs).toHaveLength(1);
    expect(backs[0]).toBeLessThan(500);
    sim.router("a").setExternalIp(planRouter(0, "private").nextPublicIp4);
    signals.suspect();
    await sim.sleep(200);
    expect(network.externals).toContain(planRouter(0, "private").nextPublicIp4);
    stop();
  },
  { topology },
);

simTest(
  "behind a new external address a broker is reached anew before its silence is doubted",
  SEEDS,
  async (sim) => {
    const { signals, backs, broker, stop } = await start(sim, true);
    const before = broker.accepted;
    sim.router("a").setExternalIp(planRouter(0, "private").nextPublicIp4);
    signals.suspect();
    await sim.sleep(250);
    expect(backs).toHaveLength(2); // seen under another address, and a broker that was lost answers
    expect(broker.accepted - before).toBe(1);
    await sim.sleep(3000);
    expect(broker.accepted - before).toBe(1);
    stop();
  },
  { topology },
);

simTest(
  "a broker that still answers when an external address is another one is kept",
  SEEDS,
  async (sim) => {
    const { signals, backs, broker, stop } = await start(sim, true);
    const before = broker.clients;
    signals.moved();
    await sim.sleep(3000);
    expect(backs).toHaveLength(1);
    expect(broker.clients).toBe(before);
    stop();
  },
  { topology },
);

simTest(
  "without any broker a new external address is told, a round trip after the suspicion, and no other hint is",
  SEEDS,
  async (sim) => {
    const { signals, backs, stop } = await start(sim, false);
    signals.suspect();
    await sim.sleep(200);
    expect(backs).toEqual([]);
    sim.router("a").setExternalIp(planRouter(0, "private").nextPublicIp4);
    signals.suspect();
    await sim.sleep(200);
    expect(backs).toHaveLength(1);
    stop();
    sim.router("a").setExternalIp(planRouter(0, "private").publicIp4);
    signals.suspect();
    await sim.sleep(200);
    expect(backs).toHaveLength(1);
  },
  { topology },
);

simTest(
  "where UDP is blocked an external address is known after 0.7 s, and a new one as soon as TCP can tell",
  SEEDS,
  async (sim) => {
    const began = sim.scheduler.nowMs;
    const { signals, network, backs, firstMs, stop } = await start(sim, false);
    expect(firstMs() - began).toBeWithin(500, 700);
    expect(network.externals).toContain(planRouter(0, "private").publicIp4);
    sim.router("a").setExternalIp(planRouter(0, "private").nextPublicIp4);
    signals.suspect();
    await sim.sleep(200);
    expect(network.externals).toContain(planRouter(0, "private").nextPublicIp4);
    expect(backs).toHaveLength(1);
    stop();
  },
  { topology: twoHosts(parseRouterKind("blocked/equal"), home) },
);

simTest(
  "suspicions that go on cost a STUN question in five seconds after the first six",
  [1],
  async (sim) => {
    const { signals, asked, stop } = await start(sim, false);
    const before = asked();
    for (let i = 0; i < 600; i++) {
      signals.suspect();
      await sim.sleep(100);
    }
    expect(asked() - before).toBeWithin(15, 20);
    stop();
  },
  { topology },
);

/** Signaling and what is known of the network on the host `alice`, 15 s after they began. */
async function start(sim: Simulation, hasBroker: boolean) {
  const stunHost = sim.addServer("stun", { link: { delayMs: 20 } });
  const stun = await startStunServer(stunHost.world, { addresses: [stunHost.ip()] });
  const brokerHost = sim.addServer("broker", { link: { delayMs: 20 } });
  const broker = await startMqttBroker(brokerHost.world, brokerHost.ip());
  const { world } = sim.host("alice");
  const dataDir = mkdtempSync(join(tmpdir(), "p2pd-sim-"));
  const identity = openIdentity(dataDir, world);
  let firstMs: number | undefined;
  const network = new Network(world, {
    stunServers: [{ host: stunHost.ip(), port: 3478 }],
    moved: () => signals.moved(),
    changed: () => (firstMs ??= sim.scheduler.nowMs),
  });
  const stopping = new AbortController();
  const address = (): string => "p2pd1~here";
  const { credentials, machineId: machine } = identity;
  const relaying = new Relaying(world, {
    config: { turnServers: [], strategies: [], relay: "never" },
    credentials,
    network,
    nat: { findings: [] },
    quic: () => undefined,
    own: () => ({ machine, nics: world.nics(), externals: [] }),
    address,
    log: quiet,
    signal: stopping.signal,
    connected: async () => undefined,
  });
  const signals = new Signals(world, {
    identity,
    brokers: hasBroker ? [broker.url] : [],
    log: quiet,
    address,
    suspected: () => network.recheck(),
    connectBack: () => undefined,
    punching: () => undefined,
    changed: () => undefined,
    relaying,
    signal: stopping.signal,
    connected: async () => undefined,
  });
  await sim.sleep(15_000);
  const backs: number[] = [];
  const began = sim.scheduler.nowMs;
  const unhear = signals.onBack(() => backs.push(sim.scheduler.nowMs - began));
  const stop = (): void => {
    unhear();
    signals.close();
    network.close();
    identity.release();
    rmSync(dataDir, { recursive: true, force: true });
  };
  return {
    signals,
    network,
    backs,
    broker,
    stop,
    firstMs: () => firstMs ?? Number.NaN,
    asked: () => stun.requests,
  };
}
