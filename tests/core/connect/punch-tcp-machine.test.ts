/** Which SYN leaves when, and which connection is taken: the machine of a TCP punch, by tables and by chance. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  createPunchTcpMachine,
  type PunchTcpAction,
  type PunchTcpMachine,
  type PunchTcpSettings,
  timeShots,
} from "../../../core/connect/punch-tcp-machine.ts";
import type { ErrorCode } from "../../../core/errors.ts";
import { ANY_PORT, UNKNOWN_PORT } from "../../../core/nat/punch-plan.ts";

const DEADLINE = 8000;

function machine(change: Partial<PunchTcpSettings> = {}, shots = 1): PunchTcpMachine {
  const timed = Array.from({ length: shots }, (_, i) => ({
    localPort: 5000 + i,
    remotePort: 6000 + i,
    afterMs: 0,
  }));
  const settings: PunchTcpSettings = {
    role: "caller",
    method: shots === 1 ? "certain" : "window",
    shots: timed,
    rttMs: 100,
    deadline: DEADLINE,
    maxSyns: 128,
    ...change,
  };
  return createPunchTcpMachine(settings, 0);
}

const shotsOf = (actions: readonly PunchTcpAction[]): readonly number[] =>
  actions.flatMap((action) => (action.kind === "connect" ? [action.shot] : []));
const holesOf = (actions: readonly PunchTcpAction[]): readonly number[] =>
  actions.flatMap((action) => (action.kind === "secure" ? [action.hole] : []));

/** When SYNs leave if each is answered by `code` after `afterMs`, or is given up when its time is over. */
function departures(
  one: PunchTcpMachine,
  code: ErrorCode,
  afterMs: number,
  untilMs: number,
): readonly number[] {
  const times: number[] = [];
  for (let now = 0; now < untilMs; ) {
    const [action] = one.act(now);
    if (action?.kind === "connect") {
      times.push(Math.round(now));
      const lostAt = now + Math.min(afterMs, action.forMs);
      one.failed(lostAt, action.shot, afterMs < action.forMs ? code : "timeout");
      now = lostAt;
    } else if (one.nextAt === undefined) break;
    else now = Math.max(now, one.nextAt);
  }
  return times;
}

describe("SYNs", () => {
  test("all of a plan leave at once, those of a search 500 a second", () => {
    expect(shotsOf(machine({}, 24).act(0))).toHaveLength(24);
    const shots = Array.from({ length: 256 }, () => ({ localPort: ANY_PORT, remotePort: 9 }));
    const appearsAs = shots.map(() => UNKNOWN_PORT);
    const timed = timeShots("caller", "search", { shots, appearsAs }, 100);
    const search = machine({ method: "search", shots: timed });
    expect(shotsOf(search.act(99))).toHaveLength(50);
    expect(search.nextAt).toBe(100);
  });

  test("that are lost are sent again, ever later", () => {
    expect(departures(machine(), "timeout", Number.POSITIVE_INFINITY, DEADLINE)).toEqual([
      0, 300, 900, 2100, 4500,
    ]);
  });

  test("of the called one come again at other times than the caller's", () => {
    const called = machine({ role: "called" });
    expect(departures(called, "timeout", Number.POSITIVE_INFINITY, DEADLINE)).toEqual([
      0, 450, 1350, 3150, 6750,
    ]);
  });

  test.each(["refused", "unreachable", "closed"] as const)(
    "that are %s go again at once: one is always on its way",
    (code) => {
      const times = departures(machine(), code, 100, 900);
      expect(times).toEqual([0, 100, 200, 300, 400, 500, 600, 700, 800]);
    },
  );

  test("that are refused next door are not sent without a pause", () => {
    const times = departures(machine(), "refused", 0.2, 2000);
    expect(times.length).toBeLessThan(20);
    expect(times.slice(0, 3)).toEqual([0, 20, 45]);
  });

  test("are never more than the budget, and then there is no hope", () => {
    const one = machine({ maxSyns: 5 });
    expect(departures(one, "refused", 100, DEADLINE)).toHaveLength(5);
    expect(one.hopeless).toBe("the budget of 5 SYNs is spent");
  });

  test("of a search are tried once each where ports are probed, and wait where they are opened", () => {
    const probing = machine({ method: "search" }, 3);
    const actions = probing.act(0);
    expect(actions.map((action) => action.kind === "connect" && action.forMs)).toEqual([900, 900, 900]);
    for (const shot of [0, 1]) probing.failed(900, shot, "timeout");
    probing.failed(100, 2, "refused");
    expect(probing.nextAt).toBeUndefined();
    expect(probing.hopeless).toBe("every pair of ports was tried");
    const waiting = machine({
      method: "search",
      shots: [1, 2].map((localPort) => ({ localPort, remotePort: 9, afterMs: 0 })),
    });
    expect(waiting.act(0).map((action) => action.kind === "connect" && action.forMs)).toEqual([
      DEADLINE,
      DEADLINE,
    ]);
    waiting.failed(100, 0, "refused");
    expect(waiting.nextAt).toBe(1000);
  });

  test("to a port that the other side cannot aim back from are followed by more from other ports", () => {
    const part = { shots: [{ localPort: 5000, remotePort: 6000 }], appearsAs: [UNKNOWN_PORT] };
    const called = timeShots("called", "certain", part, 100);
    expect(called.slice(0, 4)).toEqual([
      { localPort: 5000, remotePort: 6000, afterMs: 0 },
      { localPort: ANY_PORT, remotePort: 6000, afterMs: 50 },
      { localPort: ANY_PORT, remotePort: 6000, afterMs: 100 },
      { localPort: ANY_PORT, remotePort: 6000, afterMs: 150 },
    ]);
    expect(timeShots("caller", "certain", part, 100)[1]?.afterMs).toBe(250);
    expect(timeShots("called", "certain", { ...part, appearsAs: [7000] }, 100)).toHaveLength(1);
  });

  test("that the system repeats by itself are counted", () => {
    const one = machine();
    one.act(0);
    one.failed(2500, 0, "timeout");
    expect(one.counts).toEqual({ attempts: 1, syns: 3, refused: 0, unanswered: 1 });
  });
});

