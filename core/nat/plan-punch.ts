/**
 * The plan of a punch from what both sides know of each other. Both compute it, each for itself, from the same offer
 * and answer, so it depends on nothing else. One path is enough, and it opens when a packet of one side, sent to a
 * port that really is the other's, meets a filter that lets its own port in.
 */
import { type CountedPorts, foresee, type KnownPort, type Outlook } from "./foresee.ts";
import { translates, WINDOW } from "./gather-needs.ts";
import type { NatKind } from "./nat-kind.ts";
import { PUNCH_BUDGET, type PunchBudget } from "./punch-budget.ts";
import {
  ANY_PORT,
  type NoPunch,
  type PunchPart,
  type PunchPlan,
  type PunchSide,
  UNKNOWN_PORT,
} from "./punch-plan.ts";
import { planSearch } from "./search-plan.ts";

/** A path between two hosts of one router of which nobody knows whether it turns packets round. */
const HAIRPIN_UNKNOWN = 0.5;
/** An answer to somebody let in by a filter looser than the mapping: some routers send it from yet another port. */
const ANSWERED_FROM_SAME = 0.8;

interface View {
  readonly outlook: Outlook;
  /** Whom the filter lets in, once something was sent: anyone, the address it went to, or that endpoint alone. */
  readonly admits: "anyone" | "address" | "endpoint";
}

/** What two views make of each other, in their order. */
interface Meeting {
  readonly method: PunchPlan["method"];
  readonly parts: readonly [PunchPart, PunchPart];
  readonly probability: number;
}

/**
 * The plan of one protocol between these two sides; the same for both of them.
 * `search` over TCP costs as many sockets as over UDP: it is for pairs that have no plan over UDP. `budget` is what both
 * sides allow.
 */
export function planPunch(
  protocol: "udp" | "tcp",
  caller: PunchSide,
  called: PunchSide,
  budget: PunchBudget = PUNCH_BUDGET,
): PunchPlan | NoPunch {
  const name = protocol.toUpperCase();
  const hairpins = throughOneRouter(caller, called);
  if (hairpins === "no")
    return { impossible: "both are behind one router, which does not send packets back inside" };
  const views: View[] = [];
  for (const [who, side] of [
    ["the caller", caller],
    ["the called", called],
  ] as const) {
    if (side.kind.type === "blocked") return { impossible: `${name} is blocked at ${who}` };
    const outlook = foresee(side);
    if ("missing" in outlook)
      return { impossible: `the ports of ${who} cannot be foreseen: ${outlook.missing}` };
    views.push({ outlook, admits: admitted(side.kind) });
  }
  const [a, b] = views as [View, View];
  const meeting = meet(a, b, budget) ?? swap(meet(b, a, budget));
  if (meeting === undefined) return { impossible: whyNot(a.outlook, b.outlook) };
  return {
    method: meeting.method,
    caller: meeting.parts[0],
    called: meeting.parts[1],
    probability: meeting.probability * (hairpins === "unknown" ? HAIRPIN_UNKNOWN : 1),
    reason: `caller ${a.outlook.why}; called ${b.outlook.why}`,
  };
}

/** Whether packets between the two would have to be turned round by a router that both are behind. */
function throughOneRouter(caller: PunchSide, called: PunchSide): "other" | "yes" | "no" | "unknown" {
  if (caller.ip !== called.ip || !(translates(caller.kind) && translates(called.kind))) return "other";
  const known = caller.kind.hairpinning ?? called.kind.hairpinning;
  if (known === undefined) return "unknown";
  return known ? "yes" : "no";
}

function admitted({ type, filtering }: NatKind): View["admits"] {
  if (type === "open-internet") return "anyone";
  if (filtering === "endpoint-independent") return "anyone";
  return filtering === "address-dependent" ? "address" : "endpoint";
}

function swap(meeting: Meeting | undefined): Meeting | undefined {
  return meeting && { ...meeting, parts: [meeting.parts[1], meeting.parts[0]] };
}

