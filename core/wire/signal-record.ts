/**
 * The address record that a node keeps on its brokers: its address line, when it was signed and for how long it holds,
 * signed by the node key (ECDSA, P-256, SHA-256) and encrypted with a key that follows from the node's id, so that a
 * broker, who knows the hashed topic only, reads nothing. Pure but for the cipher; who publishes it and where is
 * decided in `core/signal/`.
 *
 *      0       1                13
 *     +-------+----------------+------------------------------------------------------------+
 *     | 1     | nonce, 12      | AES-128-GCM of: signed ms (8), lifetime s (4), line, signature (64) |
 *     +-------+----------------+------------------------------------------------------------+
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createPublicKey,
  type KeyObject,
  sign,
  verify,
} from "node:crypto";
import { P2pdError } from "../errors.ts";
import { ADDRESS_MAX_LENGTH } from "./address.ts";

const VERSION = 1;
const NONCE_LENGTH = 12;
const AEAD_LENGTH = 16;
const HEAD_LENGTH = 12;
const SIGNATURE_LENGTH = 64;
const SEALED_AT = 1 + NONCE_LENGTH;
const OVERHEAD = SEALED_AT + HEAD_LENGTH + SIGNATURE_LENGTH + AEAD_LENGTH;
export const RECORD_MAX_LENGTH = OVERHEAD + ADDRESS_MAX_LENGTH;
const CONTEXT = Buffer.from("p2pd/1 address record\0");
/** Of an uncompressed P-256 point as SubjectPublicKeyInfo, RFC 5480; the compressed form is two octets of length less. */
const SPKI_COMPRESSED = Buffer.from("3039301306072a8648ce3d020106082a8648ce3d030107032200", "hex");

export interface AddressRecord {
  /** The address line. */
  readonly line: string;
  /** Wall-clock milliseconds of the signer: the newer of two records is the one to believe. */
  readonly signedMs: number;
  readonly lifetimeSeconds: number;
}

export type RecordFault = "oversized" | "malformed" | "unknown-version" | "forged";

/** Signs and encrypts; `nonce` is 12 unpredictable octets. Throws `too-large`. */
export function encodeRecord(
  record: AddressRecord,
  publicKey: Uint8Array,
  privateKey: KeyObject,
  nonce: Uint8Array,
): Uint8Array {
  const line = Buffer.from(record.line, "latin1");
  if (line.length > ADDRESS_MAX_LENGTH) {
    throw new P2pdError(
      "too-large",
      `an address line of ${line.length} octets; at most ${ADDRESS_MAX_LENGTH}`,
    );
  }
  const body = Buffer.alloc(HEAD_LENGTH + line.length);
  body.writeBigUInt64BE(BigInt(record.signedMs), 0);
  body.writeUInt32BE(record.lifetimeSeconds, 8);
  body.set(line, HEAD_LENGTH);
  const signature = sign("sha256", Buffer.concat([CONTEXT, publicKey, body]), {
    key: privateKey,
    dsaEncoding: "ieee-p1363",
  });
  const cipher = createCipheriv("aes-128-gcm", recordKey(publicKey), nonce);
  cipher.setAAD(Buffer.of(VERSION));
  return new Uint8Array(
    Buffer.concat([
      Buffer.of(VERSION),
      nonce,
      cipher.update(body),
      cipher.update(signature),
      cipher.final(),
      cipher.getAuthTag(),
    ]),
  );
}

/** Decrypts and verifies; or says what is wrong with it. Never throws. */
export function decodeRecord(bytes: Uint8Array, publicKey: Uint8Array): AddressRecord | RecordFault {
  if (bytes.length > RECORD_MAX_LENGTH) return "oversized";
  if (bytes.length === 0) return "malformed";
  if (bytes[0] !== VERSION) return "unknown-version";
  if (bytes.length < OVERHEAD) return "malformed";
  const decipher = createDecipheriv("aes-128-gcm", recordKey(publicKey), bytes.subarray(1, SEALED_AT));
  decipher.setAAD(bytes.subarray(0, 1));
  decipher.setAuthTag(bytes.subarray(bytes.length - AEAD_LENGTH));
  let plain: Buffer;
  try {
    const sealed = bytes.subarray(SEALED_AT, bytes.length - AEAD_LENGTH);
    plain = Buffer.concat([decipher.update(sealed), decipher.final()]);
  } catch {
    return "forged";
  }
  const body = plain.subarray(0, plain.length - SIGNATURE_LENGTH);
  const signature = plain.subarray(plain.length - SIGNATURE_LENGTH);
  if (!isSigned(Buffer.concat([CONTEXT, publicKey, body]), signature, publicKey)) return "forged";
  const signedMs = Number(body.readBigUInt64BE(0));
  const line = body.toString("latin1", HEAD_LENGTH);
  if (!Number.isSafeInteger(signedMs) || /[^\x21-\x7e]/.test(line)) return "malformed";
  return { line, signedMs, lifetimeSeconds: body.readUInt32BE(8) };
}

function isSigned(text: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): boolean {
  try {
    const key = createPublicKey({
      key: Buffer.concat([SPKI_COMPRESSED, publicKey]),
      format: "der",
      type: "spki",
    });
    return verify("sha256", text, { key, dsaEncoding: "ieee-p1363" }, signature);
  } catch {
    // The id is no point of the curve.
    return false;
  }
}

function recordKey(publicKey: Uint8Array): Uint8Array {
  return createHash("sha256").update("p2pd/1 record key\0").update(publicKey).digest().subarray(0, 16);
}
