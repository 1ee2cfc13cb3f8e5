/**
 * When to send a STUN request again and when to give up (RFC 8489 sections 6.2.1 and 6.2.2): a machine with no
 * socket and no clock. Whoever runs it passes the time and does what it says.
 */

export interface TransactionTiming {
  /** Milliseconds before the first retransmission; each next wait is twice the last. */
  readonly rtoMs: number;
  /** Rc: how often the request is sent in all. 1 over a reliable transport. */
  readonly attempts: number;
  /** Milliseconds that the last sending waits for its answer (Rm x RTO; over a reliable transport Ti). */
  readonly lastWaitMs: number;
  /** Gives up this many milliseconds after the start even if the above would go on. */
  readonly timeoutMs?: number;
}

/** RFC 8489 section 6.2.1: 500 ms, 7 sendings, 16 times RTO behind the last; 39.5 s in all. */
export function datagramTiming(rtoMs = 500, timeoutMs?: number): TransactionTiming {
  return withTimeout({ rtoMs, attempts: 7, lastWaitMs: 16 * rtoMs }, timeoutMs);
}

/** RFC 8489 section 6.2.2: sent once; Ti is 39.5 s. */
export function reliableTiming(timeoutMs?: number): TransactionTiming {
  return withTimeout({ rtoMs: 39_500, attempts: 1, lastWaitMs: 39_500 }, timeoutMs);
}

function withTimeout(timing: TransactionTiming, timeoutMs: number | undefined): TransactionTiming {
  return timeoutMs === undefined ? timing : { ...timing, timeoutMs };
}

/** `send` and `wait`: come back at `wakeAtMs`. `expired`: no answer will be awaited any more. */
export type TransactionStep =
  | { readonly action: "send" | "wait"; readonly wakeAtMs: number }
  | { readonly action: "expired" };

export interface Transaction {
  /** How often the request was sent so far. */
  readonly sent: number;
  /** What is due at `nowMs`. A caller that comes late sends once, not once for every wait it missed. */
  advance(nowMs: number): TransactionStep;
}

/** Starts a transaction at `startMs`; the first `advance` says `send`. */
export function createTransaction(startMs: number, timing: TransactionTiming): Transaction {
  const deadlineMs = startMs + (timing.timeoutMs ?? Number.POSITIVE_INFINITY);
  let sent = 0;
  let dueMs = startMs;
  return {
    get sent() {
      return sent;
    },
    advance(nowMs) {
      if (nowMs >= deadlineMs || (sent === timing.attempts && nowMs >= dueMs)) return { action: "expired" };
      if (nowMs < dueMs) return { action: "wait", wakeAtMs: Math.min(dueMs, deadlineMs) };
      sent++;
      dueMs = nowMs + (sent === timing.attempts ? timing.lastWaitMs : timing.rtoMs * 2 ** (sent - 1));
      return { action: "send", wakeAtMs: Math.min(dueMs, deadlineMs) };
    },
  };
}
