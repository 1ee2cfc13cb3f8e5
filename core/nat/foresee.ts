/**
 * Under which external ports the shots of one side will appear: its kind of NAT and its samples, thought to the end.
 * What two such outlooks make of each other is in `plan-punch.ts`.
 */
import { externalRange, keptOffset, translates, WINDOW, wrapPort } from "./gather-needs.ts";
import type { PunchSide } from "./punch-plan.ts";

/** One external port that is known before the shot. */
export interface KnownPort {
  readonly as: "known";
  readonly localPort: number;
  readonly port: number;
  /** Whether the port is the same towards every port of the other side; else each target gets another one. */
  readonly holds: boolean;
  readonly probability: number;
  readonly why: string;
}

/** A counter that others advance too: a block of consecutive mappings can be foreseen, a single one not. */
export interface CountedPorts {
  readonly as: "counted";
  readonly localPorts: readonly number[];
  /** Of the mapping `ahead` places after the last that was seen. */
  port(ahead: number): number;
  readonly probability: number;
  readonly why: string;
}

/** Any port of the range. */
export interface RandomPorts {
  readonly as: "random";
  readonly range: readonly [low: number, high: number];
  readonly why: string;
}

export type Outlook = KnownPort | CountedPorts | RandomPorts;

/** What was asked of the side and is not there. */
export interface NothingToSee {
  readonly missing: string;
}

/**
 * Where counters go round. What was seen of a router's range is less than the range: a port that lies outside is no
 * reason to believe that the counter went round.
 */
const COUNTED_RANGE = [1024, 65_535] as const;
/**
 * A detection makes some 60 mappings. A counter that was seen over more ports than that by steps has gone round, and the
 * range that was seen is all of it: a carrier's block.
 */
const WENT_ROUND_STEPS = 128;
/** A neighbour in the LAN may hold the port, or the router may have started anew with another offset. */
const KEPT = 0.98;
/** The chain breaks when the next port is taken. */
const CHAINED = 0.97;
/** Others may have made more mappings than the window is wide. */
const COUNTED = 0.97;
/** The samples do not follow the rule that was found earlier. */
const DOUBTFUL = 0.3;

/** The outlook of a side whose protocol is not blocked. */
export function foresee(side: PunchSide): Outlook | NothingToSee {
  const { kind, samples } = side;
  if (!translates(kind)) return untranslated(side);
  const last = samples.at(-1);
  if (kind.mapping === "endpoint-independent" && last !== undefined) {
    return {
      as: "known",
      localPort: last.localPort,
      port: last.externalPort,
      holds: true,
      probability: 1,
      why: `a server has seen ${last.localPort} as ${last.externalPort}`,
    };
  }
  const offset = keptOffset(kind);
  if (offset !== undefined) return kept(side, offset);
  if (kind.mapping === "endpoint-independent")
    return { missing: `with delta ${kind.delta.type} a server must have seen a mapping` };
  if (kind.delta.type === "independent") return counted(side);
  if (kind.delta.type === "dependent") return chained(side);
  const range = externalRange(kind);
  return { as: "random", range, why: `any port from ${range[0]} to ${range[1]}` };
}

function untranslated({ spare: [localPort] }: PunchSide): Outlook | NothingToSee {
  if (localPort === undefined) return { missing: "a local port is needed" };
  return { as: "known", localPort, port: localPort, holds: true, probability: 1, why: "is not translated" };
}

/** External minus local port is the same for all: `equal` and `preserving`. */
function kept({ kind, spare: [localPort] }: PunchSide, offset: number): Outlook | NothingToSee {
  if (localPort === undefined) return { missing: "a spare local port is needed" };
  const wish = localPort + offset;
  const port = wrapPort(wish, COUNTED_RANGE);
  // Out of its range an equal delta gives any port; a preserving one goes round.
  const isLost = offset === 0 && wish !== port;
  return {
    as: "known",
    localPort,
    port: isLost ? wish : port,
    holds: kind.mapping !== "address-and-port-dependent",
    probability: isLost ? DOUBTFUL : KEPT,
    why: offset === 0 ? `${localPort} keeps its number` : `${localPort} becomes ${port}, by ${offset}`,
  };
}

/** One counter for all hosts of the router. */
function counted({ kind, samples, spare }: PunchSide): Outlook | NothingToSee {
  const last = samples.at(-1);
  const step = kind.delta.value;
  if (last === undefined || step === 0)
    return { missing: "with delta independent a server must have seen a mapping, and the step be known" };
  if (spare.length === 0) return { missing: "spare local ports are needed" };
  const [low, high] = externalRange(kind);
  const isWhole = high - low + 1 >= WENT_ROUND_STEPS * Math.abs(step);
  const range = isWhole ? ([low, high] as const) : COUNTED_RANGE;
  return {
    as: "counted",
    localPorts: spare.slice(0, WINDOW),
    port: (ahead) => wrapPort(last.externalPort + ahead * step, range),
    probability: areSteps(samples, step, range, WINDOW) ? COUNTED : DOUBTFUL,
    why: `from ${last.externalPort} on by ${step}`,
  };
}

/** A chain of the host's own: the next local port gets the next external one. */
function chained({ kind, samples, spare: [localPort] }: PunchSide): Outlook | NothingToSee {
  const last = samples.at(-1);
  const step = kind.delta.value;
  if (last === undefined || step === 0)
    return { missing: "with delta dependent a server must have seen a mapping, and the step be known" };
  if (localPort !== last.localPort + 1)
    return { missing: `the local port after ${last.localPort} is needed, as the delta is dependent` };
  const range = COUNTED_RANGE;
  const port = wrapPort(last.externalPort + step, range);
  return {
    as: "known",
    localPort,
    port,
    holds: kind.mapping !== "address-and-port-dependent",
    probability: areSteps(samples, step, range, 1) ? CHAINED : DOUBTFUL,
    why: `${localPort} follows ${last.localPort}, seen as ${last.externalPort}, by ${step}`,
  };
}

/** Whether each sample comes 1 to `most` steps after the one before. */
function areSteps(
  samples: PunchSide["samples"],
  step: number,
  [low, high]: readonly [low: number, high: number],
  most: number,
): boolean {
  const size = high - low + 1;
  const way = Math.sign(step);
  return samples.slice(1).every(({ externalPort }, i) => {
    const before = samples[i]?.externalPort ?? externalPort;
    const passed = ((((externalPort - before) * way) % size) + size) % size;
    // Where the counter went round, the range may not be known to the port.
    return (
      passed > 0 &&
      passed <= most * Math.abs(step) &&
      (passed % step === 0 || (externalPort - before) * way < 0)
    );
  });
}
