/**
 * The self-signed X.509 certificate of a node key (RFC 5280): written out in DER by hand, because it is always
 * the same thirty lines: one name, one key, no extensions. Peers compare the key in it and nothing else.
 */
import { type KeyObject, sign } from "node:crypto";

const SEQUENCE = 0x30;
const SET = 0x31;
const OID_ECDSA_WITH_SHA256 = Uint8Array.of(0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02);
const OID_COMMON_NAME = Uint8Array.of(0x06, 3, 0x55, 0x04, 0x03);
// A key is for life: RFC 5280 section 4.1.2.5 names this date for "no well-defined expiration".
const NOT_BEFORE = "200101000000Z"; // UTCTime, as dates before 2050 must be
const NOT_AFTER = "99991231235959Z";
const COMMON_NAME = "p2pd node";

/**
 * A certificate of a P-256 key, signed by itself with SHA-256, as PEM. `serial` is up to 20 random octets; its
 * highest bit is cleared, since serial numbers are positive.
 */
export function selfSignedCertificate(
  privateKey: KeyObject,
  publicKey: KeyObject,
  serial: Uint8Array,
): string {
  const algorithm = der(SEQUENCE, OID_ECDSA_WITH_SHA256);
  const name = der(
    SEQUENCE,
    der(SET, der(SEQUENCE, OID_COMMON_NAME, der(0x0c, new TextEncoder().encode(COMMON_NAME)))),
  );
  const validity = der(SEQUENCE, time(NOT_BEFORE, 0x17), time(NOT_AFTER, 0x18));
  const keyInfo = new Uint8Array(publicKey.export({ type: "spki", format: "der" }));
  const positive = Uint8Array.from(serial);
  positive[0] = ((positive[0] ?? 0) & 0x7f) | 0x40; // and without a leading zero octet, which DER forbids
  const version3 = Uint8Array.of(0xa0, 3, 2, 1, 2);
  const body = der(SEQUENCE, version3, der(0x02, positive), algorithm, name, validity, name, keyInfo);
  const signature = new Uint8Array(sign("sha256", body, privateKey));
  const certificate = der(SEQUENCE, body, algorithm, der(0x03, Uint8Array.of(0), signature));
  const base64 = Buffer.from(certificate)
    .toString("base64")
    .replaceAll(/.{64}(?=.)/g, "$&\n");
  return `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`;
}

function time(text: string, tag: number): Uint8Array {
  return der(tag, new TextEncoder().encode(text));
}

/** Tag, length (X.690 section 8.1.3) and the contents one after another. */
function der(tag: number, ...contents: readonly Uint8Array[]): Uint8Array {
  const length = contents.reduce((sum, part) => sum + part.length, 0);
  const head =
    length < 128
      ? [tag, length]
      : length < 256
        ? [tag, 0x81, length]
        : [tag, 0x82, length >> 8, length & 255];
  return new Uint8Array(Buffer.concat([Uint8Array.from(head), ...contents]));
}
