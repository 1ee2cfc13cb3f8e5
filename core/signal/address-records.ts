/**
 * Address records on brokers: keeps our own there, signed anew before it grows old, and finds those of others, the
 * newest of what several brokers have. Their bytes are read in `core/wire/signal-record.ts`.
 */
import { createPrivateKey } from "node:crypto";
import { P2pdError } from "../errors.ts";
import type { Timer, World } from "../net/world.ts";
import type { AddressBroker } from "../wire/address.ts";
import { type AddressRecord, decodeRecord, encodeRecord, type RecordFault } from "../wire/signal-record.ts";
import type { BrokerLink } from "./broker-link.ts";
import type { BrokerLinks } from "./broker-links.ts";
import { keyOfNodeId, recordTopic, type SignalIdentity } from "./node-key.ts";

/** No broker has said anything to a question for so long: the ways to them may be dead. */
const UNANSWERED_MS = 1000;
export const RECORD_LIFETIME_SECONDS = 7 * 24 * 3600;
const REFRESH_MS = 6 * 3_600_000;
/** After the first record came, others may have a newer one. */
const GRACE_MS = 150;
/** A broker of several machines may find what it retains a moment after it answered. */
const AFTER_ANSWER_MS = 200;
/** Clocks may differ by this much before a record counts as expired. */
const SKEW_MS = 3_600_000;
/** Records of one fetch that are looked at; each costs a verification. */
const LOOKED_AT_MAX = 16;

export type RecordCounters = Readonly<Record<RecordFault | "expired" | "accepted", number>>;

export interface FetchOptions {
  /** Where to look beside our own brokers. */
  readonly brokers?: readonly AddressBroker[];
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface AddressRecords {
  /** Keeps this address line on our brokers from now on. Throws `too-large`. */
  publish(line: string): void;
  /** To be called when one of our brokers was reached. */
  connected(link: BrokerLink): void;
  /**
   * Ends before its time once every broker has answered or cannot be reached at the moment, and at least one has
   * answered. Rejects with `no-such-peer` (no broker has one), `unavailable` (no broker reached), `aborted`,
   * `bad-argument`.
   */
  fetch(id: string, options: FetchOptions): Promise<AddressRecord>;
  readonly counters: RecordCounters;
  close(): void;
}

export function createAddressRecords(
  world: World,
  identity: SignalIdentity,
  links: () => BrokerLinks,
  wallMs: () => number,
  /** Told when no broker has answered a fetch for a while. */
  unanswered: () => void,
): AddressRecords {
  const { time } = world;
  const topic = recordTopic(identity.publicKey);
  const counters = { oversized: 0, malformed: 0, "unknown-version": 0, forged: 0, expired: 0, accepted: 0 };
  let line: string | undefined;
  let bytes: Uint8Array | undefined;
  let signedMs = 0;
  let refresh: Timer | undefined;

  function renew(): void {
    if (line === undefined) return;
    signedMs = Math.max(signedMs + 1, Math.round(wallMs()));
    const record: AddressRecord = { line, signedMs, lifetimeSeconds: RECORD_LIFETIME_SECONDS };
    const key = createPrivateKey(identity.credentials.privateKeyPem);
    bytes = encodeRecord(record, identity.publicKey, key, world.randomBytes(12));
    for (const link of links().own) connected(link);
    refresh?.cancel();
    refresh = time.after(REFRESH_MS, renew, { background: true });
  }

  function connected(link: BrokerLink): void {
    if (bytes === undefined) return;
    link.publish(topic, bytes, { retain: true, expirySeconds: RECORD_LIFETIME_SECONDS });
  }

  return {
    counters,
    connected,
    publish(next) {
      if (next === line) return;
      const before = line;
      line = next;
      try {
        renew();
      } catch (error) {
        line = before;
        throw error;
      }
    },
    fetch(id, { brokers = [], timeoutMs, signal }) {
      const { promise, resolve, reject } = Promise.withResolvers<AddressRecord>();
      const key = keyOfNodeId(id);
      const wanted = recordTopic(key);
      const asked = new Set([...links().own, ...(brokers.length === 0 ? [] : links().to(brokers))]);
      let newest: AddressRecord | undefined;
      let grace: Timer | undefined;
      let lookedAt = 0;
      let last: Timer | undefined;
      let isOver = false;
      /** Of each broker: whether it has answered; those that are still to be heard of are missing. */
      const heard = new Map<BrokerLink, boolean>();

      const finish = (): void => {
        isOver = true;
        deadline.cancel();
        doubt.cancel();
        grace?.cancel();
        last?.cancel();
        signal?.removeEventListener("abort", onAbort);
        for (const stop of stops) stop();
        if (newest !== undefined) return resolve(newest);
        const answered = [...heard.values()].filter((isAnswered) => isAnswered).length;
        const whom = answered === asked.size ? `${answered}` : `${answered} (of ${asked.size} asked)`;
        reject(
          answered === 0
            ? new P2pdError("unavailable", `none of ${asked.size} signaling brokers could be asked for ${id}`)
            : new P2pdError("no-such-peer", `none of ${whom} signaling brokers has an address of ${id}`),
        );
      };
      const onAbort = (): void => {
        newest = undefined;
        reject(new P2pdError("aborted", `the search for the address of ${id} was aborted`));
        finish();
      };
      const take = (payload: Uint8Array): void => {
        if (lookedAt++ >= LOOKED_AT_MAX) return;
        const record = decodeRecord(payload, key);
        if (typeof record === "string") {
          counters[record]++;
        } else if (record.signedMs + record.lifetimeSeconds * 1000 + SKEW_MS < wallMs()) {
          counters.expired++;
        } else {
          counters.accepted++;
          if (newest === undefined || record.signedMs > newest.signedMs) newest = record;
          if (asked.size === 1) finish();
          else grace ??= time.after(GRACE_MS, finish);
        }
      };
      const heardOf = (link: BrokerLink, isAnswered: boolean): void => {
        if (isOver) return;
        heard.set(link, isAnswered);
        last?.cancel();
        const isAll = heard.size === asked.size && [...heard.values()].includes(true);
        last = isAll ? time.after(AFTER_ANSWER_MS, finish) : undefined;
      };
      const deadline = time.after(timeoutMs, finish);
      const nobody = (): void => {
        if (heard.size === 0 && newest === undefined) unanswered();
      };
      const doubt = time.after(UNANSWERED_MS, nobody, { background: true });
      const stops = [...asked].map((link) =>
        link.subscribe(wanted, take, (isAnswered) => heardOf(link, isAnswered)),
      );
      signal?.addEventListener("abort", onAbort, { once: true });
      if (signal?.aborted === true) onAbort();
      else if (asked.size === 0) finish();
      return promise;
    },
    close() {
      refresh?.cancel();
    },
  };
}
