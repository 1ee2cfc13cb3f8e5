/** The budget of punches: what one open may cost a router, and what a peer may have us do. See docs/punching.md. */

/** Datagrams to the peer in one punch over UDP, all pairs together. */
export const MAX_PACKETS = 4096;
/** UDP sockets at once in one punch. */
export const MAX_SOCKETS = 320;
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

/** Connection attempts in one punch over TCP; in a search. */
export const MAX_SYNS = 128;
export const MAX_SEARCH_SYNS = 2560;
