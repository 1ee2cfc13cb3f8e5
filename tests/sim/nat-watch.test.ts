/** What nodes know of their NATs: measured behind their backs, kept while the network stays, measured again after. */
import { expect } from "bun:test";
import type { Nic } from "../../core/net/world.ts";
import { NatWatch } from "../../core/node/nat-watch.ts";
import { decodeAddress } from "../../core/wire/address.ts";
import { parseRouterKind, type Topology, twoHosts } from "../nat/topologies.ts";
import { startSimNode } from "./sim-node.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";
import { type SimStunServer, startStunServer } from "./stun-server.ts";

const INDEPENDENT = parseRouterKind("symmetric/independent:2");
const RANDOM = parseRouterKind("port-restricted/random");

simTest(
  "a node starts at once, is told of its NAT when asked to wait, and has it in its address and its NICs",
  [1],
  async (sim) => {
    const { stunServers } = await startServers(sim);
    const alice = await startSimNode(sim.host("alice"), { stunServers });
    expect(sim.scheduler.nowMs).toBe(0);
    const early = await alice.node.nat(false);
    expect(early.nics[0]?.families[0]).toMatchObject({ nat: null, external: null, msg: "not measured yet" });
    expect(alice.node.interfaces().find(({ name }) => name === "eth0")?.nat).toBeNull();
    expect(decodeAddress(alice.node.address()).nics[0]).toMatchObject({ nat: "unknown", delta: "unknown" });
    expect(statusOf(alice.node.status())).toMatchObject({ state: "starting" });

    const { nics, advice } = await alice.node.nat();
    const [four] = nics[0]?.families ?? [];
    expect(four).toMatchObject({
      family: 4,
      address: sim.host("alice").ip(),
      external: sim.router("a").ipv4.externalIp,
      servers: { asked: 2, answered: 2 },
      nat: {
        udp: {
          type: "symmetric",
          typeNumber: 6,
          delta: { type: "independent", typeNumber: 4, value: 2 },
        },
        tcp: { type: "symmetric", inferred: "filtering" },
      },
    });
    expect(advice.join(" ")).toContain("each new external port is the last one + 2");
    const nic = decodeAddress(alice.node.address()).nics.find(({ family }) => family === 4);
    expect(nic).toMatchObject({ nat: "symmetric", delta: "independent", deltaValue: 2 });
    expect(alice.node.interfaces().find(({ name }) => name === "eth0")?.nat).toMatchObject({
      type: 6,
      nat_info: "symmetric",
      delta: { type: 4, value: 2 },
      delta_info: "independent",
      families: { "2": { udp: { type: "symmetric" } } },
    });
    expect(statusOf(alice.node.status())).toMatchObject({
      state: "up",
      detail: expect.stringContaining("eth0 by IPv4: symmetric, ports independent (2)"),
    });
    await alice.close();
  },
  { topology: twoHosts(INDEPENDENT, RANDOM) },
);

simTest(
  "what is known is not measured again until somebody asks for that",
  [1],
  async (sim) => {
    const { stunServers, requests } = await startServers(sim);
    const watch = watchOf(sim, stunServers);
    await watch.settled();
    const once = requests();
    expect(once).toBeGreaterThan(0);
    await watch.settled();
    watch.check();
    expect(requests()).toBe(once);
    await watch.refresh();
    expect(requests()).toBeGreaterThan(once);
    watch.close();
  },
  { topology: twoHosts(INDEPENDENT, RANDOM) },
);

simTest(
  "a profile is waited for while it is measured, and stands for every address of the NIC",
  [1],
  async (sim) => {
    const { stunServers } = await startServers(sim);
    const watch = watchOf(sim, stunServers);
    const ip = sim.host("alice").ip();
    expect(watch.profileOf(ip)).toBeUndefined();
    const profile = await watch.profile(ip);
    expect(profile?.udp.type).toBe("symmetric");
    expect(watch.profileOf(ip)).toBe(profile as NonNullable<typeof profile>);
    expect(await watch.profile("192.0.2.1")).toBeUndefined();
    watch.close();
  },
  { topology: twoHosts(INDEPENDENT, RANDOM) },
);

simTest(
  "another router, and another external address of the same, are measured again",
  [1],
  async (sim) => {
    const { stunServers } = await startServers(sim);
    const alice = await startSimNode(sim.host("alice"), { stunServers });
    const typeNow = async (): Promise<unknown> =>
      (await alice.node.nat()).nics[0]?.families[0]?.nat?.udp.type;
    expect(await typeNow()).toBe("symmetric");
    sim.host("alice").changeNic("eth0", {
      segment: sim.router("b").lan,
      addresses: [{ ip: "192.168.11.150", family: 4, prefixLength: 24 }],
      gateway: { 4: "192.168.11.1" },
    });
    await sim.sleep(5000);
    expect(await typeNow()).toBe("port-restricted");

    const before = (await alice.node.nat()).nics[0]?.families[0]?.external;
    sim.router("b").setExternalIp("5.44.11.99");
    await sim.sleep(700_000);
    const after = (await alice.node.nat()).nics[0]?.families[0]?.external;
    expect([before, after]).toEqual(["5.44.10.11", "5.44.11.99"]);
    await alice.close();
  },
  { topology: twoHosts(INDEPENDENT, RANDOM) },
);

