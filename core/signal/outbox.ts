/**
 * Signals on their way out: sealed, sent over all brokers of the receiver as soon as each is connected, sent again
 * until they are answered, corrected when the receiver says that our clock differs from its own. Every answer measures
 * the two clocks (as NTP does, RFC 5905 section 8).
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { randomWord } from "../net/random-word.ts";
import type { Timer, World } from "../net/world.ts";
import type { AddressBroker } from "../wire/address.ts";
import { encodeSignal, type SignalBody, type SignalMessage } from "../wire/signal-message.ts";
import type { BrokerLink } from "./broker-link.ts";
import type { BrokerLinks } from "./broker-links.ts";
import { inboxTopic, keyOfNodeId } from "./node-key.ts";
import type { Sealing } from "./sealing.ts";
import type { Senders } from "./senders.ts";
import type { Delivered } from "./signal-inbox.ts";

/** Messages that may still be answered. */
export const PENDING_MAX = 512;
const FIRST_AGAIN_MS = 700;
const AGAIN_FACTOR = 1.6;
const SENT_MAX = 10;
const CORRECTIONS_MAX = 2;
/** Then the way to the broker may be dead, or the peer's. */
const UNANSWERED_MS = 1000;
/** How long a message that needs no answer waits to hear that its time was wrong, or that its broker was not there. */
const AFTERMATH_MS = 10_000;
const SEND_TIMEOUT_MS = 10_000;

export interface OutboxOptions {
  readonly links: BrokerLinks;
  readonly sealer: () => Promise<Sealing>;
  readonly senders: Senders;
  readonly wallMs: () => number;
  /** A request that some broker has was not answered for `UNANSWERED_MS`. */
  readonly unanswered: () => void;
}

export interface Outbox {
  send(
    to: string,
    brokers: readonly AddressBroker[],
    body: SignalBody,
    options: { readonly timeoutMs?: number; readonly signal?: AbortSignal },
  ): Promise<void>;
  request(
    to: string,
    brokers: readonly AddressBroker[],
    body: SignalBody | (() => SignalBody),
    options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
  ): Promise<SignalMessage>;
  /** Whether a message of that id went to that node and may still be answered. */
  awaits(from: string, messageId: string): boolean;
  /** A connection to a broker was made anew: what went over the old one may be lost, and goes out again. */
  reconnected(link: BrokerLink): void;
  /** Takes a message that answers one of ours; false if none waits for it. */
  answered(signal: Delivered): boolean;
  close(reason: P2pdError): void;
}

interface Pending {
  readonly to: string;
  readonly key: Uint8Array;
  readonly body: SignalBody | (() => SignalBody);
  readonly messageId: string;
  readonly brokers: readonly AddressBroker[];
  /** What we said the time was, and our own times of it. */
  readonly sent: Map<number, { readonly wallMs: number; readonly ms: number }>;
  /** Takes back what still waits for a broker. */
  readonly waits: Set<() => void>;
  /** Brokers that took it. */
  readonly takenBy: Set<BrokerLink>;
  corrections: number;
  again?: Timer;
  /** A broker has it. */
  taken(): void;
  replied?(message: SignalMessage): void;
  failed(error: P2pdError): void;
}

