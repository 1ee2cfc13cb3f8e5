/**
 * A situation in which one node opens another, drawn from a seed: routers, loss, servers that are dead, frozen or
 * lying, what is asked for; and what the network itself, not the program, allows of it.
 */
import type { OpenOptions, Strategy } from "../../core/node/node-api.ts";
import { CONFIGURATIONS, parseConfiguration } from "../nat/configurations.ts";
import { type SeededRandom, seededRandom } from "../nat/seeded-random.ts";
import { changeSettings, type NatSettings } from "../nat/settings.ts";
import { carrierNat, oneRouter, type RouterKind, type Topology, twoHosts } from "../nat/topologies.ts";
import type { StunBehaviour } from "./stun-server.ts";

export type BrokerFate = "good" | "dead" | "frozen" | "slow";
/** `line`: the peer's address line. `old`: one with a port of yesterday. `id`: the id alone. `imposter`: another id. */
export type Asked = "line" | "old" | "id" | "imposter";

export interface OpenScenario {
  readonly topology: Topology;
  /** Routers on the way into each host, the innermost first. */
  readonly before: Readonly<Record<"alice" | "bob", readonly NatSettings[]>>;
  readonly isOneLan: boolean;
  readonly hasIp6: boolean;
  /** Whether the routers forward the node's port, where they translate. */
  readonly forwarded: Readonly<Record<"alice" | "bob", boolean>>;
  readonly brokers: readonly BrokerFate[];
  /** Whether they meet their fate after the nodes have connected to them, or before. */
  readonly isLate: boolean;
  readonly stun: readonly StunBehaviour[];
  readonly isBobOff: boolean;
  readonly asked: Asked;
  readonly options: OpenOptions & { readonly strategies: readonly Strategy[]; readonly timeoutMs: number };
  /** Whether any packet may be lost. */
  readonly isLossy: boolean;
  readonly serverDelayMs: number;
}

const COMMON_KINDS = ["open-internet", "open-internet", "symmetric-firewall", "port-restricted"] as const;

export function drawScenario(seed: number): OpenScenario {
  const random = seededRandom(seed).fork("scenario");
  const loss = chance(random, 0.3) ? 0 : random.next() * 0.2;
  const router = (): RouterKind => ({ kind: "box", settings: drawRouter(random, loss) });
  const [a, b, carrier] = [router(), router(), router()];
  const shape = pick<"two" | "one" | "carrier">(random, ["two", "two", "two", "two", "one", "carrier"]);
  const inner = shape === "carrier" ? translating(a) : a;
  const outer = translating(carrier);
  const topology = {
    two: () => twoHosts(a, b),
    one: () => oneRouter(a),
    carrier: () => carrierNat(outer, inner, b),
  }[shape]();
  const settings = (...kinds: readonly RouterKind[]): readonly NatSettings[] =>
    kinds.flatMap((kind) => (kind.kind === "box" ? [kind.settings] : []));
  const fates: readonly BrokerFate[] = ["good", "good", "dead", "frozen", "slow"];
  const behaviours: readonly StunBehaviour[] = [
    "honest",
    "honest",
    "honest",
    "dead",
    "ignores-change",
    "lies",
  ];
  return {
    topology,
    before: {
      alice: shape === "carrier" ? settings(inner, outer) : settings(a),
      bob: shape === "one" ? settings(a) : settings(b),
    },
    isOneLan: shape === "one",
    hasIp6: chance(random, 0.4),
    forwarded: { alice: chance(random, 0.3), bob: chance(random, 0.3) },
    brokers: Array.from({ length: pick(random, [0, 1, 1, 2, 2, 3, 3]) }, () => pick(random, fates)),
    isLate: chance(random, 0.5),
    stun: Array.from({ length: random.between(0, 2) }, () => pick(random, behaviours)),
    isBobOff: chance(random, 0.06),
    asked: pick<Asked>(random, ["line", "line", "line", "line", "id", "id", "id", "old", "old", "imposter"]),
    options: {
      strategies: pick<readonly Strategy[]>(random, [
        ["direct", "reverse"],
        ["direct", "reverse"],
        ["direct", "reverse"],
        ["direct"],
        ["reverse"],
      ]),
      timeoutMs: random.between(4000, 15_000),
      ...pick<Pick<OpenOptions, "transport">>(random, [
        {},
        {},
        {},
        { transport: "tcp" },
        { transport: "udp" },
      ]),
    },
    isLossy: loss > 0,
    serverDelayMs: random.between(1, 60),
  };
}

/** Every configuration, but more often those that let somebody in. */
function drawRouter(random: SeededRandom, loss: number): NatSettings {
  const name = chance(random, 0.6) ? pick(random, COMMON_KINDS) : pick(random, CONFIGURATIONS).name;
  return changeSettings(parseConfiguration(name).settings, {
    unsolicitedSyn: pick(random, ["drop", "drop", "rst", "icmp"]),
    hairpinning: chance(random, 0.5),
    link: { delayMs: random.between(0, 60), jitterMs: random.between(0, 5), loss },
  });
}

/** A router that others are behind, or that is behind another, translates. */
function translating(router: RouterKind): RouterKind {
  if (router.kind !== "box" || router.settings.mode === "nat") return router;
  return {
    kind: "box",
    settings: changeSettings(router.settings, { mode: "nat", ipv6: { mode: "firewall" } }),
  };
}

function chance(random: SeededRandom, probability: number): boolean {
  return random.next() < probability;
}

function pick<T>(random: SeededRandom, values: readonly T[]): T {
  return values[random.between(0, values.length - 1)] as T;
}

/** `perhaps`: it depends on what lying servers are believed, or on chance. */
export type Verdict = "yes" | "no" | "perhaps";

/** What the network allows, where no packet is lost. */
export function possible(scenario: OpenScenario): Readonly<Record<"direct" | "reverse", Verdict>> {
  const { options, isBobOff, asked, brokers } = scenario;
  const isAllowed = (strategy: Strategy): boolean => options.strategies.includes(strategy);
  const isThere = !isBobOff && asked !== "imposter";
  const needsRecord = asked === "id" || asked === "old";
  const hears = brokers.some((fate) => fate === "good" || fate === "slow");
  const verdict = (strategy: Strategy, needsBroker: boolean, way: () => Verdict): Verdict =>
    isAllowed(strategy) && isThere && (hears || !needsBroker) ? way() : "no";
  return {
    direct: verdict("direct", needsRecord, () => reaches(scenario, "bob")),
    reverse: verdict("reverse", true, () => reaches(scenario, "alice")),
  };
}

/** Whether the other host's connects arrive at the node on `host`. */
export function reaches(scenario: OpenScenario, host: "alice" | "bob"): Verdict {
  const { before, isOneLan, hasIp6, forwarded, stun, options } = scenario;
  if (isOneLan) return "yes";
  const all = [...before.alice, ...before.bob];
  const protocols = (["tcp", "udp"] as const).filter(
    (protocol) =>
      (options.transport === undefined || options.transport === protocol) &&
      !all.some((settings) => settings[protocol].blocked),
  );
  if (protocols.length === 0) return "no";
  const doors = before[host];
  if (hasIp6 && doors.every(({ ipv6 }) => ipv6.mode === "open")) return "yes";
  if (doors.every(({ mode }) => mode === "open")) return "yes";
  if (!forwarded[host]) return "no";
  // A firewall's open port is at the host's own address; nobody has to be asked for it.
  if (doors.every(({ mode }) => mode !== "nat")) return "yes";
  if (stun.every((behaviour) => behaviour === "dead")) return "no";
  return stun.includes("lies") ? "perhaps" : "yes";
}
