/**
 * What a side must bring to a punch so that its external ports can be foreseen: fresh mappings seen by a server,
 * and local ports kept free. Known from the kind of its NAT alone, hence before any peer is.
 */
import type { NatKind } from "./nat-kind.ts";

/** Mappings on one side that are made at once around the expected port of a counter. */
export const WINDOW = 24;
const LOWEST_PORT = 1024;
const HIGHEST_PORT = 65_535;
/** A range that was seen and is narrower says more of how little was seen than of the router. */
const MIN_RANGE = 256;

export interface GatherNeeds {
  /** Fresh mappings to be seen by STUN servers, from consecutive local ports, made in their order. */
  readonly samples: number;
  /** Local ports to be bound and kept silent, consecutive, following those of the samples. */
  readonly spare: number;
  /** Where the spare local ports must lie for the router to keep its rule; absent where anywhere will do. */
  readonly within?: readonly [low: number, high: number];
}

/** No round trip to a server is needed where `samples` is 0. */
export function gatherNeeds(kind: NatKind): GatherNeeds {
  if (kind.type === "blocked") return { samples: 0, spare: 0 };
  if (!translates(kind)) return { samples: 0, spare: 1 };
  const keeps = keptOffset(kind);
  if (keeps !== undefined) {
    const [low, high] = externalRange(kind);
    const within = [Math.max(LOWEST_PORT, low - keeps), Math.min(HIGHEST_PORT, high - keeps)] as const;
    return within[1] - within[0] < MIN_RANGE ? { samples: 0, spare: 1 } : { samples: 0, spare: 1, within };
  }
  if (kind.mapping === "endpoint-independent") return { samples: 1, spare: 0 };
  if (kind.delta.type === "independent") return { samples: 2, spare: WINDOW };
  if (kind.delta.type === "dependent") return { samples: 2, spare: 1 };
  return { samples: 0, spare: 0 };
}

/** Whether ports are changed on the way at all. */
export function translates(kind: NatKind): boolean {
  return kind.type !== "open-internet" && kind.type !== "symmetric-firewall";
}

/** External minus local port, where that is the same for every mapping and known beforehand. */
export function keptOffset({ delta }: NatKind): number | undefined {
  if (delta.type === "equal") return 0;
  return delta.type === "preserving" && delta.value !== 0 ? delta.value : undefined;
}

/** The external ports of new mappings; all from 1024 where too little was seen to say more. */
export function externalRange({ range }: NatKind): readonly [low: number, high: number] {
  const [low, high] = range ?? [LOWEST_PORT, HIGHEST_PORT];
  const isRange = Number.isInteger(low) && Number.isInteger(high) && low >= 1 && high <= HIGHEST_PORT;
  return isRange && high - low + 1 >= MIN_RANGE ? [low, high] : [LOWEST_PORT, HIGHEST_PORT];
}

/** `port` brought into the range by going round, as a router's counter does. */
export function wrapPort(port: number, [low, high]: readonly [low: number, high: number]): number {
  const size = high - low + 1;
  return low + ((((port - low) % size) + size) % size);
}
