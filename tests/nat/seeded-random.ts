/**
 * Randomness that repeats: the same seed gives the same numbers on every machine. For the NAT engine, the
 * links of the laboratory and the simulator; never for secrets.
 */

/** A stream of pseudo-random numbers. */
export interface SeededRandom {
  /** Uniform in [0, 1). */
  next(): number;
  /** A whole number, uniform from `low` to `high`, both included. */
  between(low: number, high: number): number;
  /** Exponentially distributed with this mean: the gaps of a Poisson process. */
  exponential(mean: number): number;
  /** A stream of its own that depends on this seed and `label` alone, not on what was drawn before. */
  fork(label: string): SeededRandom;
}

/** The stream of `seed`, a 32-bit whole number (mulberry32, in the public domain). */
export function seededRandom(seed: number): SeededRandom {
  let state = seed | 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
  return {
    next,
    between: (low, high) => low + Math.floor(next() * (high - low + 1)),
    exponential: (mean) => -Math.log(1 - next()) * mean,
    fork: (label) => seededRandom(hashLabel(seed, label)),
  };
}

/** FNV-1a over the label, begun from the seed. */
function hashLabel(seed: number, label: string): number {
  let hash = 0x811c9dc5 ^ seed;
  for (let i = 0; i < label.length; i++) hash = Math.imul(hash ^ label.charCodeAt(i), 0x01000193);
  return hash ^ (hash >>> 15);
}
