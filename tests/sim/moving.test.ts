/** Nodes whose addresses change while they run: how soon they notice, and that peers with their old address find them. */
import { beforeAll, expect } from "bun:test";
import type { Endpoint } from "../../core/ip.ts";
import { loadSignaling } from "../../core/signal/signaling.ts";
import { makeIdentity } from "../core/signal/signaling-nodes.ts";
import { parseRouterKind, planRouter, twoHosts } from "../nat/topologies.ts";
import { codeOf } from "./code-of.ts";
import { startMappingRouter } from "./mapping-router.ts";
import { type SimMqttBroker, startMqttBroker } from "./mqtt-broker.ts";
import { type SimNode, startSimNode } from "./sim-node.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";
import { startStunServer } from "./stun-server.ts";

const open = parseRouterKind("open-internet");
const home = parseRouterKind("full-cone/equal");
const SEEDS = [1, 2, 3, 4, 5];

beforeAll(loadSignaling);

simTest(
  "a router's new public address is noticed within 18 s with no change of a NIC, and the record names it",
  SEEDS,
  async (sim) => {
    const { alice, bob } = await site(sim);
    forward(sim, "b", { ip: sim.host("bob").ip(), port: 10_001 });
    const old = bob.node.address();
    const next = planRouter(1, "private").nextPublicIp4;
    await sim.sleep(sim.random.between(0, 20_000));
    sim.router("b").setExternalIp(next);
    const noticed = await changed(sim, bob, next);
    expect(noticed).toBeLessThan(18_000);
    forward(sim, "b", { ip: sim.host("bob").ip(), port: 10_001 });
    await sim.sleep(200);
    const connection = await alice.node.open("con", old, { strategies: ["direct"] });
    expect(connection.pipe.remote.ip).toBe(next);
    await close(alice, bob);
  },
  { topology: twoHosts(open, home) },
);

simTest(
  "a router's new public address is in the node's line 1 s after it wanted a signal sent, and the signal arrives",
  SEEDS,
  async (sim) => {
    const { alice, bob } = await site(sim);
    const next = planRouter(1, "private").nextPublicIp4;
    await sim.sleep(sim.random.between(0, 14_000));
    sim.router("b").setExternalIp(next);
    await sim.sleep(3000);
    forward(sim, "b", { ip: sim.host("bob").ip(), port: 10_001 });
    const opening = bob.node.open("con", alice.node.address(), { strategies: ["reverse"] });
    expect(await changed(sim, bob, next)).toBeLessThan(1000);
    // The request began with the old address, and was sent again with the new one.
    expect((await opening).pipe.remote.ip).toBe(sim.host("alice").ip());
    const found = await alice.node.open("found", bob.node.id, { strategies: ["direct"] });
    expect(found.pipe.remote.ip).toBe(next);
    await close(alice, bob);
  },
  { topology: twoHosts(open, home) },
);

simTest(
  "a NIC's new address is known to the peer that has the old one within 5 s",
  SEEDS,
  async (sim) => {
    const { alice, bob } = await site(sim);
    const old = bob.node.address();
    const lan = planRouter(1, "public");
    const [next4, next6] = [lan.lanHostIp4(7), lan.lanHostIp6(7)];
    sim.host("bob").changeNic("eth0", {
      addresses: [
        { ip: next4, family: 4, prefixLength: 24 },
        { ip: next6, family: 6, prefixLength: 64 },
      ],
    });
    await sim.sleep(5000);
    const connection = await alice.node.open("con", old, { strategies: ["direct"] });
    expect([next4, next6]).toContain(connection.pipe.remote.ip);
    await close(alice, bob);
  },
  { topology: twoHosts(open, open) },
);

simTest(
  "a node keeps its outside address in its line while STUN servers are silent",
  [1, 2],
  async (sim) => {
    const { alice, bob, stun, brokers } = await site(sim);
    const before = bob.node.address();
    expect(before).toContain(sim.router("b").ipv4.externalIp);
    stun.behaviour = "dead";
    for (const broker of brokers) broker.cut();
    await sim.sleep(20_000);
    expect(bob.node.address()).toBe(before);
    expect(bob.node.status()).toContainEqual(
      expect.objectContaining({
        part: "stun",
        state: "down",
        detail: expect.stringContaining("when one last did"),
      }),
    );
    await close(alice, bob);
  },
  { topology: twoHosts(open, home) },
);

simTest(
  "a forwarded port is back as soon as a broker shows that the router is, before its next check",
  [1, 2, 3],
  async (sim) => {
    const router = await startMappingRouter(sim, "a", { pcp: true });
    const host = sim.addServer("broker", { link: { delayMs: 20 } });
    const broker = await startMqttBroker(host.world, host.ip());
    const alice = await startSimNode(sim.host("alice"), { portMapping: true, mqttBrokers: [broker.url] });
    const heard = (): number => router.heard.get("pcp announce") ?? 0;
    await sim.sleep(20_000 + sim.random.between(0, 6000));
    const before = heard();
    while (heard() === before) await sim.sleep(10);
    const checks = heard();
    router.restart();
    // That no broker answers to this is the hint.
    expect(await codeOf(alice.node.open("con", makeIdentity().id))).toBe("no-such-peer");
    expect(router.forwarded()).toHaveLength(2);
    expect(heard()).toBe(checks);
    await close(alice);
  },
  { topology: twoHosts(home, open) },
);

interface Site {
  readonly alice: SimNode;
  readonly bob: SimNode;
  readonly brokers: readonly SimMqttBroker[];
  readonly stun: Awaited<ReturnType<typeof startStunServer>>;
}

async function site(sim: Simulation): Promise<Site> {
  const stunHost = sim.addServer("stun", { link: { delayMs: 20 } });
  const stun = await startStunServer(stunHost.world, { addresses: [stunHost.ip()] });
  const brokers: SimMqttBroker[] = [];
  for (const name of ["broker0", "broker1"]) {
    const host = sim.addServer(name, { link: { delayMs: 20 } });
    brokers.push(await startMqttBroker(host.world, host.ip()));
  }
  const config = {
    stunServers: [{ host: stunHost.ip(), port: 3478 }],
    mqttBrokers: brokers.map(({ url }) => url),
  };
  const alice = await startSimNode(sim.host("alice"), config);
  const bob = await startSimNode(sim.host("bob"), config);
  await sim.sleep(3000);
  return { alice, bob, brokers, stun };
}

/** As a person forwards a port by hand, which a change of address does not end. */
function forward(sim: Simulation, router: string, internal: Endpoint): void {
  for (const protocol of ["tcp", "udp"] as const)
    sim.router(router).ipv4.forwardPort(sim.scheduler.nowMs, protocol, internal.port, internal, 3_600_000);
}

/** Milliseconds until the node's own line names the address. */
async function changed(sim: Simulation, { node }: SimNode, ip: string): Promise<number> {
  const began = sim.scheduler.nowMs;
  await new Promise<void>((resolve) => {
    const stop = node.subscribe(({ event, data }) => {
      if (event !== "network" || !String(data["addr"]).includes(ip)) return;
      stop();
      resolve();
    });
  });
  return sim.scheduler.nowMs - began;
}

async function close(...nodes: readonly SimNode[]): Promise<void> {
  await Promise.all(nodes.map((node) => node.close()));
}
