/** Punches in networks of other shapes: carriers, two NICs, one router for both, IPv6, many at once, noise and loss. */
import { beforeAll, expect } from "bun:test";
import { loadSignaling } from "../../core/signal/signaling.ts";
import { oneRouter, type Topology, twoHosts } from "../nat/topologies.ts";
import { meet, nat, startPuncher, startServers, timed } from "./punch-site.ts";
import { simTest } from "./sim-test.ts";

beforeAll(loadSignaling);

const carriers: Topology = {
  routers: [
    { name: "carrier-a", nat: nat("port-restricted/random"), uplink: "internet" },
    { name: "carrier-b", nat: nat("port-restricted/random"), uplink: "internet" },
    { name: "a", nat: nat("port-restricted/equal"), uplink: "carrier-a" },
    { name: "b", nat: nat("port-restricted/equal"), uplink: "carrier-b" },
  ],
  hosts: [
    { name: "alice", nics: ["a"] },
    { name: "bob", nics: ["b"] },
  ],
};

simTest(
  "with a carrier's NAT above each router, a punch goes through all four",
  [1, 2],
  async (sim) => {
    const { alice, bob } = await meet(sim);
    const { connection, ms } = await timed(sim, alice, bob);
    expect(connection.path).toBe("punch/udp");
    expect(ms).toBeLessThan(900);
    await Promise.all([alice.close(), bob.close()]);
  },
  { topology: carriers },
);

simTest(
  "through IPv6 firewalls on both sides, with IPv4 that nothing can pass",
  [1, 2],
  async (sim) => {
    const { alice, bob } = await meet(sim, { ip6: true });
    const { connection } = await timed(sim, alice, bob);
    expect(connection.path).toMatch(/^punch/);
    expect(connection.route.af).toBe(10);
    await Promise.all([alice.close(), bob.close()]);
  },
  { topology: twoHosts(nat("symmetric/random"), nat("symmetric/random")) },
);

for (const hairpinning of [true, false]) {
  simTest(
    `behind one router, hairpinning ${hairpinning}, holes are punched inside when nothing else is allowed`,
    [1, 2],
    async (sim) => {
      const { alice, bob } = await meet(sim, { strategies: ["punch"] });
      const { connection } = await timed(sim, alice, bob);
      expect(connection.path).toMatch(/^punch/);
      expect(connection.pipe.remote.ip).toBe(sim.host("bob").ip());
      await Promise.all([alice.close(), bob.close()]);
    },
    { topology: oneRouter(nat("symmetric/random", { hairpinning })) },
  );
}

simTest(
  "of two NICs the one whose router lets itself be foreseen is found",
  [1, 2],
  async (sim) => {
    const { alice, bob } = await meet(sim);
    const { connection } = await timed(sim, alice, bob);
    expect(connection.path).toMatch(/^punch/);
    await Promise.all([alice.close(), bob.close()]);
  },
  {
    topology: {
      routers: [
        { name: "a", nat: nat("port-restricted/equal"), uplink: "internet" },
        { name: "a2", nat: nat("symmetric/random"), uplink: "internet" },
        { name: "b", nat: nat("symmetric/equal"), uplink: "internet" },
      ],
      hosts: [
        { name: "alice", nics: ["a", "a2"] },
        { name: "bob", nics: ["b"] },
      ],
    },
  },
);

const TEN = Array.from({ length: 10 }, (_, i) => i);

simTest(
  "ten nodes behind one router open ten behind another at once",
  [1],
  async (sim) => {
    const config = await startServers(sim);
    const start = (side: string) => Promise.all(TEN.map((i) => startPuncher(sim, `${side}${i}`, config)));
    const [callers, called] = [await start("a"), await start("b")];
    await Promise.all([...callers, ...called].map(({ node }) => node.nat()));
    await sim.sleep(3000);
    const opened = await Promise.all(callers.map((caller, i) => timed(sim, caller, called[i] ?? caller)));
    expect(opened.map(({ connection }) => connection.path)).toEqual(TEN.map(() => "punch/udp"));
    await Promise.all([...callers, ...called].map((node) => node.close()));
  },
  {
    topology: {
      routers: [
        { name: "a", nat: nat("symmetric/independent"), uplink: "internet" },
        { name: "b", nat: nat("port-restricted/equal"), uplink: "internet" },
      ],
      hosts: [
        ...TEN.map((i) => ({ name: `a${i}`, nics: ["a"] })),
        ...TEN.map((i) => ({ name: `b${i}`, nics: ["b"] })),
      ],
    },
  },
);

const noisy = (name: string) => nat(name, { backgroundPerSecond: 20 });

simTest(
  "while others make 20 mappings a second on both routers, counters are foreseen all the same",
  [1, 2, 3, 4, 5],
  async (sim) => {
    const { alice, bob } = await meet(sim);
    const { connection } = await timed(sim, alice, bob);
    expect(connection.path).toBe("punch/udp");
    await Promise.all([alice.close(), bob.close()]);
  },
  { topology: twoHosts(noisy("symmetric/independent"), noisy("symmetric/independent")) },
);

const lossy = (name: string) => nat(name, { link: { delayMs: 25, jitterMs: 0, loss: 0.02 } });

for (const [a, b] of [
  ["port-restricted/equal", "port-restricted/random"],
  ["symmetric/independent", "symmetric/equal"],
  ["symmetric/random", "port-restricted/equal"],
  ["blocked/equal", "port-restricted/equal"],
] as const) {
  simTest(
    `with 2 % loss at each router: ${a} to ${b}`,
    [1, 2, 3],
    async (sim) => {
      const { alice, bob } = await meet(sim);
      const { connection } = await timed(sim, alice, bob);
      expect(connection.path).toMatch(/^punch/);
      await Promise.all([alice.close(), bob.close()]);
    },
    { topology: twoHosts(lossy(a), lossy(b)) },
  );
}

for (const unsolicitedSyn of ["rst", "icmp"] as const) {
  simTest(
    `routers that answer unexpected SYNs by ${unsolicitedSyn}, with UDP blocked`,
    [1, 2],
    async (sim) => {
      const { alice, bob } = await meet(sim);
      const { connection } = await timed(sim, alice, bob);
      expect(connection.path).toBe("punch/tcp");
      await Promise.all([alice.close(), bob.close()]);
    },
    {
      topology: twoHosts(nat("blocked/equal", { unsolicitedSyn }), nat("blocked/random", { unsolicitedSyn })),
    },
  );
}

simTest(
  "two NATs whose ports nobody can foresee are told so, and nothing is sprayed",
  [1],
  async (sim) => {
    const { alice, bob } = await meet(sim);
    const before = sim.router("a").ipv4.counts.get("out") ?? 0;
    const failed = alice.node.open("bob", bob.node.address(), { strategies: ["punch"] });
    expect(await failed.catch((thrown: unknown) => String(thrown))).toContain(
      "both sides get a random port for each destination",
    );
    expect((sim.router("a").ipv4.counts.get("out") ?? 0) - before).toBeLessThan(50);
    await Promise.all([alice.close(), bob.close()]);
  },
  { topology: twoHosts(nat("symmetric/random"), nat("symmetric/random")) },
);
