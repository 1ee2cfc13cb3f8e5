/** Punches that chance has a part in, over many seeds: searches and counters that others advance. */
import { beforeAll, expect, test } from "bun:test";
import { loadSignaling } from "../../core/signal/signaling.ts";
import { median } from "../lab/lab-node.ts";
import type { NatSettingsChange } from "../nat/settings.ts";
import { twoHosts } from "../nat/topologies.ts";
import { meet, nat, timed } from "./punch-site.ts";
import { runSim } from "./run-sim.ts";

const SEEDS = Array.from({ length: 40 }, (_, i) => i + 1);
const MAX_DATAGRAMS = 4096;

beforeAll(loadSignaling);

interface Opened {
  readonly path: string;
  readonly ms: number;
  /** Of the side that opened, the handshake's left out. */
  readonly datagrams: number;
}

async function openMany(
  caller: string,
  called: string,
  change: NatSettingsChange = {},
): Promise<readonly Opened[]> {
  const opened: Opened[] = [];
  for (const seed of SEEDS) {
    const topology = twoHosts(
      nat(caller, { ...change, seed }),
      nat(called, { ...change, seed: seed + SEEDS.length }),
    );
    await runSim({ seed, topology }, async (sim) => {
      const { alice, bob } = await meet(sim);
      const { connection, ms } = await timed(sim, alice, bob);
      const counts = connection.timeline.map(({ detail }) =>
        Number(/, (\d+) datagrams/.exec(detail)?.[1] ?? 0),
      );
      opened.push({ path: connection.path, ms, datagrams: Math.max(...counts) });
      await Promise.all([alice.close(), bob.close()]);
    });
  }
  return opened;
}

test("while others make 20 mappings a second on both routers, two symmetric counters meet", async () => {
  const opened = await openMany("symmetric/independent", "symmetric/independent", {
    backgroundPerSecond: 20,
  });
  expect(opened.filter(({ path }) => path === "punch/udp").length).toBeGreaterThanOrEqual(38);
}, 60_000);

for (const [caller, called] of [
  ["symmetric/random", "port-restricted/equal"],
  ["port-restricted/random", "symmetric/random"],
] as const) {
  test(`a search from ${caller} to ${called} takes under 2.5 s in the median, 8 s at most, and keeps to the budget`, async () => {
    const opened = await openMany(caller, called);
    const times = opened.map(({ ms }) => ms);
    expect(median(times)).toBeLessThan(2500);
    expect(Math.max(...times)).toBeLessThan(8000);
    expect(Math.max(...opened.map(({ datagrams }) => datagrams))).toBeLessThanOrEqual(MAX_DATAGRAMS);
  }, 60_000);
}
