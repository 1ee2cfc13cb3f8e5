import { describe, expect, test } from "bun:test";
import { gatherNeeds } from "../../../core/nat/gather-needs.ts";
import { type NatKind, UNTRANSLATED } from "../../../core/nat/nat-kind.ts";
import { planPunch } from "../../../core/nat/plan-punch.ts";
import type { PunchPlan, PunchSide } from "../../../core/nat/punch-plan.ts";
import { CONFIGURATIONS, type NatConfiguration } from "../../nat/configurations.ts";
import { bestOf, possiblePunch, theoryTable } from "../../nat/punch-theory.ts";
import { type Protocol, tryPunch } from "../../nat/punch-trial.ts";

const MANY_SEEDS = Array.from({ length: 40 }, (_, i) => i + 1);
/** Of both sides of a search; docs/punching.md has the arithmetic. */
const MOST_PACKETS = 4096;

describe.each(["udp", "tcp"] as const)("over %s", (protocol) => {
  test("each plan for two of the 35 configurations opens a path between their routers", () => {
    const closed = pairs().flatMap(([a, b]) =>
      [1, 2, 3].flatMap((seed) => {
        const { plan, opened } = tryPunch(a.name, b.name, { protocol, seed });
        return "impossible" in plan || opened ? [] : [`${a.name} to ${b.name}, seed ${seed}: ${plan.method}`];
      }),
    );
    expect(closed).toEqual([]);
  });

  test("there is a plan where one is possible in theory, and a search only where nothing else is", () => {
    for (const [a, b] of pairs()) {
      const { plan } = tryPunch(a.name, b.name, { protocol, seed: 1 });
      const theory = possiblePunch(protocol, a, b);
      const planned = "impossible" in plan ? undefined : plan.method === "search" ? "search" : "aim";
      expect({ a: a.name, b: b.name, planned }).toEqual({
        a: a.name,
        b: b.name,
        planned: theory.possible ? theory.by : undefined,
      });
    }
  });

  test("a search strikes after about 252 probes in the mean and never costs more than its budget", () => {
    const probes: number[] = [];
    for (const seed of Array.from({ length: 200 }, (_, i) => i)) {
      const { plan, opened, packets } = tryPunch("port-restricted/equal", "symmetric/random", {
        protocol,
        seed,
      });
      if ("impossible" in plan) throw new Error(plan.impossible);
      expect(opened).toBe(true);
      expect(plan.caller.shots.length + plan.called.shots.length).toBeLessThan(MOST_PACKETS);
      expect(plan.called.shots.length).toBe(256);
      probes.push(Math.max(0, packets - 256));
    }
    const mean = probes.reduce((sum, one) => sum + one, 0) / probes.length;
    expect(mean).toBeGreaterThan(190);
    expect(mean).toBeLessThan(315);
  });

  test.each([
    ["symmetric/independent", "symmetric/independent"],
    ["symmetric/independent:-3", "port-restricted/random"],
    ["full-cone/random", "symmetric/independent:2"],
    ["symmetric/equal", "symmetric/independent:7"],
  ])("%s meets %s in 38 of 40 although others make 20 mappings a second", (a, b) => {
    const opened = MANY_SEEDS.map((seed) =>
      tryPunch(a, b, { protocol, seed, change: { backgroundPerSecond: 20 } }),
    ).filter((result) => result.opened);
    expect(opened.length).toBeGreaterThanOrEqual(38);
  });

  test.each([
    ["symmetric/equal@40000-45000", "symmetric/preserving@20000-60000"],
    ["port-restricted/equal@40000-40999", "symmetric/independent"],
    ["symmetric/dependent:-5", "symmetric/dependent:4"],
    ["symmetric/random@40000-40511", "port-restricted/equal"],
    ["symmetric/random@40000-42047", "symmetric-firewall"],
  ])("%s meets %s at least as often as its plan says", (a, b) => {
    const results = MANY_SEEDS.map((seed) => tryPunch(a, b, { protocol, seed }));
    const stated = results.map(({ plan }) => ("impossible" in plan ? Number.NaN : plan.probability));
    const opened = results.filter((result) => result.opened).length;
    expect(opened / results.length).toBeGreaterThanOrEqual(Math.min(...stated) - 0.05);
    expect(Math.min(...stated)).toBeGreaterThan(0.9);
  });
});

test("a narrow block of ports is searched with fewer sockets and probes", () => {
  const { plan } = tryPunch("symmetric/random@40000-40511", "port-restricted/equal", {
    protocol: "udp",
    seed: 1,
  });
  if ("impossible" in plan) throw new Error(plan.impossible);
  expect(plan.caller.shots.length).toBeLessThan(80);
  expect(plan.called.shots.length).toBeLessThan(260);
  const ports = plan.called.shots.map(({ remotePort }) => remotePort);
  expect(Math.min(...ports)).toBeGreaterThanOrEqual(40_000);
  expect(Math.max(...ports)).toBeLessThanOrEqual(40_511);
  expect(new Set(ports).size).toBe(ports.length);
});

