/** Signs of trouble come in swarms: the first is followed at once, the next ones together, a second after the last. */
import type { Time, Timer } from "../net/world.ts";

const EVERY_MS = 1000;

export interface Suspicion {
  readonly raise: () => void;
  readonly close: () => void;
}

/** @param follow is called at once where it was not called for a second, and no more often than that */
export function createSuspicion(time: Time, follow: () => void): Suspicion {
  let followedMs = Number.NEGATIVE_INFINITY;
  let later: Timer | undefined;
  let isClosed = false;

  function act(): void {
    later = undefined;
    followedMs = time.now();
    follow();
  }

  return {
    raise() {
      if (isClosed || later !== undefined) return;
      const leftMs = followedMs + EVERY_MS - time.now();
      if (leftMs <= 0) act();
      else later = time.after(leftMs, act, { background: true });
    },
    close() {
      isClosed = true;
      later?.cancel();
    },
  };
}
