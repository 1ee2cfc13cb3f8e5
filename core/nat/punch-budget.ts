/**
 * What a punch may cost at most: both sides say theirs, and each keeps to the smaller of the two, in what it sends as in
 * the plan that both compute. The arithmetic is in docs/punching.md.
 */

export interface PunchBudget {
  /** Datagrams, SYNs and requests to STUN servers together, of one side. */
  readonly packets: number;
  /** UDP sockets at once, of one side. */
  readonly sockets: number;
  /** Milliseconds. */
  readonly ms: number;
}

/** Of one open, unless settings say otherwise. */
export const PUNCH_BUDGET: PunchBudget = { packets: 4096, sockets: 320, ms: 15_000 };

/** What both allow. */
export function smallerBudget(a: PunchBudget, b: PunchBudget): PunchBudget {
  return {
    packets: Math.min(a.packets, b.packets),
    sockets: Math.min(a.sockets, b.sockets),
    ms: Math.min(a.ms, b.ms),
  };
}
