/** What punches may cost, and what connections say that theirs did: compared with what the hosts have really sent. */
import { beforeAll, expect } from "bun:test";
import { P2pdError } from "../../core/errors.ts";
import type { NodeConfig } from "../../core/node/node-config.ts";
import { loadSignaling } from "../../core/signal/signaling.ts";
import { twoHosts } from "../nat/topologies.ts";
import { nat, openAndEcho, startPuncher, startServers, timed } from "./punch-site.ts";
import type { SimNode } from "./sim-node.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";

beforeAll(loadSignaling);

const SEARCH = { topology: twoHosts(nat("symmetric/random"), nat("port-restricted/equal")) };
const STRATEGIES = ["direct", "reverse", "punch"] as const;

simTest(
  "a connection tells the probes, SYNs and STUN requests that opening it took, on both sides, to the packet",
  [1, 2],
  async (sim) => {
    const { alice, bob } = await meet(sim, {}, {});
    const before = { alice: sent(sim, "alice"), bob: sent(sim, "bob") };
    const { connection } = await timed(sim, alice, bob);
    await sim.sleep(500);
    const [incoming] = bob.node.connections();
    for (const [name, cost] of [
      ["alice", connection.cost],
      ["bob", incoming?.cost],
    ] as const) {
      const now = sent(sim, name);
      expect(cost?.datagrams).toBe(now.probes - before[name].probes);
      expect(cost?.stunRequests).toBe(now.requests - before[name].requests);
      expect(cost?.packets).toBe((cost?.datagrams ?? 0) + (cost?.syns ?? 0) + (cost?.stunRequests ?? 0));
    }
    expect(connection.cost.stunRequests).toBe(2);
    expect(connection.cost.datagrams).toBeGreaterThan(0);
    await Promise.all([alice.close(), bob.close()]);
  },
  { topology: twoHosts(nat("symmetric/independent"), nat("symmetric/independent")) },
);

simTest(
  "a connection that needed no hole has cost none",
  [1],
  async (sim) => {
    const { alice, bob } = await meet(sim, {}, {});
    const { connection } = await timed(sim, alice, bob);
    expect([connection.strategy, connection.cost.datagrams]).toEqual(["direct", 0]);
    await Promise.all([alice.close(), bob.close()]);
  },
  { topology: twoHosts(nat("port-restricted/equal"), nat("open-internet")) },
);

for (const [who, callers, calleds] of [
  ["the caller", { punchMaxPackets: 300, punchMaxSockets: 64 }, {}],
  ["the called", {}, { punchMaxPackets: 300, punchMaxSockets: 64 }],
] as const) {
  simTest(
    `where ${who} allows 300 packets and 64 sockets, neither side sends more, over all punches of an open`,
    [1, 2, 3],
    async (sim) => {
      const { alice, bob } = await meet(sim, callers, calleds);
      const before = { alice: sent(sim, "alice"), bob: sent(sim, "bob") };
      const outcome = await openAndEcho(sim, alice, bob).catch((thrown: unknown) => thrown);
      await sim.sleep(5000);
      for (const name of ["alice", "bob"] as const) {
        const now = sent(sim, name);
        const count = now.probes - before[name].probes + now.requests - before[name].requests;
        expect(count).toBeGreaterThan(0);
        expect(count).toBeLessThanOrEqual(300);
        expect(now.ports.size - before[name].ports.size).toBeLessThanOrEqual(3 * 64);
      }
      if (outcome instanceof P2pdError) expect(outcome.code).toBe("connect-failed");
      await Promise.all([alice.close(), bob.close()]);
    },
    SEARCH,
  );
}

simTest(
  "punches end when their time is over",
  [1, 2, 3],
  async (sim) => {
    const { alice, bob } = await meet(sim, { punchMaxMs: 1000, strategies: ["punch"] }, {});
    const began = sim.scheduler.nowMs;
    const opening = openAndEcho(sim, alice, bob).catch((thrown: unknown) => thrown);
    await sim.sleep(110);
    sim.router("b").setLine(false);
    const outcome = await opening;
    expect(outcome).toBeInstanceOf(P2pdError);
    expect(sim.scheduler.nowMs - began).toBeWithin(900, 1300);
    await Promise.all([alice.close(), bob.close()]);
  },
  SEARCH,
);

async function meet(
  sim: Simulation,
  callers: Partial<NodeConfig>,
  calleds: Partial<NodeConfig>,
): Promise<{ alice: SimNode; bob: SimNode }> {
  const config = { ...(await startServers(sim)), strategies: STRATEGIES };
  const alice = await startPuncher(sim, "alice", { ...config, ...callers });
  const bob = await startPuncher(sim, "bob", { ...config, ...calleds });
  await Promise.all([alice.node.nat(), bob.node.nat()]);
  await sim.sleep(3000);
  return { alice, bob };
}

/** What a host has sent over UDP so far: probes are 24 octets, requests to STUN servers go to port 3478. */
function sent(sim: Simulation, name: string): { probes: number; requests: number; ports: Set<string> } {
  const lines = sim.trace.lines.filter((line) => line.includes(` ${name} sends: udp `));
  const requests = lines.filter((line) => line.includes(":3478 "));
  const probes = lines.filter((line) => line.endsWith(" 24 octets"));
  const ports = new Set(probes.map((line) => /udp [0-9.]+:(\d+) >/.exec(line)?.[1] ?? ""));
  return { probes: probes.length, requests: requests.length, ports };
}