/** The rules, each in one order of the sides: the other order is the caller's affair. */
function meet(x: View, y: View, budget: PunchBudget): Meeting | undefined {
  const [from, to] = [x.outlook, y.outlook];
  if (from.as === "known" && to.as === "known") {
    const parts = [aim(from, [to.port]), aim(to, [from.port])] as const;
    return { method: "certain", parts, probability: from.probability * to.probability };
  }
  if (y.admits !== "endpoint" && from.as !== "known") {
    const open = enterOpenFilter(from, to);
    if (open !== undefined) return open;
  }
  if (from.as === "known" && to.as === "counted") {
    // While the other side's loose filter would do, its own rule comes first.
    if (x.admits !== "endpoint" && from.holds) return undefined;
    return from.holds ? aimAtWindow(from, to) : meetAtMark(from, to);
  }
  if (from.as === "counted" && to.as === "counted") {
    const [mine, theirs] = [markOf(from), markOf(to)];
    const parts = [aimAll(from, theirs), aimAll(to, mine)] as const;
    return { method: "window", parts, probability: from.probability * to.probability };
  }
  if (from.as === "known" && from.holds && to.as === "random" && x.admits === "endpoint") {
    const { known, random, probability } = planSearch(from, to, budget);
    return { method: "search", parts: [known, random], probability: from.probability * probability };
  }
  return undefined;
}

/** Who comes from a port that cannot be told is let in by the filter of `to` all the same, if its own port can be. */
function enterOpenFilter(from: Exclude<Outlook, KnownPort>, to: Outlook): Meeting | undefined {
  const shot = (remotePort: number): PunchPart => ({
    shots: [{ localPort: from.as === "counted" ? (from.localPorts[0] ?? ANY_PORT) : ANY_PORT, remotePort }],
    appearsAs: [UNKNOWN_PORT],
  });
  if (to.as === "known") {
    if (!to.holds && from.as === "counted") return undefined;
    // Any port opens the filter for the address; the other side's own number is as good as another.
    const parts = [shot(to.port), aim(to, [to.port])] as const;
    return { method: "certain", parts, probability: to.probability * (to.holds ? 1 : ANSWERED_FROM_SAME) };
  }
  if (to.as === "counted" && from.as === "random") {
    const mark = markOf(to);
    const parts = [shot(mark), aimAll(to, mark)] as const;
    return { method: "window", parts, probability: to.probability * ANSWERED_FROM_SAME };
  }
  return undefined;
}

/** One port of `known` against the next few of a counter, of which the first mapping made will be one. */
function aimAtWindow(known: KnownPort, counted: CountedPorts): Meeting {
  const targets = Array.from({ length: WINDOW }, (_, i) => counted.port(i + 1));
  const first = counted.localPorts.slice(0, 1);
  return {
    method: "window",
    parts: [
      aim(known, targets),
      {
        shots: first.map((localPort) => ({ localPort, remotePort: known.port })),
        appearsAs: first.map((_, i) => counted.port(i + 1)),
      },
    ],
    probability: known.probability * counted.probability,
  };
}

/** Where each target costs `known` another mapping: one shot at a mark that the counter's block will cover. */
function meetAtMark(known: KnownPort, counted: CountedPorts): Meeting {
  return {
    method: "window",
    parts: [aim(known, [markOf(counted)]), aimAll(counted, known.port)],
    probability: known.probability * counted.probability,
  };
}

/**
 * The last port of the block when nobody else makes mappings. Each mapping that others make first moves the block on
 * by one, and it covers this port until they have made as many as it is long.
 */
function markOf(counted: CountedPorts): number {
  return counted.port(counted.localPorts.length);
}

function aim({ localPort, port }: KnownPort, targets: readonly number[]): PunchPart {
  return {
    shots: targets.map((remotePort) => ({ localPort, remotePort })),
    appearsAs: targets.map(() => port),
  };
}

/** All mappings of the block towards one port, so that whichever of them is met there answers. */
function aimAll(counted: CountedPorts, remotePort: number): PunchPart {
  return {
    shots: counted.localPorts.map((localPort) => ({ localPort, remotePort })),
    appearsAs: counted.localPorts.map((_, i) => counted.port(i + 1)),
  };
}

function whyNot(a: Outlook, b: Outlook): string {
  if (a.as === "random" && b.as === "random") return "both sides get a random port for each destination";
  const [random, other] = a.as === "random" ? ["caller", "called"] : ["called", "caller"];
  return `the ${random} gets a random port and the ${other} another one for each destination: a search would be the product of two`;
}
