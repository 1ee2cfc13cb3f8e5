import { describe, expect, test } from "bun:test";
import { IDLE_MS, PathWatch } from "../../../core/node/path-watch.ts";

/** What happens at which millisecond; `look` is asked at exactly the time it is given. */
type Step =
  | readonly [at: number, event: "heard" | "data" | "owe" | "answered" | "probe"]
  | readonly [at: number, event: "look", act: string, nextAt: number];

const NEVER = Number.POSITIVE_INFINITY;
/** Three times this is less than what doubt takes in any case. */
const RTT_MS = 20;

const CASES: Readonly<Record<string, readonly Step[]>> = {
  "an idle path is asked after 15 s, is doubted 0.4 s later, and is dead after 4 s": [
    [0, "look", "nothing", 15_000],
    [15_000, "look", "ping", 15_400],
    [15_399, "look", "nothing", 15_400],
    [15_400, "look", "doubt", 19_000],
    [18_999, "look", "nothing", 19_000],
    [19_000, "look", "dead", NEVER],
  ],
  "an idle path that answers is left alone for 15 s": [
    [15_000, "look", "ping", 15_400],
    [15_100, "heard"],
    [15_400, "look", "nothing", 30_100],
  ],
  "while an answer is owed silence is asked about, then doubted, and four seconds are the end": [
    [20_000, "owe"],
    [20_299, "look", "nothing", 20_300],
    [20_300, "look", "ping", 20_700],
    [20_700, "look", "doubt", 24_000],
    [24_000, "look", "dead", NEVER],
  ],
  "silence counts from the last sign, not from the first octet that is owed": [
    [0, "owe"],
    [200, "heard"],
    [300, "look", "nothing", 500],
    [500, "look", "ping", 900],
    [800, "heard"],
    [900, "look", "nothing", 1100],
  ],
  "what was silent while nothing was owed does not count": [
    [10_000, "heard"],
    [14_000, "owe"],
    [14_100, "look", "nothing", 14_300],
  ],
  "DATA that falls silent is asked about once, and a path that answers is idle": [
    [100, "heard"],
    [100, "data"],
    [250, "heard"],
    [250, "data"],
    [400, "look", "nothing", 550],
    [550, "look", "ping", 950],
    [600, "heard"],
    [950, "look", "nothing", 15_600],
  ],
  "DATA that falls silent for good is doubted after 0.7 s": [
    [100, "heard"],
    [100, "data"],
    [400, "look", "ping", 800],
    [800, "look", "doubt", 4400],
    [4400, "look", "dead", NEVER],
  ],
  "once everything is acknowledged the path is idle again": [
    [100, "owe"],
    [200, "heard"],
    [200, "answered"],
    [1200, "look", "nothing", 15_200],
  ],
  "a probe is answered within a second and a half, or the path is dead": [
    [500, "probe"],
    [900, "look", "doubt", 2000],
    [1999, "look", "nothing", 2000],
    [2000, "look", "dead", NEVER],
  ],
  "a probe that is answered leaves nothing behind": [
    [500, "probe"],
    [600, "heard"],
    [900, "look", "nothing", 15_600],
  ],
  "a path that was dead and is heard again is alive": [
    [0, "owe"],
    [4000, "look", "dead", NEVER],
    [6000, "heard"],
    [6000, "look", "nothing", 6300],
  ],
};

describe("a watch", () => {
  for (const [name, steps] of Object.entries(CASES)) {
    test(name, () => {
      const watch = new PathWatch(0, IDLE_MS, RTT_MS);
      for (const step of steps) {
        const [at, event] = step;
        if (event === "heard") watch.heard(at);
        else if (event === "data") watch.received(at);
        else if (event === "owe") watch.owe(true, at);
        else if (event === "answered") watch.owe(false, at);
        else if (event === "probe") expect(watch.probe(at)).toEqual({ act: "ping", nextAt: at + 400 });
        else expect([at, watch.check(at)] as unknown).toEqual([at, { act: step[2], nextAt: step[3] }]);
      }
    });
  }
});

test("that an answer is owed is news once", () => {
  const watch = new PathWatch(0, IDLE_MS, RTT_MS);
  expect([watch.owe(true, 5), watch.owe(true, 6), watch.owe(false, 7), watch.owe(true, 8)]).toEqual([
    305,
    undefined,
    undefined,
    308,
  ]);
});

test("a round trip is that of the first PING that has no PONG yet, and a long one has its time", () => {
  const watch = new PathWatch(0, IDLE_MS, RTT_MS);
  watch.probe(100);
  watch.heard(110);
  watch.probe(120);
  watch.ponged(400);
  expect(watch.rttMs).toBe(300);
  watch.ponged(500);
  expect(watch.rttMs).toBe(300);
  watch.heard(500);
  watch.owe(true, 1000);
  expect([watch.check(1599).act, watch.check(1600), watch.check(2499).act, watch.check(2500).act]).toEqual([
    "nothing",
    { act: "ping", nextAt: 2500 },
    "nothing",
    "doubt",
  ]);
});

test("an answer that comes after a silence measures no round trip", () => {
  const watch = new PathWatch(0, IDLE_MS, RTT_MS);
  watch.owe(true, 0);
  watch.check(300);
  expect(watch.check(700).act).toBe("doubt");
  watch.heard(3000);
  watch.ponged(3000);
  expect(watch.rttMs).toBe(RTT_MS);
});

test("what waits behind DATA, the question behind ours or the answer behind the peer's, measures no round trip", () => {
  const watch = new PathWatch(0, IDLE_MS, RTT_MS);
  watch.probe(0);
  watch.received(200);
  watch.heard(400);
  watch.ponged(400);
  expect(watch.rttMs).toBe(RTT_MS);
  watch.owe(true, 500);
  watch.probe(600);
  watch.heard(1000);
  watch.ponged(1000);
  expect(watch.rttMs).toBe(RTT_MS);
  watch.owe(false, 1000);
  watch.probe(1100);
  watch.heard(1300);
  watch.ponged(1300);
  expect(watch.rttMs).toBe(200);
});

test("a path that shows signs of life by itself is asked only when something is owed", () => {
  const watch = new PathWatch(0, NEVER, RTT_MS);
  expect(watch.check(1_000_000)).toEqual({ act: "nothing", nextAt: NEVER });
  expect(watch.owe(true, 1_000_000)).toBe(1_000_300);
  expect(watch.check(1_000_300).act).toBe("ping");
});
