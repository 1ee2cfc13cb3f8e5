/** When mappings are renewed, checked and given up, in tables. */
import { describe, expect, test } from "bun:test";
import { judgeExternal } from "../../../core/portmap/judge-external.ts";
import { CHECK_MS, createUpkeep, isSameEpoch, searchDelayMs } from "../../../core/portmap/upkeep.ts";

const S = 1000;

describe("upkeep", () => {
  test("a lease is checked every 6 s and renewed at half its life", () => {
    const upkeep = createUpkeep(0, 20);
    expect(upkeep.next(0)).toEqual({ do: "wait", wakeAtMs: CHECK_MS });
    expect(upkeep.next(CHECK_MS)).toEqual({ do: "check" });
    upkeep.checked(CHECK_MS, true);
    expect(upkeep.next(CHECK_MS)).toEqual({ do: "wait", wakeAtMs: 10 * S });
    expect(upkeep.next(10 * S)).toEqual({ do: "renew" });
    upkeep.renewed(10 * S, 20);
    expect(upkeep.renewAtMs).toBe(20 * S);
  });

  test("a renewal that fails is tried again at half of what is left, no sooner than after 4 s, until it expires", () => {
    const upkeep = createUpkeep(0, 100);
    const tried: number[] = [];
    let now = 0;
    for (;;) {
      const step = upkeep.next(now);
      if (step.do === "give-up") {
        expect(step.why).toBe("expired");
        break;
      }
      if (step.do === "wait") now = step.wakeAtMs;
      else if (step.do === "check") upkeep.checked(now, true);
      else {
        tried.push(now / S);
        upkeep.unrenewed(now);
      }
    }
    expect(tried).toEqual([50, 75, 87.5, 93.75, 97.75]);
    expect(now).toBe(100 * S);
  });

  test("a permanent mapping is checked and never renewed by the clock", () => {
    const upkeep = createUpkeep(0, 0);
    expect(upkeep.renewAtMs).toBe(Number.POSITIVE_INFINITY);
    for (let now = CHECK_MS; now < 1e7; now += CHECK_MS) {
      expect(upkeep.next(now)).toEqual({ do: "check" });
      upkeep.checked(now, true);
    }
  });

  test("a router that forgot is asked to map at once", () => {
    const upkeep = createUpkeep(0, 7200);
    upkeep.checked(6000, false);
    expect(upkeep.next(6000)).toEqual({ do: "renew" });
    upkeep.renewed(6100, 7200);
    expect(upkeep.next(6100)).toEqual({ do: "wait", wakeAtMs: 6100 + CHECK_MS });
  });

  test("a router that forgot and does not map again is searched for anew", () => {
    const upkeep = createUpkeep(0, 7200);
    upkeep.unrenewed(0);
    upkeep.checked(6000, false);
    expect(upkeep.next(6000)).toEqual({ do: "renew" });
    upkeep.unrenewed(6000);
    expect(upkeep.next(6000)).toEqual({ do: "give-up", why: "forgotten" });
  });

  test("a router that grants a second is not asked every half second", () => {
    const upkeep = createUpkeep(0, 1);
    expect(upkeep.renewAtMs).toBe(4000);
    expect(upkeep.next(3999)).toEqual({ do: "wait", wakeAtMs: 4000 });
  });

  test("two checks without an answer end it; one, followed by an answer, does not", () => {
    const upkeep = createUpkeep(0, 7200);
    upkeep.unchecked(6000);
    expect(upkeep.next(6000)).toEqual({ do: "wait", wakeAtMs: 6500 });
    upkeep.checked(6500, true);
    upkeep.unchecked(12_500);
    expect(upkeep.next(13_000)).toEqual({ do: "check" });
    upkeep.unchecked(13_000);
    expect(upkeep.next(13_000)).toEqual({ do: "give-up", why: "silent" });
  });
});

test.each([
  ["the same pace", 100, 10, 110, true],
  ["a clock that runs 5 % slow", 1000, 100, 1095, true],
  ["a clock that runs fast by a third", 1000, 100, 1133, false],
  ["a step back of a second", 1000, 1, 999, true],
  ["a restart", 1000, 10, 3, false],
  ["a restart whose clock has grown past the earlier reading", 10, 600, 300, false],
  ["a restart within seconds of the start, which does not show", 2, 2, 2, true],
])("an epoch that goes by %s", (_name, earlier, elapsed, later, same) => {
  const readings = [
    { seconds: earlier, atMs: 0 },
    { seconds: later, atMs: elapsed * S },
  ] as const;
  expect(isSameEpoch(readings[0], readings[1])).toBe(same);
});

test("searches become rarer, up to ten minutes; after a loss they are quick for a minute", () => {
  expect([1, 2, 3, 4, 20].map((failures) => searchDelayMs(failures, false) / S)).toEqual([
    15, 30, 60, 120, 600,
  ]);
  expect([1, 20, 21, 22, 99].map((failures) => searchDelayMs(failures, true) / S)).toEqual([
    3, 3, 15, 30, 600,
  ]);
});

test.each([
  ["198.51.100.7", "198.51.100.7", false, false, "router's own address"],
  ["198.51.100.7", "203.0.113.9", false, true, "another NAT"],
  ["198.51.100.7", undefined, false, undefined, "no server has told"],
  ["100.64.3.4", "203.0.113.9", false, true, "carrier"],
  ["100.64.3.4", undefined, false, true, "carrier"],
  ["192.168.0.2", undefined, false, true, "not one of the internet"],
  [undefined, "203.0.113.9", false, undefined, "does not tell"],
  [undefined, "203.0.113.9", true, true, "no public address itself"],
  [undefined, undefined, true, undefined, "does not tell"],
] as const)(
  "router %p, seen as %p, lacking an address %p: double NAT %p",
  (router, seen, lacks, verdict, why) => {
    const judged = judgeExternal(router, seen, lacks);
    expect(judged.doubleNat).toBe(verdict);
    expect(judged.why).toContain(why);
  },
);
