/** Waiting for many answers, in virtual time. */
import { expect } from "bun:test";
import { answersInTime, type Patience } from "../../core/stun/answers-in-time.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";

const cases: readonly [
  name: string,
  delays: readonly number[],
  patience: Partial<Patience>,
  took: number,
  came: string,
][] = [
  ["all that come are waited for", [10, 30, 20], {}, 30, "yyy"],
  ["failures are not waited for", [10, -20], {}, 20, "y-"],
  ["none is asked, none is waited for", [], {}, 0, ""],
  [
    "stragglers get a while when enough have come",
    [10, 20, 500],
    { share: 0.6, extraMs: () => 100 },
    120,
    "yy-",
  ],
  [
    "what they get may depend on the others",
    [10, 20, 500],
    { share: 0.6, extraMs: (ms) => 2 * ms },
    60,
    "yy-",
  ],
  ["a straggler within that counts", [10, 20, 110], { share: 0.6, extraMs: () => 100 }, 110, "yyy"],
  ["one answer limits the time of all", [10, 900, 900], { longestMs: () => 300 }, 310, "y--"],
  ["that limit is kept when no more come", [10, 200, 900], { share: 0.9, longestMs: () => 300 }, 310, "yy-"],
];

for (const [name, delays, patience, took, came] of cases) {
  simTest(
    name,
    [1],
    async (sim) => {
      const answers = await answersInTime(sim.host("alice").world.time, delays.map(after(sim)), {
        share: 1,
        extraMs: () => 0,
        signal: new AbortController().signal,
        ...patience,
      });
      expect(answers.map((one) => one ?? "-").join("")).toBe(came);
      expect(sim.scheduler.nowMs).toBeCloseTo(took, 3);
    },
    { topology: { routers: [], hosts: [{ name: "alice", nics: ["internet"] }] } },
  );
}

simTest(
  "a signal ends the waiting with what has come, also before it began",
  [1],
  async (sim) => {
    const { time } = sim.host("alice").world;
    const stop = new AbortController();
    sim.scheduler.after(50, () => stop.abort());
    const patience = { share: 1, extraMs: () => 0, signal: stop.signal };
    expect(await answersInTime(time, [10, 500].map(after(sim)), patience)).toEqual(["y", undefined]);
    expect(await answersInTime(time, [500].map(after(sim)), patience)).toEqual([undefined]);
    expect(sim.scheduler.nowMs).toBeCloseTo(50, 3);
  },
  { topology: { routers: [], hosts: [{ name: "alice", nics: ["internet"] }] } },
);

/** Answers after so many milliseconds; fails after them where they are negative. */
function after(sim: Simulation): (delayMs: number) => Promise<string> {
  return async (delayMs) => {
    await sim.sleep(Math.abs(delayMs));
    if (delayMs < 0) throw new Error("no answer");
    return "y";
  };
}
