/**
 * The search for a hole when one side's ports are random and the other's is one: many sockets on the random side all
 * aim at that one port, and the side that has it probes ports of the other's range until it strikes one that a socket
 * was given (the birthday paradox). How many of each is decided here; the arithmetic is in docs/punching.md.
 */
import type { KnownPort, RandomPorts } from "./foresee.ts";
import { PUNCH_BUDGET, type PunchBudget } from "./punch-budget.ts";
import { ANY_PORT, type PunchPart, UNKNOWN_PORT } from "./punch-plan.ts";

/** More mappings than that at once are an imposition on the router. */
export const SEARCH_SOCKETS = 256;
const FEWEST_SOCKETS = 64;
/** Sockets times probes, in sizes of the range: a search fails once in e to this. */
const DEPTH = 10;

export interface SearchPlan {
  readonly known: PunchPart;
  readonly random: PunchPart;
  /** That one probe strikes, 0 to 1. */
  readonly probability: number;
  readonly reason: string;
}

/** Answers, and probes after a connection that failed, need some packets too. */
const RESERVE = 64;

/** Full range: 256 sockets and 2,520 probes, of which 252 are needed in the mean. */
export function planSearch(
  known: KnownPort,
  random: RandomPorts,
  budget: Pick<PunchBudget, "packets" | "sockets"> = PUNCH_BUDGET,
): SearchPlan {
  const [low, high] = random.range;
  const size = high - low + 1;
  const sockets = Math.min(
    SEARCH_SOCKETS,
    budget.sockets,
    size,
    Math.max(FEWEST_SOCKETS, Math.ceil(Math.sqrt(DEPTH * size))),
  );
  const affordable = Math.max(0, budget.packets - RESERVE);
  const probes = Math.min(size, affordable, Math.ceil((DEPTH * size) / sockets));
  const ports = spread(low, size, probes);
  return {
    known: {
      shots: ports.map((remotePort) => ({ localPort: known.localPort, remotePort })),
      appearsAs: ports.map(() => known.port),
    },
    random: {
      shots: Array.from({ length: sockets }, () => ({ localPort: ANY_PORT, remotePort: known.port })),
      appearsAs: Array.from({ length: sockets }, () => UNKNOWN_PORT),
    },
    probability: 1 - (1 - sockets / size) ** probes,
    reason: `${sockets} sockets against ${probes} of ${size} ports`,
  };
}

/** `count` different ports, evenly strewn at each moment, as what is near a taken port is more often taken too. */
function spread(low: number, size: number, count: number): readonly number[] {
  const stride = coprimeNear(Math.round(size * 0.618), size);
  return Array.from({ length: count }, (_, i) => low + ((i * stride) % size));
}

function coprimeNear(from: number, size: number): number {
  let stride = Math.max(1, from);
  while (greatestCommonDivisor(stride, size) !== 1) stride++;
  return stride;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
