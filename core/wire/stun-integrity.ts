/**
 * Keys and checksums of STUN: credentials to HMAC key, HMAC over a message, FINGERPRINT's CRC (RFC 8489
 * sections 9, 14.5 to 14.7). Works on plain octets; where in a message the sums stand is `stun.ts`'s matter.
 */
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { crc32 } from "node:zlib";
import { opaqueString } from "./opaque-string.ts";
import { PASSWORD_MD5, PASSWORD_SHA256 } from "./stun-attributes.ts";

/** SHA-1 is MESSAGE-INTEGRITY, SHA-256 is MESSAGE-INTEGRITY-SHA256. */
export type IntegrityHash = "sha1" | "sha256";

/** How long the untruncated HMAC is. */
export const HMAC_OCTETS: Readonly<Record<IntegrityHash, number>> = { sha1: 20, sha256: 32 };

/** RFC 8489 section 9.1.1: the password itself. Throws `bad-argument` as `opaqueString` does. */
export function shortTermKey(password: string): Uint8Array {
  return Buffer.from(opaqueString(password, "the password"), "utf8");
}

/**
 * RFC 8489 sections 9.2.2 and 18.5: the hash of `username:realm:password`, by the PASSWORD-ALGORITHM that was
 * agreed on; MD5 where none was (as in RFC 5389). Throws `bad-argument` as `opaqueString` does.
 */
export function longTermKey(
  username: string,
  realm: string,
  password: string,
  algorithm: typeof PASSWORD_MD5 | typeof PASSWORD_SHA256 = PASSWORD_MD5,
): Uint8Array {
  const parts = [
    opaqueString(username, "the user name"),
    opaqueString(realm, "the realm"),
    opaqueString(password, "the password"),
  ];
  return createHash(algorithm === PASSWORD_SHA256 ? "sha256" : "md5")
    .update(parts.join(":"), "utf8")
    .digest();
}

/** RFC 8489 section 14.4: what USERHASH holds in place of the name. */
export function userHash(username: string, realm: string): Uint8Array {
  const text = `${opaqueString(username, "the user name")}:${opaqueString(realm, "the realm")}`;
  return createHash("sha256").update(text, "utf8").digest();
}

/** What a server says of itself in its nonce. */
export interface NonceFeatures {
  readonly passwordAlgorithms: boolean;
  readonly usernameAnonymity: boolean;
}

const NONCE_COOKIE = "obMatJos2";

/**
 * The security features that a nonce announces (RFC 8489 sections 9.2 and 18.1), so that nobody on the way can
 * take PASSWORD-ALGORITHMS out of an answer unnoticed. Undefined for a nonce of RFC 5389.
 */
export function nonceFeatures(nonce: string): NonceFeatures | undefined {
  if (!nonce.startsWith(NONCE_COOKIE)) return undefined;
  const encoded = nonce.slice(NONCE_COOKIE.length, NONCE_COOKIE.length + 4);
  if (!/^[A-Za-z0-9+/]{4}$/.test(encoded)) return undefined;
  const first = Buffer.from(encoded, "base64")[0] as number;
  return { passwordAlgorithms: (first & 0x80) !== 0, usernameAnonymity: (first & 0x40) !== 0 };
}

/**
 * HMAC over the message up to `attributeStart`, its length field read as if the integrity attribute with a value
 * of `valueOctets` were the last (RFC 8489 section 14.5).
 */
export function integrityOf(
  message: Uint8Array,
  attributeStart: number,
  key: Uint8Array,
  hash: IntegrityHash,
  valueOctets = HMAC_OCTETS[hash],
): Uint8Array {
  const length = attributeStart + 4 + valueOctets - 20;
  return createHmac(hash, key)
    .update(message.subarray(0, 2))
    .update(new Uint8Array([length >> 8, length & 255]))
    .update(message.subarray(4, attributeStart))
    .digest()
    .subarray(0, valueOctets);
}

/** Compares two sums in a time that does not depend on where they differ. */
export function sameSum(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/** RFC 8489 section 14.7: CRC-32 of the message up to `attributeStart`, XOR "STUN"; an unsigned number. */
export function fingerprintOf(message: Uint8Array, attributeStart: number): number {
  return (crc32(message.subarray(0, attributeStart)) ^ 0x5354554e) >>> 0;
}
