import { describe, expect, test } from "bun:test";
import { IDLE_MS, PathWatch } from "../../../core/node/path-watch.ts";

/** What happens at which millisecond; `look` is asked at exactly the time it is given. */
type Step =
  | readonly [at: number, event: "heard" | "owe" | "answered" | "probe"]
  | readonly [at: number, event: "look", act: string, nextAt: number];

const CASES: Readonly<Record<string, readonly Step[]>> = {
  "an idle path is asked after 15 s, and is dead 4 s later": [
    [0, "look", "nothing", 15_000],
    [15_000, "look", "ping", 19_000],
    [18_999, "look", "nothing", 19_000],
    [19_000, "look", "dead", 34_000],
  ],
  "an idle path that answers is left alone for 15 s": [
    [15_000, "look", "ping", 19_000],
    [15_100, "heard"],
    [19_000, "look", "nothing", 30_100],
  ],
  "while an answer is owed a second of silence is asked about, and four are the end": [
    [20_000, "owe"],
    [20_999, "look", "nothing", 21_000],
    [21_000, "look", "ping", 24_000],
    [24_000, "look", "dead", 39_000],
  ],
  "silence counts from the last sign, not from the first octet that is owed": [
    [0, "owe"],
    [900, "heard"],
    [1000, "look", "nothing", 1900],
    [1900, "look", "ping", 4900],
    [3000, "heard"],
    [4900, "look", "ping", 7000],
  ],
  "what was silent while nothing was owed does not count": [
    [10_000, "heard"],
    [14_000, "owe"],
    [14_500, "look", "nothing", 15_000],
  ],
  "once everything is acknowledged the path is idle again": [
    [100, "owe"],
    [200, "heard"],
    [200, "answered"],
    [1200, "look", "nothing", 15_200],
  ],
  "a probe is answered within a second and a half, or the path is dead": [
    [500, "probe"],
    [1999, "look", "nothing", 2000],
    [2000, "look", "dead", 17_000],
  ],
  "a probe that is answered leaves nothing behind": [
    [500, "probe"],
    [600, "heard"],
    [2000, "look", "nothing", 15_600],
  ],
  "a path that was dead and is heard again is alive": [
    [0, "owe"],
    [4000, "look", "dead", 19_000],
    [6000, "heard"],
    [6000, "look", "nothing", 7000],
  ],
};

describe("a watch", () => {
  for (const [name, steps] of Object.entries(CASES)) {
    test(name, () => {
      const watch = new PathWatch(0, IDLE_MS);
      for (const step of steps) {
        const [at, event] = step;
        if (event === "heard") watch.heard(at);
        else if (event === "owe") watch.owe(true, at);
        else if (event === "answered") watch.owe(false, at);
        else if (event === "probe") expect(watch.probe(at)).toEqual({ act: "ping", nextAt: at + 1500 });
        else expect([at, watch.check(at)] as unknown).toEqual([at, { act: step[2], nextAt: step[3] }]);
      }
    });
  }
});

test("that an answer is owed is news once", () => {
  const watch = new PathWatch(0, IDLE_MS);
  expect([watch.owe(true, 5), watch.owe(true, 6), watch.owe(false, 7), watch.owe(true, 8)]).toEqual([
    1005,
    undefined,
    undefined,
    1008,
  ]);
});

test("a round trip is that of the first PING that has no PONG yet", () => {
  const watch = new PathWatch(0, IDLE_MS);
  watch.probe(100);
  watch.heard(110);
  watch.probe(120);
  expect([watch.ponged(150), watch.ponged(170)]).toEqual([50, undefined]);
});

test("a path that shows signs of life by itself is asked only when something is owed", () => {
  const watch = new PathWatch(0, Number.POSITIVE_INFINITY);
  expect(watch.check(1_000_000)).toEqual({ act: "nothing", nextAt: Number.POSITIVE_INFINITY });
  expect(watch.owe(true, 1_000_000)).toBe(1_001_000);
  expect(watch.check(1_001_000).act).toBe("ping");
});
