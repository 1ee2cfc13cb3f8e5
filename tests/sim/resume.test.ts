/**
 * Connections between whole nodes whose network changes under them: they go on over another path with every octet in its
 * place. Times are of the simulation, 100 ms there and back between the nodes.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Connection } from "../../core/node/node-api.ts";
import { loadSignaling } from "../../core/signal/signaling.ts";
import { planRouter, type RouterKind, twoHosts, twoNics } from "../nat/topologies.ts";
import { elsewhere, meet, nat } from "./punch-site.ts";
import { runSim } from "./run-sim.ts";
import type { SimNode } from "./sim-node.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";
import { talk } from "./talk.ts";

const SEEDS = [1, 2, 3];
const OUTAGE_MS = 3000;

beforeAll(loadSignaling);

interface Fault {
  readonly name: string;
  /** Breaks the network; resolves when it is there again. */
  readonly strike: (sim: Simulation) => Promise<void>;
  /** No more than this from then until octets arrive again, as a median, in milliseconds. */
  readonly limitMs: number;
}

/** What the limits are for: the notice of a path that fell silent without a word takes 4 s. */
const FAULTS: readonly Fault[] = [
  {
    name: "a router that reboots and is away for 3 s",
    async strike(sim) {
      sim.router("b").setLine(false);
      await sim.sleep(OUTAGE_MS);
      sim.router("b").reboot();
      sim.router("b").setLine(true);
    },
    limitMs: 2500,
  },
  {
    name: "a router that reboots and is away for 20 s",
    async strike(sim) {
      sim.router("b").setLine(false);
      await sim.sleep(20_000);
      sim.router("b").reboot();
      sim.router("b").setLine(true);
    },
    limitMs: 1500,
  },
  {
    name: "a router that forgets its mappings",
    strike: async (sim) => sim.router("b").reboot(),
    limitMs: 5500,
  },
  {
    name: "a router with another public address",
    strike: async (sim) => sim.router("b").setExternalIp(planRouter(1, "private").nextPublicIp4),
    limitMs: 5500,
  },
  {
    name: "a NIC with another address",
    async strike(sim) {
      const lan = planRouter(1, "private");
      sim.host("bob").changeNic("eth0", {
        addresses: [{ ip: lan.lanHostIp4(7), family: 4, prefixLength: 24 }],
      });
    },
    limitMs: 1500,
  },
];

const KINDS: readonly (readonly [name: string, alice: RouterKind, bob: RouterKind])[] = [
  ["dialled by the one who can be reached", nat("open-internet"), nat("port-restricted/equal")],
  ["punched", nat("port-restricted/preserving"), nat("port-restricted/equal")],
];

const lines: string[] = [];
afterAll(() => console.log(lines.join("\n")));

describe.each(FAULTS)("$name", (fault) => {
  for (const [how, aliceKind, bobKind] of KINDS) {
    for (const [dialler, transport] of [
      ["alice", undefined],
      ["bob", undefined],
      ["alice", "tcp"],
    ] as const) {
      const by = transport === "tcp" ? "over TCP" : `opened by ${dialler}`;
      test(`a connection ${how}, ${by}, goes on`, async () => {
        const times: number[] = [];
        for (const seed of SEEDS) {
          await runSim({ seed, topology: twoHosts(aliceKind, bobKind) }, async (sim) => {
            times.push(await survive(sim, fault, dialler, transport));
          });
        }
        const median = times.toSorted((a, b) => a - b)[times.length >> 1] ?? Number.NaN;
        lines.push(`${fault.name}, ${how}, ${by}: ${times.map((ms) => ms.toFixed(0)).join(", ")} ms`);
        expect(median).toBeLessThan(fault.limitMs);
      }, 60_000);
    }
  }
});

