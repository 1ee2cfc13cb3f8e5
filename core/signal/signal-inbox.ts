/**
 * The way of a signal from a broker to whoever acts on it. Cheap checks come first: length, version, tag, copies of
 * what came already, and a budget of openings, so that a flood is dropped before it costs public-key operations; then
 * the seals, the sender's rate, the form, freshness and single use. Whatever is dropped is counted by its reason.
 */
import type { Time } from "../net/world.ts";
import { decodeEnvelope, type Envelope, envelopeTagKey } from "../wire/signal-envelope.ts";
import { decodeSignal, type SignalMessage } from "../wire/signal-message.ts";
import { nodeIdOfKey } from "./node-key.ts";
import type { Sealing } from "./sealing.ts";
import type { Senders } from "./senders.ts";
import { createTokenBucket } from "./token-bucket.ts";

/** How far a message's time may be from ours, either way. */
export const FRESH_MS = 120_000;
/** Clocks move and messages travel: so much older than our own start may a message be. */
const BEFORE_START_MS = 2000;
/** Openings a second that strangers can make us spend; each costs half a millisecond. */
export const OPENINGS_PER_SECOND = 400;
export const OPENINGS_BURST = 200;
/** Openings under way or waiting. */
const OPENINGS_AT_ONCE = 64;
/** Envelopes whose copies are recognised by their tag. */
const KNOWN_TAGS = 4096;

export const DROP_REASONS = [
  "oversized",
  "malformed",
  "unknown-version",
  "unknown-type",
  "stranger",
  "duplicate",
  "replayed",
  "flooded",
  "unsealable",
  "forged",
  "sender-rate",
  "stale",
  "full",
] as const;
/** Why a signal was dropped; docs/signaling.md explains each. */
export type DropReason = (typeof DROP_REASONS)[number];

export type SignalCounters = Readonly<Record<DropReason | "received" | "delivered", number>>;

/** A signal that passed. */
export interface Delivered {
  /** Proven id of the sender. */
  readonly from: string;
  readonly message: SignalMessage;
  /** Wall-clock milliseconds when it came out of the broker. */
  readonly arrivedWallMs: number;
  /** Monotonic. */
  readonly arrivedMs: number;
  /** Names of the brokers that it came over up to now; copies add theirs. */
  readonly via: ReadonlySet<string>;
}

export interface InboxOptions {
  readonly time: Time;
  /** Wall clock that never goes back, or old messages would become fresh again. */
  readonly wallMs: () => number;
  /** Compressed. */
  readonly publicKey: Uint8Array;
  readonly sealing: () => Promise<Sealing>;
  readonly senders: Senders;
  /** Whether a message of this id was sent by us to that node and may still be answered. */
  readonly awaits: (from: string, messageId: string) => boolean;
  readonly deliver: (signal: Delivered) => void;
  /** A proven message whose time is not ours. */
  readonly stale: (signal: Delivered) => void;
  /** A further copy of a message that was delivered: over another broker, or sent again. */
  readonly again: (from: string, messageId: string, via: string) => void;
}

export interface SignalInbox {
  /** Takes what came over the broker `via`. Never throws. */
  push(bytes: Uint8Array, via: string): void;
  readonly counters: SignalCounters;
}

interface Known {
  readonly via: Set<string>;
  delivered?: { readonly from: string; readonly messageId: string };
}

export function createSignalInbox(options: InboxOptions): SignalInbox {
  const { time, wallMs, senders } = options;
  const tagKey = envelopeTagKey(options.publicKey);
  const counters = Object.fromEntries(
    ["received", "delivered", ...DROP_REASONS].map((name) => [name, 0]),
  ) as Record<keyof SignalCounters, number>;
  const openings = createTokenBucket(OPENINGS_PER_SECOND, OPENINGS_BURST, time.now());
  const startedWallMs = wallMs();
  const known = new Map<string, Known>();
  let underWay = 0;

  function drop(reason: DropReason): void {
    counters[reason]++;
  }

  function push(bytes: Uint8Array, via: string): void {
    counters.received++;
    const envelope = decodeEnvelope(bytes, tagKey);
    if (typeof envelope === "string") return drop(envelope);
    const copy = known.get(envelope.tag);
    if (copy !== undefined) {
      if (copy.via.has(via)) return drop("replayed");
      copy.via.add(via);
      drop("duplicate");
      if (copy.delivered !== undefined) {
        options.again(copy.delivered.from, copy.delivered.messageId, via);
      }
      return;
    }
    const nowMs = time.now();
    if (underWay >= OPENINGS_AT_ONCE || !openings.take(nowMs)) return drop("flooded");
    const entry: Known = { via: new Set([via]) };
    if (known.size >= KNOWN_TAGS) known.delete(known.keys().next().value as string);
    known.set(envelope.tag, entry);
    underWay++;
    void open(envelope, entry, nowMs, wallMs()).finally(() => underWay--);
  }

  async function open(
    envelope: Envelope,
    entry: Known,
    arrivedMs: number,
    arrivedWallMs: number,
  ): Promise<void> {
    const sealing = await options.sealing();
    const outer = await sealing.openOuter(envelope);
    if (outer === undefined) return drop("unsealable");
    const from = nodeIdOfKey(outer.sender);
    // Only what a sender proved counts against it, or a stranger could silence it.
    if (!senders.mayHear(from, arrivedMs)) return drop("sender-rate");
    const text = await sealing.openInner(outer);
    if (text === undefined) return drop("forged");
    const admitted = senders.admit(from, arrivedMs);
    if (admitted !== "ok") return drop(admitted === "rate" ? "sender-rate" : "full");
    const message = decodeSignal(text);
    if (typeof message === "string") return drop(message);
    const signal: Delivered = { from, message, arrivedMs, arrivedWallMs, via: entry.via };
    // The reply to a message that only we and its receiver know is fresh whatever the clocks say.
    const isAwaited = message.re !== undefined && options.awaits(from, message.re.id);
    if (!isAwaited && !isFresh(message.at, arrivedWallMs)) {
      drop("stale");
      if (message.type !== "stale") options.stale(signal);
      return;
    }
    const once = senders.once(from, message.id, arrivedMs, 2 * FRESH_MS);
    if (once === "replayed") {
      for (const via of entry.via) options.again(from, message.id, via);
    }
    if (once !== "ok") return drop(once);
    entry.delivered = { from, messageId: message.id };
    counters.delivered++;
    options.deliver(signal);
  }

  function isFresh(at: number, wallMs: number): boolean {
    return Math.abs(wallMs - at) <= FRESH_MS && at >= startedWallMs - BEFORE_START_MS;
  }

  return { push, counters };
}
