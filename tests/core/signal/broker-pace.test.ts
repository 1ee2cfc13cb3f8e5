/** When a broker is tried again, by which NIC, and how signs of trouble are gathered: the rules without a network. */
import { describe, expect, test } from "bun:test";
import type { Nic } from "../../../core/net/world.ts";
import { hurriedDelay, patience, patientDelay } from "../../../core/signal/broker-pace.ts";
import { createSuspicion } from "../../../core/signal/suspicion.ts";
import { waysOut } from "../../../core/signal/ways-out.ts";
import { createClock } from "../../sim/clock.ts";
import { createScheduler } from "../../sim/scheduler.ts";

describe("the pace", () => {
  test("of patient tries doubles from a second to a minute, to 10 s where no broker is reached, less up to half", () => {
    const delays = (chance: number, isCutOff: boolean): readonly number[] =>
      [1, 2, 3, 7, 100].map((failures) => Math.round(patientDelay(failures, chance, isCutOff)));
    const [least, most] = [delays(0, false), delays(0.999, false)];
    expect(delays(0, true)).toEqual([500, 1000, 2000, 5000, 5000]);
    expect(least).toEqual([500, 1000, 2000, 30_000, 30_000]);
    expect(most).toEqual([1000, 1999, 3998, 59_970, 59_970]);
  });

  test("of hurried tries rises from a quarter of a second to a second, a quarter more or less", () => {
    expect([1, 2, 3, 30].map((tries) => hurriedDelay(tries, 0.5))).toEqual([250, 500, 1000, 1000]);
    expect([hurriedDelay(3, 0), Math.round(hurriedDelay(3, 0.999))]).toEqual([750, 1250]);
  });

  test("a ping is waited for four round trips, and 300 ms at least", () => {
    expect([0, 50, 75, 200].map(patience)).toEqual([300, 300, 300, 800]);
  });
});

describe("the ways out", () => {
  test.each<[string, readonly Nic[], readonly string[] | undefined, readonly (string | undefined)[]]>([
    ["without a NIC are the system's business", [], undefined, [undefined]],
    ["with one default route are that one", [nic("eth0", 100)], undefined, [undefined]],
    [
      "are the other NICs after the system's choice, the best first",
      three(),
      undefined,
      [undefined, "b", "c"],
    ],
    ["leave out NICs that are not to be used", three(), ["a", "c"], [undefined, "c"]],
    ["leave out NICs that are down", [nic("a", 1), { ...nic("b", 2), up: false }], undefined, [undefined]],
    ["leave out NICs without a default route", [nic("a", 1), nic("b")], undefined, [undefined]],
  ])("%s", (_, nics, names, expected) => {
    expect(waysOut(nics, names)).toEqual(expected);
  });
});

describe("a suspicion", () => {
  test("is followed at once, a swarm of them once a second, and the last one never lost", () => {
    const { raise, followed, advance } = suspicions();
    raise();
    expect(followed).toEqual([0]);
    for (let i = 0; i < 50; i++) {
      advance(50);
      raise();
    }
    advance(5000);
    expect(followed).toEqual([0, 1000, 2000, 3000]);
    raise();
    expect(followed.at(-1)).toBe(7500);
  });

  test("is not followed after the end", () => {
    const { raise, followed, advance, close } = suspicions();
    raise();
    raise();
    close();
    raise();
    advance(5000);
    expect(followed).toEqual([0]);
  });
});

function nic(name: string, metric?: number): Nic {
  return {
    index: 1,
    name,
    kind: "physical",
    mac: "02:00:00:00:00:01",
    mtu: 1500,
    up: true,
    addresses: [],
    gateway: {},
    metric: metric === undefined ? {} : { 4: metric },
  };
}

function three(): readonly Nic[] {
  return [nic("c", 300), nic("a", 100), nic("b", 200)];
}

function suspicions() {
  const scheduler = createScheduler();
  const followed: number[] = [];
  const suspicion = createSuspicion(createClock(scheduler), () => followed.push(scheduler.nowMs));
  return {
    ...suspicion,
    followed,
    advance: (ms: number): void => {
      const endMs = scheduler.nowMs + ms;
      scheduler.after(ms, () => undefined);
      while (scheduler.nowMs < endMs) scheduler.step(endMs);
    },
  };
}