for (const { kind, waits } of [
  { kind: RANDOM, waits: false },
  { kind: INDEPENDENT, waits: true },
]) {
  simTest(
    waits
      ? "a router's new address is in the profile after a measurement where that disturbs ports"
      : "a router's new address is in the profile at once where a measurement disturbs no ports",
    [1],
    async (sim) => {
      const { stunServers } = await startServers(sim);
      let external: readonly string[] = [];
      const watch = watchOf(sim, stunServers, () => external);
      const ip = sim.host("alice").ip();
      const before = await watch.profile(ip);
      sim.router("a").setExternalIp("5.44.11.99");
      external = ["5.44.11.99"];
      const began = sim.scheduler.nowMs;
      const after = await watch.profile(ip);
      expect([before?.external, after?.external]).toEqual(["5.44.10.10", "5.44.11.99"]);
      expect(after?.udp.type).toBe(before?.udp.type ?? "blocked");
      expect(sim.scheduler.nowMs - began > 0).toBe(waits);
      watch.close();
    },
    { topology: twoHosts(kind, RANDOM) },
  );
}

simTest(
  "servers that answer later are asked later, and a node without servers or network says so",
  [1],
  async (sim) => {
    const { stunServers, all } = await startServers(sim);
    for (const server of all) server.behaviour = "dead";
    const alice = await startSimNode(sim.host("alice"), { stunServers });
    const [nic] = (await alice.node.nat()).nics;
    expect(nic?.families[0]).toMatchObject({ nat: null, msg: "no server answered" });
    expect(statusOf(alice.node.status())).toMatchObject({ state: "down", detail: "no server answered" });
    for (const server of all) server.behaviour = "honest";
    await sim.sleep(30_000);
    expect(statusOf(alice.node.status())).toMatchObject({ state: "up" });
    await alice.close();
    const bob = await startSimNode(sim.host("bob"));
    expect(await bob.node.nat()).toMatchObject({ nics: [{ name: "eth0" }], advice: [] });
    expect(statusOf(bob.node.status())).toMatchObject({ state: "off" });
    await bob.close();
  },
  { topology: twoHosts(INDEPENDENT, RANDOM) },
);

simTest(
  "two NICs behind one router do not spoil each other's samples",
  [1, 2, 3],
  async (sim) => {
    const { stunServers } = await startServers(sim);
    const watch = watchOf(sim, stunServers);
    await watch.settled();
    const four = watch.findings.filter(({ family }) => family === 4);
    expect(four.map(({ detection }) => detection?.profile?.udp.delta)).toEqual([
      { type: "independent", value: 2 },
      { type: "independent", value: 2 },
    ]);
    watch.close();
  },
  { topology: twoNicsBehindOne() },
);

simTest(
  "an address that is not to be had fails with the reason",
  [1],
  async (sim) => {
    const { stunServers } = await startServers(sim);
    const { world } = sim.host("alice");
    const [, nic] = world.nics();
    const gone = {
      ...(nic as Nic),
      addresses: [{ ip: "192.168.10.250", family: 4, prefixLength: 24 } as const],
    };
    const watch = new NatWatch(world, {
      stunServers,
      nics: () => [gone],
      used: () => [gone],
      externalOf: () => [],
      changed: () => undefined,
    });
    await watch.settled();
    expect(watch.findings).toEqual([
      { nic: "eth0", family: 4, ip: "192.168.10.250", failure: expect.stringContaining("192.168.10.250") },
    ]);
    expect(watch.status).toMatchObject({ state: "down", detail: expect.stringContaining("192.168.10.250") });
    watch.close();
  },
  { topology: twoHosts(INDEPENDENT, RANDOM) },
);

function twoNicsBehindOne(): Topology {
  return {
    routers: [{ name: "a", nat: INDEPENDENT, uplink: "internet" }],
    hosts: [{ name: "alice", nics: ["a", "a"] }],
  };
}

async function startServers(sim: Simulation) {
  const all: SimStunServer[] = [];
  for (const name of ["one", "two"]) {
    const host = sim.addServer(name, { addresses: 2 });
    const ips =
      host.world
        .nics()[1]
        ?.addresses.filter(({ family }) => family === 4)
        .map(({ ip }) => ip) ?? [];
    all.push(await startStunServer(host.world, { addresses: ips }));
  }
  return {
    all,
    stunServers: all.map(({ endpoint: { ip, port } }) => ({ host: ip, port })),
    requests: () => all.reduce((sum, { requests }) => sum + requests, 0),
  };
}

function watchOf(
  sim: Simulation,
  stunServers: readonly { host: string; port: number }[],
  external: () => readonly string[] = () => [],
): NatWatch {
  const { world } = sim.host("alice");
  return new NatWatch(world, {
    stunServers,
    nics: () => world.nics(),
    used: () => world.nics(),
    externalOf: external,
    changed: () => undefined,
  });
}

function statusOf(parts: readonly { part: string; state: string; detail: string }[]) {
  return parts.find(({ part }) => part === "nat");
}
