/**
 * What a signal looks like to a broker: its version, a tag that only somebody who knows the receiver's id can make,
 * and an HPKE ciphertext (RFC 9180) that hides everything else, the sender too. Layout and tag only; sealing and
 * opening are in `core/signal/sealing.ts`. See docs/signaling.md.
 *
 *      0        1                17                82
 *     +--------+----------------+-----------------+---------------------
 *     | 1      | tag, 16 octets | enc, 65 octets  | ciphertext…
 *     +--------+----------------+-----------------+---------------------
 *
 * The tag costs three microseconds to check and spares whoever is flooded the public-key operations.
 */
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { P2pdError } from "../errors.ts";

export const ENVELOPE_VERSION = 1;
/** Longest envelope, in octets: an address line of full length and what goes with it. */
export const ENVELOPE_MAX_LENGTH = 6144;
/** Uncompressed P-256 point (SEC 1), HPKE's `enc`. */
export const ENC_LENGTH = 65;
export const SENDER_LENGTH = 33;
const TAG_LENGTH = 16;
/** Of AES-128-GCM. */
const AEAD_LENGTH = 16;
const ENC_AT = 1 + TAG_LENGTH;
const CIPHERTEXT_AT = ENC_AT + ENC_LENGTH;
/** Inside: the sender's key, the inner `enc` and ciphertext. */
const MIN_LENGTH = CIPHERTEXT_AT + SENDER_LENGTH + ENC_LENGTH + 2 * AEAD_LENGTH;
/** Longest text that fits into an envelope. */
export const ENVELOPE_MAX_TEXT = ENVELOPE_MAX_LENGTH - MIN_LENGTH;

export interface Envelope {
  /** Differs between any two envelopes: what is sent twice has the same one. */
  readonly tag: string;
  readonly enc: Uint8Array;
  readonly ciphertext: Uint8Array;
}

export type EnvelopeFault = "oversized" | "malformed" | "unknown-version" | "stranger";

/** Key of the tags of everything that is sent to the node with this compressed public key. */
export function envelopeTagKey(receiver: Uint8Array): Uint8Array {
  return createHash("sha256").update("p2pd/1 signal tag\0").update(receiver).digest();
}

/** Puts an envelope together. Throws `too-large`. */
export function encodeEnvelope(enc: Uint8Array, ciphertext: Uint8Array, tagKey: Uint8Array): Uint8Array {
  const length = CIPHERTEXT_AT + ciphertext.length;
  if (length > ENVELOPE_MAX_LENGTH) {
    throw new P2pdError(
      "too-large",
      `a signal of ${length} octets; at most ${ENVELOPE_MAX_LENGTH} are allowed`,
      { length },
    );
  }
  const bytes = new Uint8Array(length);
  bytes[0] = ENVELOPE_VERSION;
  bytes.set(enc, ENC_AT);
  bytes.set(ciphertext, CIPHERTEXT_AT);
  bytes.set(tagOf(bytes, tagKey), 1);
  return bytes;
}

/** Takes an envelope apart, as views; or says what is wrong with it. Never throws. */
export function decodeEnvelope(bytes: Uint8Array, tagKey: Uint8Array): Envelope | EnvelopeFault {
  if (bytes.length > ENVELOPE_MAX_LENGTH) return "oversized";
  if (bytes.length === 0) return "malformed";
  if (bytes[0] !== ENVELOPE_VERSION) return "unknown-version";
  // Uncompressed points begin with 4.
  if (bytes.length < MIN_LENGTH || bytes[ENC_AT] !== 4) return "malformed";
  const tag = bytes.subarray(1, ENC_AT);
  if (!timingSafeEqual(tag, tagOf(bytes, tagKey))) return "stranger";
  return {
    tag: tag.toBase64(),
    enc: bytes.subarray(ENC_AT, CIPHERTEXT_AT),
    ciphertext: bytes.subarray(CIPHERTEXT_AT),
  };
}

function tagOf(bytes: Uint8Array, tagKey: Uint8Array): Uint8Array {
  const mac = createHmac("sha256", tagKey).update(bytes.subarray(0, 1)).update(bytes.subarray(ENC_AT));
  return mac.digest().subarray(0, TAG_LENGTH);
}