export function createOutbox(world: World, options: OutboxOptions): Outbox {
  const { links, sealer, senders, wallMs, unanswered } = options;
  const { time } = world;
  const pendings = new Map<string, Pending>();

  async function seal(pending: Pending): Promise<Uint8Array> {
    const sealing = await sealer();
    const ms = time.now();
    const ownWallMs = Math.round(wallMs());
    const at = Math.round(ownWallMs + (senders.clock(pending.to, ms)?.offsetMs ?? 0));
    const body = typeof pending.body === "function" ? pending.body() : pending.body;
    const text = encodeSignal({ ...body, v: 1, id: pending.messageId, at });
    pending.sent.set(at, { wallMs: ownWallMs, ms });
    return await sealing.seal(pending.key, text);
  }

  async function transmit(pending: Pending): Promise<void> {
    const envelope = await seal(pending);
    if (pendings.get(pending.messageId) !== pending) return;
    for (const stop of pending.waits) stop();
    pending.waits.clear();
    for (const link of links.to(pending.brokers)) {
      pending.waits.add(link.whenConnected(() => hand(pending, link, envelope)));
      link.wake();
    }
  }

  function hand(pending: Pending, link: BrokerLink, envelope: Uint8Array): void {
    if (!link.publish(inboxTopic(pending.key), envelope)) return;
    pending.takenBy.add(link);
    pending.taken();
  }

  /** The id stays, so that a receiver who has it already does not hear it twice, but answers again. */
  async function handAgain(pending: Pending, link: BrokerLink): Promise<void> {
    const envelope = await seal(pending);
    if (pendings.get(pending.messageId) === pending) hand(pending, link, envelope);
  }

  function repeat(pending: Pending, delayMs: number, left: number): void {
    if (left === 0) return;
    pending.again = time.after(delayMs, () => {
      transmit(pending).catch((thrown: unknown) => pending.failed(toP2pdError(thrown)));
      repeat(pending, delayMs * AGAIN_FACTOR, left - 1);
    });
  }

  function forget(pending: Pending): void {
    pendings.delete(pending.messageId);
    pending.again?.cancel();
    for (const stop of pending.waits) stop();
  }

  function start(
    to: string,
    brokers: readonly AddressBroker[],
    body: SignalBody | (() => SignalBody),
    outcome: Pick<Pending, "taken" | "replied" | "failed">,
  ): Pending {
    if (pendings.size >= PENDING_MAX) {
      throw new P2pdError("unavailable", `more than ${PENDING_MAX} signals are under way`);
    }
    const messageId = randomWord(world);
    const pending: Pending = {
      to,
      key: keyOfNodeId(to),
      body,
      messageId,
      brokers,
      sent: new Map(),
      waits: new Set(),
      takenBy: new Set(),
      corrections: 0,
      ...outcome,
    };
    pendings.set(messageId, pending);
    transmit(pending).catch((thrown: unknown) => pending.failed(toP2pdError(thrown)));
    return pending;
  }

  function nobody(brokers: readonly AddressBroker[]): P2pdError {
    const all: readonly BrokerLink[] = links.to(brokers);
    const states = all.map((link) => {
      const { url, state, error } = link.status();
      return `${url}: ${error ?? state}`;
    });
    const why = states.length === 0 ? "no signaling broker is configured" : states.join("; ");
    return new P2pdError("unavailable", `the signal could not be sent (${why})`, { brokers: states });
  }

  return {
    send(to, brokers, body, { timeoutMs = SEND_TIMEOUT_MS, signal }) {
      return new Promise((resolve, reject) => {
        let isTaken = false;
        let isDone = false;
        const done = (error?: P2pdError): void => {
          if (isDone) return;
          isDone = true;
          deadline.cancel();
          signal?.removeEventListener("abort", onAbort);
          forget(pending);
          if (error !== undefined) reject(error);
        };
        const onAbort = (): void => done(new P2pdError("aborted", "the signal was given up"));
        if (signal?.aborted === true) return reject(new P2pdError("aborted", "the signal was given up"));
        const pending = start(to, brokers, body, {
          taken() {
            if (isTaken || isDone) return;
            isTaken = true;
            resolve();
            deadline.cancel();
            // Later brokers still get it, and the receiver may correct our time.
            deadline = time.after(AFTERMATH_MS, () => done(), { background: true });
          },
          failed: done,
        });
        let deadline = time.after(timeoutMs, () => done(nobody(brokers)));
        signal?.addEventListener("abort", onAbort, { once: true });
        if (links.to(brokers).length === 0) done(nobody(brokers));
      });
    },
    request(to, brokers, body, { timeoutMs, signal }) {
      return new Promise((resolve, reject) => {
        let isTaken = false;
        let doubt: Timer | undefined;
        const done = (error?: P2pdError): void => {
          deadline.cancel();
          doubt?.cancel();
          signal?.removeEventListener("abort", onAbort);
          forget(pending);
          if (error !== undefined) reject(error);
        };
        const onAbort = (): void => done(new P2pdError("aborted", "the signal was given up"));
        if (signal?.aborted === true) return reject(new P2pdError("aborted", "the signal was given up"));
        const pending = start(to, brokers, body, {
          taken() {
            isTaken = true;
            doubt ??= time.after(UNANSWERED_MS, unanswered, { background: true });
          },
          replied(message) {
            resolve(message);
            done();
          },
          failed: done,
        });
        const deadline = time.after(timeoutMs, () => {
          const silent = new P2pdError("timeout", `no answer from ${to} within ${timeoutMs} ms`);
          done(isTaken ? silent : nobody(brokers));
        });
        signal?.addEventListener("abort", onAbort, { once: true });
        repeat(pending, FIRST_AGAIN_MS, SENT_MAX - 1);
        if (links.to(brokers).length === 0) done(nobody(brokers));
      });
    },
    reconnected(link) {
      for (const pending of pendings.values()) {
        if (!pending.takenBy.has(link)) continue;
        handAgain(pending, link).catch((thrown: unknown) => pending.failed(toP2pdError(thrown)));
      }
    },
    awaits: (from, messageId) => pendings.get(messageId)?.to === from,
    answered({ from, message, arrivedMs, arrivedWallMs }) {
      const { re } = message;
      const pending = re === undefined ? undefined : pendings.get(re.id);
      if (re === undefined || pending === undefined || pending.to !== from) return false;
      const sent = pending.sent.get(re.at);
      if (sent !== undefined && re.held <= arrivedMs - sent.ms) {
        const offsetMs = (re.got - sent.wallMs + (re.got + re.held - arrivedWallMs)) / 2;
        senders.measure(from, { offsetMs, rttMs: arrivedMs - sent.ms - re.held, measuredAt: arrivedMs });
      }
      if (message.type !== "stale") {
        pending.replied?.(message);
        return pending.replied !== undefined;
      }
      if (pending.corrections++ < CORRECTIONS_MAX) {
        transmit(pending).catch((thrown: unknown) => pending.failed(toP2pdError(thrown)));
      }
      return true;
    },
    close(reason) {
      for (const pending of pendings.values()) pending.failed(reason);
    },
  };
}
