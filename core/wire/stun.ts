/**
 * STUN messages as values (RFC 8489, and what servers of RFC 5389 and RFC 3489 send). Decoding splits a datagram
 * into attributes without copying and never throws: it answers with a message or with the reason why it is none.
 * Values of attributes are read one by one by their kinds (`stun-attributes.ts`). Sockets, retransmission and
 * matching of answers belong to `core/stun/`.
 *
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |0 0|     STUN Message Type     |         Message Length        |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                         Magic Cookie                          |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                     Transaction ID (96 bits)                  |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 */
import { P2pdError } from "../errors.ts";
import type { Attribute, AttributeKind } from "./stun-attributes.ts";
import { FINGERPRINT, MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256 } from "./stun-attributes.ts";
import { fingerprintOf, HMAC_OCTETS, type IntegrityHash, integrityOf, sameSum } from "./stun-integrity.ts";

export const STUN_HEADER_OCTETS = 20;
export const MAGIC_COOKIE = 0x2112a442;
/** The one method of STUN itself; TURN has more. */
export const BINDING = 0x001;
/** More attributes than this in one message are refused: no protocol comes near it. */
export const MAX_ATTRIBUTES = 64;

export type StunClass = "request" | "indication" | "success" | "error";

const CLASSES: readonly StunClass[] = ["request", "indication", "success", "error"];

/** Where an attribute's value stands in its message. */
export interface RawAttribute {
  readonly type: number;
  readonly start: number;
  readonly length: number;
}

/** A message that was taken apart. Everything is a view of `bytes`; keep a copy of those to keep the message. */
export interface StunMessage {
  readonly class: StunClass;
  readonly method: number;
  /** Whether it has no magic cookie: a message of RFC 3489. */
  readonly classic: boolean;
  /** 12 octets, or 16 in a classic message. */
  readonly transactionId: Uint8Array;
  /** In order, without those that RFC 8489 section 14 says to ignore behind an integrity attribute. */
  readonly attributes: readonly RawAttribute[];
  readonly bytes: Uint8Array;
}

/** Why octets are no STUN message; fit to count by. */
export type StunRefusal =
  | "too-short"
  | "not-stun"
  | "no-cookie"
  | "wrong-length"
  | "broken-attribute"
  | "too-many-attributes"
  | "wrong-fingerprint";

export interface DecodeOptions {
  /** Takes messages without a magic cookie too (RFC 3489). */
  readonly classic?: boolean;
}

/**
 * Takes one whole message apart (RFC 8489 sections 5 and 6.3). `bytes` must hold it exactly. A FINGERPRINT that
 * is there must be right and last; whether there must be one, the caller decides with `hasAttribute`.
 */
export function decodeStun(bytes: Uint8Array, options?: DecodeOptions): StunMessage | StunRefusal {
  if (bytes.length < STUN_HEADER_OCTETS) return "too-short";
  const type = u16(bytes, 0);
  if (type > 0x3fff) return "not-stun";
  const classic = u16(bytes, 4) !== 0x2112 || u16(bytes, 6) !== 0xa442;
  if (classic && options?.classic !== true) return "no-cookie";
  const length = u16(bytes, 2);
  if ((length & 3) !== 0 || bytes.length !== STUN_HEADER_OCTETS + length) return "wrong-length";
  const attributes = splitAttributes(bytes);
  if (typeof attributes === "string") return attributes;
  return {
    class: CLASSES[((type >> 7) & 2) | ((type >> 4) & 1)] as StunClass,
    method: ((type >> 2) & 0xf80) | ((type >> 1) & 0x70) | (type & 0xf),
    classic,
    transactionId: bytes.subarray(classic ? 4 : 8, STUN_HEADER_OCTETS),
    attributes,
    bytes,
  };
}

