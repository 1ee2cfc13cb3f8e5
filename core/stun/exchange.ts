/**
 * Requests on their way over one transport: gives each a transaction id, sends it again when due, and finds for
 * every answer the request it belongs to (RFC 8489 section 6.3). Knows neither UDP nor TCP, which feed it, nor
 * what the answers mean: an error response is an answer too.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, formatEndpoint, sameEndpoint } from "../ip.ts";
import type { Timer, World } from "../net/world.ts";
import * as kinds from "../wire/stun-attributes.ts";
import type { IntegrityHash } from "../wire/stun-integrity.ts";
import {
  BINDING,
  decodeStun,
  encodeStun,
  hasAttribute,
  looksLikeStun,
  readAttribute,
  type StunMessage,
  unknownRequired,
  verifyIntegrity,
} from "../wire/stun.ts";
import { createTransaction, datagramTiming, reliableTiming, type Transaction } from "./transaction.ts";

export interface StunRequest {
  readonly to: Endpoint;
  /** BINDING unless given. */
  readonly method?: number;
  readonly attributes?: readonly kinds.Attribute[];
  /** Signs the request; an answer must then be signed with the same key. */
  readonly integrity?: { readonly key: Uint8Array; readonly hash: IntegrityHash };
  readonly fingerprint?: boolean;
  /** Sends no magic cookie, as RFC 3489 did. Over UDP only. */
  readonly classic?: boolean;
  /** Takes the answer from any address, not from `to` alone: for CHANGE-REQUEST. */
  readonly fromAnyone?: boolean;
  /** Attributes below 0x8000 that the answer may carry beside those of STUN itself. */
  readonly understands?: readonly number[];
  /** RTO in milliseconds, 500 unless given; means nothing over TCP. */
  readonly rtoMs?: number;
  /** Milliseconds until it gives up; 39,500 unless given, as the RFC has it. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface StunResponse {
  /** A success or an error response, on octets of its own. */
  readonly message: StunMessage;
  readonly from: Endpoint;
  /** Milliseconds from the first sending; where `sent` is above 1, an upper bound of the round trip. */
  readonly rttMs: number;
  /** How often the request was sent. */
  readonly sent: number;
}

/** What went out and what came in, in messages. */
export interface StunCounters {
  readonly sent: number;
  readonly retransmitted: number;
  readonly answered: number;
  readonly timedOut: number;
  /** Answers whose transaction nobody waits for: late, repeated or made up. */
  readonly unexpected: number;
  /** Answers from another address than the request went to. */
  readonly wrongSource: number;
  /** Answers that lack the integrity they should have. */
  readonly wrongIntegrity: number;
  /** Answers to our transactions that do not decode. */
  readonly malformed: number;
}

/** A transport that STUN requests can be made over: `attachStun` (UDP), `attachStunStream` (TCP). */
export interface StunTransport {
  readonly reliable: boolean;
  readonly local: Endpoint;
  readonly counters: StunCounters;
  /**
   * Sends a request and resolves with its answer, success or error. Rejects with `timeout`, `aborted`,
   * `closed`, `send-failed`, `bad-argument`, or `protocol` when the answer demands what nobody here knows.
   */
  request(request: StunRequest): Promise<StunResponse>;
}

export interface StunExchange {
  readonly counters: StunCounters;
  request(request: StunRequest): Promise<StunResponse>;
  /** Takes what arrived; false if it is no STUN response and somebody else may look at it. */
  receive(bytes: Uint8Array, from: Endpoint): boolean;
  /** Rejects whatever is on its way and all that comes after. */
  fail(reason: P2pdError): void;
}

interface Pending {
  readonly request: StunRequest;
  readonly method: number;
  readonly startMs: number;
  readonly transaction: Transaction;
  readonly settle: (outcome: StunResponse | P2pdError) => void;
  strangers: number;
  stranger: Endpoint | undefined;
}

/** At most so many requests at once on one transport; more are refused with `send-failed`. */
const MAX_PENDING = 4096;
const KNOWN: readonly number[] = Object.values(kinds).flatMap((kind) =>
  typeof kind === "object" && "type" in kind ? [kind.type] : [],
);
/**
 * Error responses that a server gives before it knows whom it talks to (RFC 8489 sections 9.1.3, 9.2.4); another realm
 * than its own coturn answers with 437, or 441.
 */
const UNSIGNED_ERRORS: ReadonlySet<number> = new Set([400, 401, 437, 438, 441]);

