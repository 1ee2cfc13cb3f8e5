/** When a UDP punch sends what, and who nominates: two machines and a network of thought between them. */
import { expect, test } from "bun:test";
import { UdpPunchMachine, type UdpPunchAction } from "../../../core/connect/punch-udp-machine.ts";
import type { PunchPart, PunchPlan } from "../../../core/nat/punch-plan.ts";

const part = (shots: readonly (readonly [number, number])[], appearsAs: readonly number[]): PunchPart => ({
  shots: shots.map(([localPort, remotePort]) => ({ localPort, remotePort })),
  appearsAs,
});
const CALLER = part([[100, 2000]], [1000]);
const CALLED = part([[200, 1000]], [2000]);

function machine(
  role: "caller" | "called",
  method: PunchPlan["method"],
  own: PunchPart,
  other: PunchPart,
  maxPackets = 4096,
): UdpPunchMachine {
  return new UdpPunchMachine({ role, method, part: own, other, maxPackets }, 0);
}

const acts = (actions: readonly UdpPunchAction[]): readonly string[] =>
  actions.map((action) => {
    if (action.act === "send") return `${action.kind} ${action.slot} -> ${action.to}`;
    return action.act === "connect"
      ? `connect ${action.slot} -> ${action.to}`
      : `${action.act} ${action.slot}`;
  });

/** All that a machine does by itself until it is over. */
function run(one: UdpPunchMachine): readonly { readonly at: number; readonly what: string }[] {
  const done: { at: number; what: string }[] = [];
  for (let now: number | undefined = 0; now !== undefined; ) {
    const { actions, wakeAtMs }: ReturnType<UdpPunchMachine["advance"]> = one.advance(now);
    for (const what of acts(actions)) done.push({ at: now, what });
    if (wakeAtMs !== undefined) expect(wakeAtMs).toBeGreaterThan(now);
    now = wakeAtMs;
  }
  return done;
}

test("with ports known, the called side opens its filter twice and listens, the caller connects and sends nothing else", () => {
  expect(acts(machine("called", "certain", CALLED, CALLER).advance(0).actions)).toEqual([
    "probe 0 -> 1000",
    "probe 0 -> 1000",
    "listen 0",
  ]);
  expect(acts(machine("caller", "certain", CALLER, CALLED).advance(0).actions)).toEqual([
    "connect 0 -> 2000",
  ]);
});

test("when no handshake comes of it, both take their ports back at about the same time, and probe", () => {
  const called = run(machine("called", "certain", CALLED, CALLER));
  const caller = run(machine("caller", "certain", CALLER, CALLED));
  const back = (all: typeof called): number => all.find(({ what }) => what === "reopen 0")?.at ?? Number.NaN;
  expect(Math.abs(back(called) - back(caller))).toBeLessThan(200);
  expect(caller.filter(({ what }) => what.startsWith("probe")).length).toBeGreaterThan(3);
});

test("a connection that fails early gives the port back at once", () => {
  const caller = machine("caller", "certain", CALLER, CALLED);
  caller.advance(0);
  expect(acts(caller.failed(40, 0))).toEqual(["reopen 0"]);
  expect(acts(caller.advance(40).actions)).toEqual(["probe 0 -> 2000"]);
});

test("a called side that cannot be aimed at is not listened for: both probe from the start", () => {
  const hidden = part([[0, 1000]], [-1]);
  expect(acts(machine("called", "certain", hidden, CALLER).advance(0).actions)).toEqual(["probe 0 -> 1000"]);
  expect(acts(machine("caller", "certain", CALLER, hidden).advance(0).actions)).toEqual(["probe 0 -> 2000"]);
});

