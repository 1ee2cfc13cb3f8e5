/**
 * What is remembered of each proven sender: its rate, the ids of its messages (each counts once), and how its clock
 * differs from ours. Bounded: rates bound the ids of a sender, and a sender is forgotten only when all its ids are
 * too old to be accepted again.
 */
import { createTokenBucket, type TokenBucket } from "./token-bucket.ts";

export const SENDERS_MAX = 1024;
export const MESSAGE_IDS_MAX = 32_768;
export const PER_SENDER_PER_SECOND = 10;
export const PER_SENDER_BURST = 60;
const STALE_ANSWERS_PER_SECOND = 0.5;
const STALE_ANSWERS_BURST = 3;
/** A clock measured longer ago than this says little. */
const CLOCK_LIFETIME_MS = 3_600_000;

/** How another node's clock stands to ours. */
export interface ClockOffset {
  /** Its wall clock minus ours, in milliseconds. Right to within half of `rttMs`. */
  readonly offsetMs: number;
  readonly rttMs: number;
  /** Monotonic milliseconds of the measurement. */
  readonly measuredAt: number;
}

interface Sender {
  readonly bucket: TokenBucket;
  readonly staleAnswers: TokenBucket;
  /** Message ids, and when they may be forgotten (monotonic). In order of arrival. */
  readonly ids: Map<string, number>;
  lastMs: number;
}

export interface Senders {
  /** Whether a message of this sender would be within its rate; says yes of unknown ones. */
  mayHear(id: string, nowMs: number): boolean;
  /** Counts a proven message. */
  admit(id: string, nowMs: number): "ok" | "rate" | "full";
  /** Remembers a message id for `keepMs`; false if it was seen already, or there is no room to remember it. */
  once(id: string, messageId: string, nowMs: number, keepMs: number): "ok" | "replayed" | "full";
  /** Whether the sender may be told once more that its clock differs. */
  mayTellTime(id: string, nowMs: number): boolean;
  measure(id: string, sample: ClockOffset): void;
  clock(id: string, nowMs: number): ClockOffset | undefined;
  readonly size: number;
  readonly messageIds: number;
}

export function createSenders(): Senders {
  const senders = new Map<string, Sender>();
  const clocks = new Map<string, ClockOffset>();
  let messageIds = 0;

  function forgetIds(sender: Sender, nowMs: number): void {
    for (const [messageId, until] of sender.ids) {
      if (until > nowMs) break;
      sender.ids.delete(messageId);
      messageIds--;
    }
  }

  function makeRoom(nowMs: number): boolean {
    for (const [id, sender] of senders) {
      forgetIds(sender, nowMs);
      if (sender.ids.size === 0) senders.delete(id);
    }
    return senders.size < SENDERS_MAX && messageIds < MESSAGE_IDS_MAX;
  }

  return {
    mayHear: (id, nowMs) => senders.get(id)?.bucket.has(nowMs) ?? true,
    admit(id, nowMs) {
      let sender = senders.get(id);
      if (sender === undefined) {
        if (senders.size >= SENDERS_MAX && !makeRoom(nowMs)) return "full";
        sender = {
          bucket: createTokenBucket(PER_SENDER_PER_SECOND, PER_SENDER_BURST, nowMs),
          staleAnswers: createTokenBucket(STALE_ANSWERS_PER_SECOND, STALE_ANSWERS_BURST, nowMs),
          ids: new Map(),
          lastMs: nowMs,
        };
        senders.set(id, sender);
      }
      sender.lastMs = nowMs;
      return sender.bucket.take(nowMs) ? "ok" : "rate";
    },
    once(id, messageId, nowMs, keepMs) {
      const sender = senders.get(id);
      if (sender === undefined) return "full";
      forgetIds(sender, nowMs);
      if (sender.ids.has(messageId)) return "replayed";
      if (messageIds >= MESSAGE_IDS_MAX && !makeRoom(nowMs)) return "full";
      // Making room may have let go of this sender, whose ids were all old.
      senders.set(id, sender);
      sender.ids.set(messageId, nowMs + keepMs);
      messageIds++;
      return "ok";
    },
    mayTellTime: (id, nowMs) => senders.get(id)?.staleAnswers.take(nowMs) ?? false,
    measure(id, sample) {
      const known = clocks.get(id);
      const isBetter =
        known === undefined ||
        sample.rttMs <= known.rttMs ||
        sample.measuredAt - known.measuredAt > 60_000 ||
        Math.abs(sample.offsetMs - known.offsetMs) > (sample.rttMs + known.rttMs) / 2;
      if (!isBetter) return;
      clocks.delete(id);
      if (clocks.size >= SENDERS_MAX) clocks.delete(clocks.keys().next().value as string);
      clocks.set(id, sample);
    },
    clock(id, nowMs) {
      const known = clocks.get(id);
      return known !== undefined && nowMs - known.measuredAt < CLOCK_LIFETIME_MS ? known : undefined;
    },
    get size() {
      return senders.size;
    },
    get messageIds() {
      return messageIds;
    },
  };
}