test.each<[string, readonly [number, number] | undefined, number, number, number]>([
  ["a carrier's block that a counter was seen to fill", [40_000, 40_511], 1, 40_505, 40_000 + 17],
  ["what is too little to be all of a range", [40_000, 40_511], 7, 40_505, 40_505 + 168],
  ["all ports, downwards", undefined, -2, 1030, 65_535 - 41],
  ["no end in sight", undefined, 3, 30_000, 30_072],
])("the mark of a counter: %s", (_, range, step, seen, mark) => {
  const counter: PunchSide = {
    kind: {
      ...UNTRANSLATED,
      type: "symmetric",
      mapping: "address-and-port-dependent",
      filtering: "address-and-port-dependent",
      delta: { type: "independent", value: step },
      ...(range === undefined ? {} : { range }),
    },
    ip: "5.44.10.10",
    samples: [{ localPort: 4000, externalPort: seen }],
    spare: Array.from({ length: 24 }, (__, i) => 4001 + i),
  };
  const kept: NatKind = { ...counter.kind, delta: { type: "equal", value: 0 } };
  const plan = planned("udp", counter, { kind: kept, ip: "5.44.10.11", samples: [], spare: [5000] });
  expect(plan.called.shots).toEqual([{ localPort: 5000, remotePort: mark }]);
  expect(plan.caller.appearsAs.at(-1)).toBe(mark);
});

test("a side that lacks what its NAT needs gets no plan, and is told what", () => {
  const empty = { ip: "5.44.10.10", samples: [], spare: [] };
  const fixed: PunchSide = { kind: UNTRANSLATED, ip: "5.44.10.11", samples: [], spare: [5000] };
  const kind = (mapping: NatKind["mapping"], type: NatKind["delta"]["type"]): NatKind => ({
    ...UNTRANSLATED,
    type: mapping === "endpoint-independent" ? "port-restricted" : "symmetric",
    mapping,
    filtering: "address-and-port-dependent",
    delta: { type, value: 1 },
  });
  for (const [mapping, type, told] of [
    ["endpoint-independent", "random", "a server must have seen a mapping"],
    ["address-and-port-dependent", "equal", "a spare local port is needed"],
    ["address-and-port-dependent", "independent", "a server must have seen a mapping"],
    ["address-and-port-dependent", "dependent", "a server must have seen a mapping"],
  ] as const) {
    const lacking: PunchSide = { kind: kind(mapping, type), ...empty };
    const refusal = { impossible: expect.stringContaining(told) };
    expect(planPunch("tcp", lacking, fixed)).toEqual(refusal);
    expect(planPunch("tcp", fixed, lacking)).toEqual(refusal);
  }
});

test("samples that do not follow the rule lower the probability", () => {
  const counter = (ports: readonly number[]): PunchSide => ({
    kind: {
      ...UNTRANSLATED,
      type: "symmetric",
      mapping: "address-and-port-dependent",
      filtering: "address-and-port-dependent",
      delta: { type: "independent", value: 2 },
    },
    ip: "5.44.10.10",
    samples: ports.map((externalPort, i) => ({ localPort: 4000 + i, externalPort })),
    spare: Array.from({ length: 24 }, (_, i) => 4010 + i),
  });
  const probability = (ports: readonly number[]): number =>
    planned("udp", counter(ports), { ...counter([9000]), ip: "5.44.10.11" }).probability;
  expect(probability([7000, 7002])).toBeGreaterThan(0.9);
  expect(probability([7000, 7008])).toBeGreaterThan(0.9);
  expect(probability([7000, 7001])).toBeLessThan(0.5);
  expect(probability([7000, 6998])).toBeLessThan(0.5);
  expect(probability([7000, 23_000])).toBeLessThan(0.5);
});

test("the table of docs/punching.md is what theory says", async () => {
  const text = await Bun.file(`${import.meta.dir}/../../../docs/punching.md`).text();
  expect(text).toContain(`\n${theoryTable()}\n`);
  expect(bestOf("symmetric/random", "symmetric/equal")).toBe("–");
});

describe("in one network", () => {
  test("hosts behind any router need one port each and nothing else", () => {
    const side = (ip: string, port: number): PunchSide => ({
      kind: UNTRANSLATED,
      ip,
      samples: [],
      spare: [port],
    });
    expect(gatherNeeds(UNTRANSLATED)).toEqual({ samples: 0, spare: 1 });
    expect(planned("tcp", side("192.168.1.2", 4000), side("192.168.1.3", 5000))).toMatchObject({
      method: "certain",
      caller: { shots: [{ localPort: 4000, remotePort: 5000 }], appearsAs: [4000] },
      called: { shots: [{ localPort: 5000, remotePort: 4000 }], appearsAs: [5000] },
      probability: 1,
    });
  });

  test.each([
    [false, undefined],
    [undefined, 0.5],
    [true, 1],
  ])("by external addresses with hairpinning %p the path has probability %p", (hairpinning, probability) => {
    const kind: NatKind = {
      ...UNTRANSLATED,
      type: "port-restricted",
      filtering: "address-and-port-dependent",
      delta: { type: "random", value: 0 },
      ...(hairpinning === undefined ? {} : { hairpinning }),
    };
    const side = (port: number): PunchSide => ({
      kind,
      ip: "5.44.10.10",
      samples: [{ localPort: 4000, externalPort: port }],
      spare: [],
    });
    const plan = planPunch("udp", side(1), side(2));
    if (probability === undefined)
      expect(plan).toMatchObject({ impossible: expect.stringContaining("back inside") });
    else expect(plan).toMatchObject({ method: "certain", probability });
  });
});

function pairs(): readonly (readonly [NatConfiguration, NatConfiguration])[] {
  return CONFIGURATIONS.flatMap((a) => CONFIGURATIONS.map((b) => [a, b] as const));
}

function planned(protocol: Protocol, caller: PunchSide, called: PunchSide): PunchPlan {
  const plan = planPunch(protocol, caller, called);
  if ("impossible" in plan) throw new Error(plan.impossible);
  return plan;
}