describe("of several connections", () => {
  test("the caller proves keys on one after another, the called one on all", () => {
    const caller = machine({}, 3);
    const called = machine({ role: "called" }, 3);
    for (const one of [caller, called]) {
      one.act(0);
      for (const hole of [0, 1, 2]) one.opened(100, hole, hole);
    }
    expect(holesOf(called.act(100))).toEqual([0, 1, 2]);
    expect(holesOf(caller.act(100))).toEqual([0]);
    expect(holesOf(caller.act(200))).toEqual([]);
    caller.unproved(300, 0, "closed");
    expect(holesOf(caller.act(300))).toEqual([1]);
  });

  test.each([
    ["peer-key", undefined],
    ["protocol", undefined],
    ["closed", 220],
    ["timeout", 220],
  ] as const)("one that ends by %s is tried again: %p", (code, nextAt) => {
    const one = machine();
    one.act(0);
    one.opened(200, 0, 0);
    one.act(200);
    one.unproved(220, 0, code);
    expect(one.nextAt).toBe(nextAt);
    expect(one.hopeless === undefined).toBe(nextAt !== undefined);
  });

  test("a shot whose connection came in from the other side is not sent", () => {
    const one = machine();
    one.opened(0, 0, 0);
    expect(one.act(0)).toEqual([{ kind: "secure", hole: 0, forMs: 1000 }]);
    expect(one.counts.syns).toBe(0);
  });

  test("more than sixteen at a time are closed", () => {
    const one = machine({ role: "called" });
    for (let hole = 0; hole < 20; hole++) one.opened(0, hole);
    const actions = one.act(0);
    expect(actions.filter(({ kind }) => kind === "drop").length).toBe(4);
    expect(holesOf(actions)).toHaveLength(16);
  });
});

test("whatever happens, budget, deadline and the caller's one handshake at a time are kept", () => {
  const happenings = fc.array(
    fc.record({
      afterMs: fc.double({ min: 0, max: 900, noNaN: true }),
      what: fc.constantFrom<ErrorCode | "opened" | "arrived">(
        "refused",
        "timeout",
        "address-in-use",
        "unreachable",
        "opened",
        "arrived",
      ),
      end: fc.constantFrom<ErrorCode>("peer-key", "closed", "timeout"),
    }),
    { maxLength: 80 },
  );
  fc.assert(
    fc.property(happenings, fc.constantFrom("certain", "window", "search"), (steps, method) => {
      const one = machine({ method, maxSyns: 40 }, 4);
      const connecting: number[] = [];
      const proving: number[] = [];
      let now = 0;
      let holes = 0;
      for (const { afterMs, what, end } of steps) {
        for (const action of one.act(now)) {
          expect(now).toBeLessThan(DEADLINE);
          if (action.kind !== "drop") expect(action.forMs).toBeGreaterThan(0);
          if (action.kind === "connect") connecting.push(action.shot);
          if (action.kind === "secure") proving.push(action.hole);
        }
        expect(proving.length).toBeLessThanOrEqual(1);
        expect(one.counts.attempts).toBeLessThanOrEqual(40);
        now += afterMs;
        if (now >= DEADLINE) return;
        const shot = connecting.shift();
        if (what === "arrived") one.opened(now, holes++);
        else if (shot !== undefined && what === "opened") one.opened(now, holes++, shot);
        else if (shot !== undefined) one.failed(now, shot, what as ErrorCode);
        const hole = proving.shift();
        if (hole !== undefined) one.unproved(now, hole, end);
      }
    }),
  );
});