/** Makes the exchange of one transport, which sends octets by `send`. */
export function createStunExchange(
  world: Pick<World, "time" | "randomBytes">,
  reliable: boolean,
  send: (bytes: Uint8Array, to: Endpoint) => void,
): StunExchange {
  const counters = {
    sent: 0,
    retransmitted: 0,
    answered: 0,
    timedOut: 0,
    unexpected: 0,
    wrongSource: 0,
    wrongIntegrity: 0,
    malformed: 0,
  };
  const pending = new Map<string, Pending>();
  let ended: P2pdError | undefined;

  function request(asked: StunRequest): Promise<StunResponse> {
    return new Promise((resolve, reject) => {
      const { signal } = asked;
      if (ended !== undefined) throw ended;
      if (signal?.aborted === true) throw abortedError(asked.to);
      if (pending.size >= MAX_PENDING) {
        throw new P2pdError("send-failed", `more than ${MAX_PENDING} STUN requests at once on one transport`);
      }
      const transactionId = world.randomBytes(asked.classic === true ? 16 : 12);
      const bytes = encodeRequest(asked, transactionId);
      const key = keyOf(bytes);
      const startMs = world.time.now();
      const timing = reliable
        ? reliableTiming(asked.timeoutMs)
        : datagramTiming(asked.rtoMs, asked.timeoutMs);
      let timer: Timer | undefined;

      function settle(outcome: StunResponse | P2pdError): void {
        if (!pending.delete(key)) return;
        timer?.cancel();
        signal?.removeEventListener("abort", abort);
        if (outcome instanceof P2pdError) reject(outcome);
        else resolve(outcome);
      }
      function abort(): void {
        settle(abortedError(asked.to));
      }
      function advance(): void {
        const step = one.transaction.advance(world.time.now());
        if (step.action === "expired") {
          counters.timedOut++;
          return settle(timeoutError(one, world.time.now()));
        }
        // Before sending: a transport may deliver the answer, or fail, while it sends.
        timer = world.time.after(Math.max(0, step.wakeAtMs - world.time.now()), advance);
        if (step.action === "wait") return;
        if (one.transaction.sent === 1) counters.sent++;
        else counters.retransmitted++;
        try {
          send(bytes, asked.to);
        } catch (thrown) {
          settle(toP2pdError(thrown, "send-failed", `STUN request to ${formatEndpoint(asked.to)}`));
        }
      }

      const one: Pending = {
        request: asked,
        method: asked.method ?? BINDING,
        startMs,
        transaction: createTransaction(startMs, timing),
        settle,
        strangers: 0,
        stranger: undefined,
      };
      pending.set(key, one);
      signal?.addEventListener("abort", abort, { once: true });
      advance();
    });
  }

  function receive(bytes: Uint8Array, from: Endpoint): boolean {
    // Two zero bits, then a class of success or error: everything else is not an answer.
    if (bytes.length < 20 || ((bytes[0] as number) & 0xc1) !== 1) return false;
    const one = pending.get(keyOf(bytes));
    if (one === undefined) {
      if (!looksLikeStun(bytes)) return false;
      counters.unexpected++;
      return true;
    }
    const message = decodeStun(bytes.slice(), { classic: one.request.classic === true });
    if (typeof message === "string") counters.malformed++;
    else if (message.method !== one.method) counters.unexpected++;
    else if (one.request.fromAnyone !== true && !sameEndpoint(from, one.request.to)) {
      counters.wrongSource++;
      one.strangers++;
      one.stranger = from;
    } else if (!isSigned(message, one.request)) counters.wrongIntegrity++;
    else {
      counters.answered++;
      one.settle(judge(message, one, from));
    }
    return true;
  }

  function judge(message: StunMessage, one: Pending, from: Endpoint): StunResponse | P2pdError {
    const unknown = unknownRequired(message, new Set([...KNOWN, ...(one.request.understands ?? [])]));
    if (unknown.length > 0) {
      const list = unknown.map((type) => `0x${type.toString(16).padStart(4, "0")}`).join(", ");
      const text = `${formatEndpoint(from)} answered with attributes that must be understood and are not known: ${list}`;
      return new P2pdError("protocol", text, { unknown });
    }
    return { message, from, rttMs: world.time.now() - one.startMs, sent: one.transaction.sent };
  }

  return {
    counters,
    request,
    receive,
    fail(reason) {
      ended ??= reason;
      for (const one of pending.values()) one.settle(reason);
    },
  };
}

function encodeRequest(asked: StunRequest, transactionId: Uint8Array): Uint8Array {
  const { integrity } = asked;
  return encodeStun({
    class: "request",
    method: asked.method ?? BINDING,
    transactionId,
    attributes: asked.attributes ?? [],
    ...(integrity === undefined ? {} : { integrity: { key: integrity.key, hashes: [integrity.hash] } }),
    fingerprint: asked.fingerprint === true,
  });
}

function isSigned(message: StunMessage, { integrity }: StunRequest): boolean {
  if (integrity === undefined || verifyIntegrity(message, integrity.key, integrity.hash)) return true;
  if (
    hasAttribute(message, kinds.MESSAGE_INTEGRITY) ||
    hasAttribute(message, kinds.MESSAGE_INTEGRITY_SHA256)
  ) {
    return false;
  }
  const error = message.class === "error" ? readAttribute(message, kinds.ERROR_CODE) : undefined;
  return error !== undefined && UNSIGNED_ERRORS.has(error.code);
}

/** Cookie and transaction id, one character per octet. */
function keyOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + 4, 16).toString("latin1");
}

function abortedError(to: Endpoint): P2pdError {
  return new P2pdError("aborted", `the STUN request to ${formatEndpoint(to)} was called off`);
}

function timeoutError(one: Pending, nowMs: number): P2pdError {
  const waitedMs = Math.round(nowMs - one.startMs);
  const { sent } = one.transaction;
  const heard = one.stranger === undefined ? "" : `; ${formatEndpoint(one.stranger)} answered in its place`;
  return new P2pdError(
    "timeout",
    `${formatEndpoint(one.request.to)} did not answer a STUN request within ${waitedMs} ms (sent ${sent} times)${heard}`,
    { sent, waitedMs, wrongSource: one.strangers },
  );
}
