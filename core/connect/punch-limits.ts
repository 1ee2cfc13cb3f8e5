/**
 * What is fixed of what a punch may cost, and what a peer may have us do; what settings decide is in
 * `core/nat/punch-budget.ts`. See docs/punching.md.
 */

/** Between two datagrams of a search: 500 a second. */
export const SEARCH_PACE_MS = 2;
/** How long a punch over UDP goes on from its first datagram, by the plan's method. */
export const PUNCH_MS = { certain: 2800, window: 1600, search: 8000 } as const;
/** How long one over TCP goes on: a SYN that was lost or refused is sent again and again. */
export const PUNCH_TCP_MS = { certain: 4000, window: 3000, search: 8000 } as const;
/** Punches at a time that peers have us take part in: one peer's, and everybody's. */
export const MAX_OF_PEER = 4;
export const MAX_AT_ONCE = 32;
/** Punches with fresh samples in one open. */
export const MAX_ROUNDS = 3;

/** With less than this left of a budget no further punch is begun. */
export const LEAST_PACKETS = 64;

/** Connection attempts in one punch over TCP; in a search. */
export const MAX_SYNS = 128;
export const MAX_SEARCH_SYNS = 2560;