function splitAttributes(bytes: Uint8Array): RawAttribute[] | StunRefusal {
  const attributes: RawAttribute[] = [];
  // Which integrity attribute was passed: behind SHA-1 only SHA-256 and FINGERPRINT count, behind SHA-256 only the latter.
  let sealed = 0;
  for (let at = STUN_HEADER_OCTETS, seen = 0; at < bytes.length; seen++) {
    if (at + 4 > bytes.length) return "broken-attribute";
    if (seen === MAX_ATTRIBUTES) return "too-many-attributes";
    const type = u16(bytes, at);
    const length = u16(bytes, at + 2);
    const next = at + 4 + ((length + 3) & ~3);
    if (next > bytes.length) return "broken-attribute";
    if (type === FINGERPRINT.type) {
      const right = length === 4 && next === bytes.length && u32(bytes, at + 4) === fingerprintOf(bytes, at);
      if (!right) return "wrong-fingerprint";
      attributes.push({ type, start: at + 4, length });
    } else if (sealed === 0 || (sealed === 1 && type === MESSAGE_INTEGRITY_SHA256.type)) {
      attributes.push({ type, start: at + 4, length });
      if (type === MESSAGE_INTEGRITY.type) sealed = 1;
      if (type === MESSAGE_INTEGRITY_SHA256.type) sealed = 2;
    }
    at = next;
  }
  return attributes;
}

/** Whether octets on a shared port look like STUN: two zero bits, the cookie, a length that fits. */
export function looksLikeStun(bytes: Uint8Array): boolean {
  return (
    bytes.length >= STUN_HEADER_OCTETS &&
    (bytes[0] as number) < 0x40 &&
    u32(bytes, 4) === MAGIC_COOKIE &&
    u16(bytes, 2) === bytes.length - STUN_HEADER_OCTETS
  );
}

/**
 * The value of the first attribute of that kind; undefined when it is absent or its value is not what its section
 * prescribes. Later ones of the same type are ignored (RFC 8489 section 14).
 */
export function readAttribute<T>(message: StunMessage, kind: AttributeKind<T>): T | undefined {
  const found = find(message, kind.type);
  if (found === undefined) return undefined;
  const { bytes } = message;
  return kind.read(bytes.subarray(found.start, found.start + found.length), bytes);
}

/** Whether there is an attribute of that kind, well formed or not. */
export function hasAttribute(message: StunMessage, kind: { readonly type: number }): boolean {
  return find(message, kind.type) !== undefined;
}

/**
 * Attributes that must be understood (below 0x8000, RFC 8489 section 5) and are not in `known`: a request is then
 * answered with 420, a success makes its transaction fail.
 */
export function unknownRequired(message: StunMessage, known: ReadonlySet<number>): number[] {
  const unknown = new Set<number>();
  for (const { type } of message.attributes) if (type < 0x8000 && !known.has(type)) unknown.add(type);
  return [...unknown];
}

/** Whether the message carries that integrity attribute and `key` made it (RFC 8489 sections 14.5, 14.6). */
export function verifyIntegrity(message: StunMessage, key: Uint8Array, hash: IntegrityHash): boolean {
  const found = find(message, (hash === "sha1" ? MESSAGE_INTEGRITY : MESSAGE_INTEGRITY_SHA256).type);
  if (found === undefined) return false;
  // SHA-256 sums may be cut short, by whole words, to no less than 16 octets.
  const least = hash === "sha1" ? 20 : 16;
  if (found.length < least || found.length > HMAC_OCTETS[hash] || (found.length & 3) !== 0) return false;
  const sum = message.bytes.subarray(found.start, found.start + found.length);
  return sameSum(sum, integrityOf(message.bytes, found.start - 4, key, hash, found.length));
}

export interface StunFields {
  readonly class: StunClass;
  readonly method: number;
  /** 12 octets; 16 make a classic message without a cookie (RFC 3489). */
  readonly transactionId: Uint8Array;
  readonly attributes?: readonly Attribute[];
  /** Adds MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 or both, in this order. */
  readonly integrity?: { readonly key: Uint8Array; readonly hashes: readonly IntegrityHash[] };
  /** Adds FINGERPRINT at the end. */
  readonly fingerprint?: boolean;
}