test("a window is sent at once, several shots from one port, and again in rounds", () => {
  const window = part(
    [
      [100, 2000],
      [100, 2001],
      [101, 2000],
    ],
    [1000, 1000, 1001],
  );
  const done = run(machine("caller", "window", window, CALLED));
  expect(done.slice(0, 3).map(({ what }) => what)).toEqual([
    "probe 0 -> 2000",
    "probe 0 -> 2001",
    "probe 1 -> 2000",
  ]);
  expect(new Set(done.map(({ at }) => at)).size).toBeGreaterThan(5);
});

test("whoever hears a probe echoes it twice; the called side then listens, the caller connects a moment later", () => {
  const called = machine("called", "window", CALLED, CALLER);
  called.advance(0);
  expect(acts(called.heard(10, 0, 1003, "probe"))).toEqual(["echo 0 -> 1003", "echo 0 -> 1003", "listen 0"]);
  expect(called.heard(11, 0, 1003, "probe")).toEqual([]);
  const caller = machine("caller", "window", CALLER, CALLED);
  caller.advance(0);
  const heard = caller.heard(10, 0, 2005, "probe");
  expect(acts(heard)).toEqual(["echo 0 -> 2005", "echo 0 -> 2005", "connect 0 -> 2005"]);
  expect(heard.at(-1)).toMatchObject({ afterMs: 15 });
  expect(caller.heard(11, 0, 2005, "echo")).toEqual([]);
  expect(acts(caller.advance(60).actions)).toEqual([]);
});

test("a caller that hears an echo connects at once", () => {
  const caller = machine("caller", "window", CALLER, CALLED);
  caller.advance(0);
  expect(caller.heard(50, 0, 2005, "echo")).toEqual([{ act: "connect", slot: 0, to: 2005, afterMs: 0 }]);
});

test("a caller with many holes nominates one", () => {
  const two = part(
    [
      [100, 2000],
      [101, 2000],
    ],
    [1000, 1001],
  );
  const caller = machine("caller", "window", two, CALLED);
  caller.advance(0);
  expect(acts(caller.heard(10, 1, 2000, "echo"))).toEqual(["connect 1 -> 2000"]);
  expect(caller.heard(11, 0, 2000, "echo")).toEqual([]);
});

test("a called side that listened in vain goes on probing", () => {
  const called = machine("called", "search", CALLED, CALLER);
  called.advance(0);
  called.heard(10, 0, 1003, "probe");
  expect(acts(called.advance(1600).actions)).toContain("reopen 0");
});

test("a search sends 500 datagrams a second, none of them twice, and ends by itself", () => {
  const many = part(
    Array.from({ length: 1000 }, (_, i) => [100, 1024 + i] as const),
    Array.from({ length: 1000 }, () => 1000),
  );
  const done = run(machine("caller", "search", many, CALLED));
  expect(new Set(done.map(({ what }) => what)).size).toBe(1000);
  expect(done).toHaveLength(1000);
  expect(done.filter(({ at }) => at < 1000).length).toBeWithin(480, 510);
});

test("no more datagrams are sent than allowed, echoes included", () => {
  const called = machine("called", "window", CALLED, CALLER, 3);
  for (let now = 0; now < 2000; now += 50) {
    called.advance(now);
    called.heard(now, 0, 1003, "probe");
  }
  expect(called.sent).toBe(3);
});

test("a slot that nobody has is not heard", () => {
  expect(machine("called", "window", CALLED, CALLER).heard(0, 7, 1, "probe")).toEqual([]);
});

test("with less time than the method takes, a punch ends when that is over", () => {
  const shots = Array.from({ length: 2000 }, (_, i) => [100, 2000 + i] as const);
  const known = part(
    shots,
    shots.map(() => 1000),
  );
  const options = { role: "caller", method: "search", part: known, other: CALLED, maxPackets: 4096 } as const;
  const done = run(new UdpPunchMachine({ ...options, maxMs: 500 }, 0));
  expect(done.at(-1)?.at).toBeWithin(480, 501);
  expect(done.length).toBeWithin(200, 252);
  expect(run(new UdpPunchMachine({ ...options, maxMs: 60_000 }, 0)).length).toBe(2000);
});
