/**
 * Connections between whole nodes whose network changes under them: they go on over another path with every octet in its
 * place. Times are of the simulation, 100 ms there and back between the nodes.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { loadSignaling } from "../../core/signal/signaling.ts";
import { planRouter, type RouterKind, twoHosts, twoNics } from "../nat/topologies.ts";
import { elsewhere, meet, nat, startPuncher, startServers } from "./punch-site.ts";
import { runSim } from "./run-sim.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";
import { connect, talk } from "./talk.ts";

const SEEDS = [1, 2];
const OUTAGE_MS = 3000;

beforeAll(loadSignaling);

interface Fault {
  readonly name: string;
  /** Breaks the network; resolves when it is there again. */
  readonly strike: (sim: Simulation) => Promise<void>;
  /** No more than this from then until octets arrive again, as a median, in milliseconds. */
  readonly limitMs: number;
}

const FAULTS: readonly Fault[] = [
  {
    name: "a router that reboots and is away for 3 s",
    async strike(sim) {
      sim.router("b").setLine(false);
      await sim.sleep(OUTAGE_MS);
      sim.router("b").reboot();
      sim.router("b").setLine(true);
    },
    limitMs: 1500,
  },
  {
    name: "a router that reboots and is away for 20 s",
    async strike(sim) {
      sim.router("b").setLine(false);
      await sim.sleep(20_000);
      sim.router("b").reboot();
      sim.router("b").setLine(true);
    },
    limitMs: 2000,
  },
  {
    name: "a router that forgets its mappings",
    strike: async (sim) => sim.router("b").reboot(),
    limitMs: 1600,
  },
  {
    name: "a router with another public address",
    strike: async (sim) => sim.router("b").setExternalIp(planRouter(1, "private").nextPublicIp4),
    limitMs: 1450,
  },
  {
    name: "a NIC with another address",
    async strike(sim) {
      const lan = planRouter(1, "private");
      sim.host("bob").changeNic("eth0", {
        addresses: [{ ip: lan.lanHostIp4(7), family: 4, prefixLength: 24 }],
      });
    },
    limitMs: 1400,
  },
];

const BLOCKED = nat("blocked/equal");
const KINDS: readonly (readonly [name: string, alice: RouterKind, bob: RouterKind])[] = [
  ["dialled by the one who can be reached", nat("open-internet"), nat("port-restricted/equal")],
  ["punched", nat("port-restricted/preserving"), nat("port-restricted/equal")],
  ["punched where UDP is blocked", BLOCKED, BLOCKED],
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
      if (aliceKind === BLOCKED && transport !== "tcp") continue;
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
  await sim.sleep(sim.random.between(1000, 3000));
  await fault.strike(sim);
  const began = sim.scheduler.nowMs;
  await conversation.caughtUp(60_000);
  const tookMs = sim.scheduler.nowMs - began;
  await sim.sleep(3000);
  await conversation.finish();
  await Promise.all([nodes.alice.close(), nodes.bob.close()]);
  return tookMs;
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

simTest(
  "a peer that was restarted knows nothing of the connection, which ends within seconds and says so",
  SEEDS,
  async (sim) => {
    const dataDir = mkdtempSync(join(tmpdir(), "p2pd-restart-"));
    try {
      const config = { ...(await startServers(sim)), strategies: ["direct", "reverse"] } as const;
      const alice = await startPuncher(sim, "alice", config);
      const before = await startPuncher(sim, "bob", { ...config, dataDir });
      await sim.sleep(3000);
      const [near] = await connect(alice, before);
      await sim.sleep(1000);
      // As power fails: nothing of it leaves the host.
      sim.router("b").setLine(false);
      await before.close();
      await near.pipe.send("anybody?");
      await sim.sleep(1000);
      sim.router("b").setLine(true);
      const after = await startPuncher(sim, "bob", { ...config, dataDir });
      expect(after.node.id).toBe(near.peer.id);
      const began = sim.scheduler.nowMs;
      const reason = await near.pipe.closed;
      expect(reason?.message).toBe(
        "the path to the peer broke, and the peer knows this connection no more: it was restarted",
      );
      lines.push(`a peer that was restarted: ${(sim.scheduler.nowMs - began).toFixed(0)} ms`);
      expect(sim.scheduler.nowMs - began).toBeLessThan(10_000);
      await Promise.all([alice.close(), after.close()]);
    } finally {
      rmSync(dataDir, { recursive: true, force: true });
    }
  },
  { topology: twoHosts(nat("open-internet"), nat("open-internet")) },
);

simTest(
  "messages sent as datagrams follow the connection to its next path",
  SEEDS,
  async (sim) => {
    const { alice, bob } = await meet(sim);
    const accepting = bob.node.accept(60_000);
    const near = await alice.node.open("talk", elsewhere(bob.node.address()), { transport: "udp" });
    const far = await accepting;
    await sim.sleep(1000);
    const lan = planRouter(1, "private");
    sim.host("bob").changeNic("eth0", {
      addresses: [{ ip: lan.lanHostIp4(7), family: 4, prefixLength: 24 }],
    });
    await sim.sleep(10_000);
    await near.pipe.send("there");
    const { bytes } = (await far?.pipe.recv("all", 1000)) ?? { bytes: new Uint8Array() };
    expect(new TextDecoder().decode(bytes)).toBe("there");
    await far?.pipe.send("back");
    expect(new TextDecoder().decode((await near.pipe.recv("all", 1000)).bytes)).toBe("back");
    expect(near.timeline.map(({ event }) => event)).toContain("moved");
    await Promise.all([alice.close(), bob.close()]);
  },
  { topology: twoHosts(nat("open-internet"), nat("port-restricted/equal")) },
);
