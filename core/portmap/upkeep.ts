/**
 * When mappings are renewed, looked after and given up: a machine with no socket and no clock. Whoever runs it passes
 * the time and does what it says. Also the rule by which an epoch shows that a router forgot its mappings.
 */

/** How often a router is asked whether it still knows its mappings: it may lose them at any time, unheard. */
export const CHECK_MS = 6000;
/** After a check that nobody answered. */
const CHECK_AGAIN_MS = 500;
const CHECKS_UNTIL_LOST = 2;
/** RFC 6887 section 11.2.1. */
const LEAST_RENEWAL_WAIT_MS = 4000;
/** A router that grants less is not asked more often for that. */
const LEAST_LIFETIME_SECONDS = 8;

export type UpkeepStep =
  /** Come back at `wakeAtMs`. */
  | { readonly do: "wait"; readonly wakeAtMs: number }
  /** Ask the router whether it knows the mappings, then call `checked` or `unchecked`. */
  | { readonly do: "check" }
  /** Map again with the same ports, then call `renewed` or `unrenewed`. */
  | { readonly do: "renew" }
  /** The mappings are gone or nobody answers: begin anew with a search. */
  | { readonly do: "give-up"; readonly why: "expired" | "silent" | "forgotten" };

export interface Upkeep {
  /** When the next renewal is due; infinite for a permanent mapping. */
  readonly renewAtMs: number;
  next(nowMs: number): UpkeepStep;
  /** @param lifetimeSeconds the shortest of the mappings; 0: permanent */
  renewed(nowMs: number, lifetimeSeconds: number): void;
  unrenewed(nowMs: number): void;
  /** @param intact false: the router forgot them, or its address changed */
  checked(nowMs: number, intact: boolean): void;
  unchecked(nowMs: number): void;
}

/** Begins with mappings that were granted at `nowMs`. */
export function createUpkeep(nowMs: number, lifetimeSeconds: number): Upkeep {
  let expiresAtMs = 0;
  let renewAtMs = 0;
  let checkAtMs = 0;
  let silent = 0;
  let isForgotten = false;
  let isRefused = false;

  function renewed(at: number, granted: number): void {
    const lifetime = granted === 0 ? 0 : Math.max(granted, LEAST_LIFETIME_SECONDS);
    expiresAtMs = lifetime === 0 ? Number.POSITIVE_INFINITY : at + lifetime * 1000;
    renewAtMs = lifetime === 0 ? Number.POSITIVE_INFINITY : at + lifetime * 500;
    checkAtMs = at + CHECK_MS;
    silent = 0;
    isForgotten = false;
    isRefused = false;
  }
  renewed(nowMs, lifetimeSeconds);

  return {
    get renewAtMs() {
      return renewAtMs;
    },
    next(now) {
      if (silent >= CHECKS_UNTIL_LOST) return { do: "give-up", why: "silent" };
      // What is gone cannot wait for the next renewal.
      if (isForgotten && isRefused) return { do: "give-up", why: "forgotten" };
      if (now >= expiresAtMs) return { do: "give-up", why: "expired" };
      if (now >= renewAtMs) return { do: "renew" };
      if (now >= checkAtMs) return { do: "check" };
      return { do: "wait", wakeAtMs: Math.min(renewAtMs, checkAtMs, expiresAtMs) };
    },
    renewed,
    unrenewed(now) {
      isRefused = true;
      // Half of what is left, again and again, but not in a rush.
      const left = Number.isFinite(expiresAtMs) ? (expiresAtMs - now) / 2 : LEAST_RENEWAL_WAIT_MS;
      renewAtMs = now + Math.max(LEAST_RENEWAL_WAIT_MS, left);
      checkAtMs = Math.min(checkAtMs, now + CHECK_AGAIN_MS);
    },
    checked(now, intact) {
      silent = 0;
      checkAtMs = now + CHECK_MS;
      if (intact) return;
      isForgotten = true;
      isRefused = false;
      renewAtMs = now;
    },
    unchecked(now) {
      silent++;
      checkAtMs = now + CHECK_AGAIN_MS;
    },
  };
}

/** An epoch as a router told it, and our own clock at that moment. */
export interface EpochReading {
  readonly seconds: number;
  readonly atMs: number;
}

/** Whether a router has kept its table since the earlier reading (RFC 6887 section 8.5). */
export function isSameEpoch(earlier: EpochReading, later: EpochReading): boolean {
  if (later.seconds + 1 < earlier.seconds) return false;
  const ours = (later.atMs - earlier.atMs) / 1000;
  const theirs = later.seconds - earlier.seconds;
  return ours + 2 >= theirs - theirs / 16 && theirs + 2 >= ours - ours / 16;
}

const FIRST_SEARCH_MS = 15_000;
const LAST_SEARCH_MS = 600_000;
const SEARCH_AFTER_LOSS_MS = 3000;
const QUICK_SEARCHES = 20;

/** Milliseconds until the next search after `failures` that found nothing; sooner where there was a mapping before. */
export function searchDelayMs(failures: number, hadMapping: boolean): number {
  if (hadMapping && failures <= QUICK_SEARCHES) return SEARCH_AFTER_LOSS_MS;
  const earlier = hadMapping ? failures - QUICK_SEARCHES : failures;
  return Math.min(FIRST_SEARCH_MS * 2 ** Math.max(0, earlier - 1), LAST_SEARCH_MS);
}
