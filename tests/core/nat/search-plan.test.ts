/** The search for a hole within what both sides allow. */
import { expect, test } from "bun:test";
import type { KnownPort, RandomPorts } from "../../../core/nat/foresee.ts";
import { smallerBudget } from "../../../core/nat/punch-budget.ts";
import { planSearch } from "../../../core/nat/search-plan.ts";

const KNOWN: KnownPort = { as: "known", localPort: 7, port: 70, holds: true, probability: 1, why: "" };
const RANDOM: RandomPorts = { as: "random", range: [1024, 65_535], why: "" };

test.each([
  [{ packets: 4096, sockets: 320 }, 256, 2520],
  [{ packets: 65_536, sockets: 1024 }, 256, 2520],
  [{ packets: 1000, sockets: 320 }, 256, 936],
  [{ packets: 4096, sockets: 64 }, 64, 4032],
  [{ packets: 65_536, sockets: 64 }, 64, 10_080],
  [{ packets: 256, sockets: 64 }, 64, 192],
  [{ packets: 10, sockets: 64 }, 64, 0],
] as const)("within %p there are %p sockets and %p probes", (budget, sockets, probes) => {
  const plan = planSearch(KNOWN, RANDOM, budget);
  expect([plan.random.shots.length, plan.known.shots.length]).toEqual([sockets, probes]);
  expect(plan.probability).toBeCloseTo(1 - (1 - sockets / 64_512) ** probes, 9);
  expect(new Set(plan.known.shots.map(({ remotePort }) => remotePort)).size).toBe(probes);
});

test("the smaller budget is the smaller of each figure, whoever named it", () => {
  const [a, b] = [
    { packets: 10, sockets: 5, ms: 100 },
    { packets: 7, sockets: 9, ms: 100 },
  ];
  const both = { packets: 7, sockets: 5, ms: 100 };
  expect([smallerBudget(a, b), smallerBudget(b, a)]).toEqual([both, both]);
});
