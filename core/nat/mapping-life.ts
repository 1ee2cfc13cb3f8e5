/**
 * How long a router keeps a UDP mapping that carries nothing: which silences are tried to find out, and how often a path
 * must show a sign of life for what was found.
 */
import { translates } from "./gather-needs.ts";
import type { NatKind } from "./nat-kind.ts";

/** The longest first: most routers outlive it, and nothing longer would change anything. */
export const SILENCES_MS = [51_000, 31_000, 21_000, 13_000, 9000, 5000] as const;

/** Half of what the impatient among routers allow, and a third of what the peer waits for a sign. */
const UNKNOWN_MS = 10_000;
/** A peer is taken for lost after 30 s. */
const LONGEST_MS = 25_000;
const SHORTEST_MS = 2000;

/**
 * How often to show a sign of life, in milliseconds: half of `lifeMs`, a silence that a mapping has outlived, at most
 * 25 s; 10 s while nothing is known.
 */
export function keepAliveFor(lifeMs: number | undefined): number {
  if (lifeMs === undefined) return UNKNOWN_MS;
  return Math.min(LONGEST_MS, Math.max(SHORTEST_MS, Math.floor(lifeMs / 2)));
}

/** Whether a mapping that was forgotten and is made anew gets another port, so that its own request tells. */
export function changesPorts(kind: NatKind): boolean {
  return translates(kind) && ["random", "independent", "dependent"].includes(kind.delta.type);
}