/** Milliseconds from the network's return until everything has come that was sent before. */
async function survive(
  sim: Simulation,
  fault: Fault,
  dialler: "alice" | "bob",
  transport: "tcp" | undefined,
): Promise<number> {
  const nodes = await meet(sim);
  const [caller, called] = dialler === "alice" ? [nodes.alice, nodes.bob] : [nodes.bob, nodes.alice];
  const [near, far] = await connect(caller, called, transport);
  const conversation = talk(sim, [near.pipe, far.pipe]);
  await sim.sleep(2000);
  await fault.strike(sim);
  const began = sim.scheduler.nowMs;
  await conversation.caughtUp(60_000);
  const tookMs = sim.scheduler.nowMs - began;
  await sim.sleep(3000);
  await conversation.finish();
  await Promise.all([nodes.alice.close(), nodes.bob.close()]);
  return tookMs;
}

/** Opens, and takes the other end. */
async function connect(
  caller: SimNode,
  called: SimNode,
  transport?: "tcp",
): Promise<readonly [Connection, Connection]> {
  const accepting = called.node.accept(60_000);
  const options = transport === undefined ? {} : { transport };
  const near = await caller.node.open("talk", elsewhere(called.node.address()), options);
  const far = await accepting;
  if (far === undefined) throw new Error("nothing came to be accepted");
  return [near, far];
}

simTest(
  "a host that goes from one NIC to another keeps its connection, which tells of it",
  SEEDS,
  async (sim) => {
    const { alice, bob } = await meet(sim);
    const [near, far] = await connect(alice, bob);
    const events: string[] = [];
    alice.node.subscribe(({ event, data }) => events.push(`${event} ${String(data["name"])}`));
    const conversation = talk(sim, [near.pipe, far.pipe]);
    await sim.sleep(1000);
    const before = near.pipe.local.ip;
    const nic = near.nic.name;
    sim.host("alice").changeNic(nic, { up: false });
    const began = sim.scheduler.nowMs;
    await conversation.caughtUp(30_000);
    lines.push(`from one NIC to another: ${(sim.scheduler.nowMs - began).toFixed(0)} ms`);
    expect(sim.scheduler.nowMs - began).toBeLessThan(3000);
    expect(near.pipe.local.ip).not.toBe(before);
    expect([near.nic.name, near.route.nic_ips[0]]).not.toContain(nic);
    expect(events).toContain("moved talk");
    expect(near.timeline.map(({ event }) => event)).toContain("interrupted");
    const moved = near.timeline.findLast(({ event }) => event === "moved");
    expect(moved?.detail).toMatch(/^after an interruption of [0-9]+ ms$/);
    await conversation.finish();
    await Promise.all([alice.close(), bob.close()]);
  },
  { topology: twoNics(nat("port-restricted/equal"), nat("port-restricted/equal"), nat("open-internet")) },
);

simTest(
  "a peer that is gone for good ends the connection after its time, and says why",
  SEEDS,
  async (sim) => {
    const { alice, bob } = await meet(sim);
    const [near] = await connect(alice, bob);
    await sim.sleep(1000);
    sim.router("b").setLine(false);
    await near.pipe.send("anybody?");
    const began = sim.scheduler.nowMs;
    const reason = await near.pipe.closed;
    expect(reason?.code).toBe("closed");
    expect(reason?.message).toMatch(/^the path to the peer broke .*, and no other was found within 60 s$/);
    const tookMs = sim.scheduler.nowMs - began;
    expect(tookMs).toBeGreaterThan(60_000);
    expect(tookMs).toBeLessThan(66_000);
    await Promise.all([alice.close(), bob.close()]);
  },
  { topology: twoHosts(nat("open-internet"), nat("port-restricted/equal")) },
);

simTest(
  "resumeForMs 0 ends a connection with its path, as soon as an address is gone",
  SEEDS,
  async (sim) => {
    const { alice, bob } = await meet(sim);
    const accepting = bob.node.accept(60_000);
    const near = await alice.node.open("talk", elsewhere(bob.node.address()), { resumeForMs: 0 });
    await accepting;
    sim.host("alice").changeNic("eth0", { up: false });
    expect(await near.pipe.closed).toMatchObject({ code: "unreachable" });
    await Promise.all([alice.close(), bob.close()]);
  },
  { topology: twoHosts(nat("open-internet"), nat("port-restricted/equal")) },
);
