/** Sides of a punch as a peer could make them up: whatever they say, plans stay within ports, budget and reason. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { NatKind } from "../../../core/nat/nat-kind.ts";
import { planPunch } from "../../../core/nat/plan-punch.ts";
import type { PunchBudget } from "../../../core/nat/punch-budget.ts";
import { ANY_PORT, type PunchSide, UNKNOWN_PORT } from "../../../core/nat/punch-plan.ts";
import { DELTA_KINDS, NAT_TYPES } from "../../nat/configurations.ts";

const PORT = fc.oneof(fc.integer({ min: 1, max: 65_535 }), fc.constantFrom(1, 1023, 1024, 65_534, 65_535));
const VALUE = fc.oneof(
  fc.integer({ min: -65_535, max: 65_535 }),
  fc.constantFrom(-65_535, -2, -1, 0, 1, 2, 65_535),
);
const BEHAVIOUR = fc.constantFrom<NatKind["mapping"]>(
  "endpoint-independent",
  "address-dependent",
  "address-and-port-dependent",
  "unknown",
);
const KIND: fc.Arbitrary<NatKind> = fc
  .record({
    type: fc.constantFrom(...NAT_TYPES),
    mapping: BEHAVIOUR,
    filtering: BEHAVIOUR,
    delta: fc.record({
      type: fc.constantFrom("not-applicable", ...DELTA_KINDS),
      value: VALUE,
    }),
    portPreservation: fc.boolean(),
    portParity: fc.boolean(),
    range: fc.option(fc.tuple(PORT, PORT), { nil: undefined }),
  })
  .map(({ range, ...kind }) => (range === undefined ? kind : { ...kind, range }));
const SIDE: fc.Arbitrary<PunchSide> = fc.record({
  kind: KIND,
  ip: fc.constantFrom("5.44.0.1", "5.44.0.2"),
  samples: fc.array(fc.record({ localPort: PORT, externalPort: PORT }), { maxLength: 4 }),
  spare: fc.array(PORT, { maxLength: 32 }),
});
const BUDGET: fc.Arbitrary<PunchBudget> = fc.record({
  packets: fc.integer({ min: 0, max: 4096 }),
  sockets: fc.integer({ min: 1, max: 320 }),
  ms: fc.integer({ min: 0, max: 15_000 }),
});
const isPort = (port: number): boolean => Number.isInteger(port) && port >= 1 && port <= 65_535;

test("a plan for sides that were made up aims at ports from 1 to 65535 and is no larger than its budget", () => {
  const methods = new Set<string>();
  fc.assert(
    fc.property(SIDE, SIDE, BUDGET, fc.constantFrom("udp", "tcp"), (caller, called, budget, protocol) => {
      const plan = planPunch(protocol, caller, called, budget);
      if ("impossible" in plan) return expect(plan.impossible).not.toBe("");
      methods.add(plan.method);
      expect(plan.probability).toBeWithin(0, 1.000_001);
      const most = plan.method === "search" ? Math.max(budget.packets, budget.sockets) : 24;
      for (const { shots, appearsAs } of [plan.caller, plan.called]) {
        expect(appearsAs).toHaveLength(shots.length);
        expect(shots.length).toBeLessThanOrEqual(most);
        expect(shots.every(({ remotePort }) => isPort(remotePort))).toBe(true);
        expect(shots.every(({ localPort }) => localPort === ANY_PORT || isPort(localPort))).toBe(true);
        expect(appearsAs.every((port) => port === UNKNOWN_PORT || isPort(port))).toBe(true);
      }
    }),
    { numRuns: 5000 },
  );
  expect(methods).toEqual(new Set(["certain", "window", "search"]));
});