/** Writes one message into one buffer of its size. Throws `bad-argument` for what a message cannot hold. */
export function encodeStun(fields: StunFields): Uint8Array {
  const { transactionId, attributes = [], integrity } = fields;
  if (transactionId.length !== 12 && transactionId.length !== 16) {
    throw new P2pdError("bad-argument", `a transaction id has 12 or 16 octets, not ${transactionId.length}`);
  }
  if (!Number.isInteger(fields.method) || fields.method < 0 || fields.method > 0xfff) {
    throw new P2pdError("bad-argument", `a STUN method is a number from 0 to 4095, not ${fields.method}`);
  }
  const hashes = (["sha1", "sha256"] as const).filter((hash) => integrity?.hashes.includes(hash));
  let size = STUN_HEADER_OCTETS + (fields.fingerprint === true ? 8 : 0);
  for (const one of attributes) size += 4 + padded(one.size);
  for (const hash of hashes) size += 4 + HMAC_OCTETS[hash];
  if (size > STUN_HEADER_OCTETS + 0xfffc) {
    throw new P2pdError("bad-argument", `a STUN message has at most 65552 octets, not ${size}`);
  }
  const bytes = new Uint8Array(size);
  put16(bytes, 0, typeBits(fields.class, fields.method));
  put16(bytes, 2, size - STUN_HEADER_OCTETS);
  put32(bytes, 4, MAGIC_COOKIE);
  bytes.set(transactionId, STUN_HEADER_OCTETS - transactionId.length);
  let at = STUN_HEADER_OCTETS;
  for (const one of attributes) {
    const value = begin(bytes, at, one.type, one.size);
    one.write(value, bytes);
    at += 4 + padded(one.size);
  }
  for (const hash of hashes) {
    const octets = HMAC_OCTETS[hash];
    const type = (hash === "sha1" ? MESSAGE_INTEGRITY : MESSAGE_INTEGRITY_SHA256).type;
    const sum = integrityOf(bytes, at, integrity?.key as Uint8Array, hash);
    begin(bytes, at, type, octets).set(sum);
    at += 4 + octets;
  }
  if (fields.fingerprint === true) {
    const sum = fingerprintOf(bytes, at);
    begin(bytes, at, FINGERPRINT.type, 4);
    put32(bytes, at + 4, sum);
  }
  return bytes;
}

/**
 * RFC 8489 figure 3: the class's two bits stand inside the method's twelve.
 *
 * |M11|M10|M9|M8|M7|C1|M6|M5|M4|C0|M3|M2|M1|M0|
 */
function typeBits(kind: StunClass, method: number): number {
  const bits = CLASSES.indexOf(kind);
  const spread = ((method & 0xf80) << 2) | ((method & 0x70) << 1) | (method & 0xf);
  return spread | ((bits & 2) << 7) | ((bits & 1) << 4);
}

function begin(bytes: Uint8Array, at: number, type: number, size: number): Uint8Array {
  put16(bytes, at, type);
  put16(bytes, at + 2, size);
  return bytes.subarray(at + 4, at + 4 + size);
}

function find(message: StunMessage, type: number): RawAttribute | undefined {
  for (const one of message.attributes) if (one.type === type) return one;
  return undefined;
}

function padded(size: number): number {
  return (size + 3) & ~3;
}

function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

function u32(bytes: Uint8Array, at: number): number {
  return u16(bytes, at) * 0x10000 + u16(bytes, at + 2);
}

function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8;
  bytes[at + 1] = value & 255;
}

function put32(bytes: Uint8Array, at: number, value: number): void {
  put16(bytes, at, value >>> 16);
  put16(bytes, at + 2, value & 0xffff);
}
