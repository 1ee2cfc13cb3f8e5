/**
 * How a caller proves its key on a QUIC session. TLS proves the listener's key; the runtime cannot ask a caller for
 * a certificate that it does not know beforehand. So the caller's first octets on the stream are a signature of its
 * node key over a value that TLS derives for this session and no other (RFC 8446 section 7.5), and over both keys:
 *
 *   +---------+-----------------------------+-------------------------------+
 *   | 1 octet | 33 octets                   | 64 octets                     |
 *   | form    | caller's key, compressed    | signature, r and s            |
 *   +---------+-----------------------------+-------------------------------+
 *
 * That is form 1. Where the listener does not have the value, it asks for form 2 (`quic-challenge.ts`), which signs
 * random octets of the listener instead. A proof is thus worth nothing in another session, to whomever it was shown:
 * no clock and no memory of nonces.
 */
import { createHmac, createPublicKey, ECDH, type KeyObject, sign, verify } from "node:crypto";
import { P2pdError } from "../errors.ts";

export const PROOF_LENGTH = 98;
/** Octets that a listener draws for a proof of form 2. */
export const CHALLENGE_LENGTH = 32;
const KEY_LENGTH = 33;
const LABEL = "EXPERIMENTAL p2pd caller";
const CONTEXT = new TextEncoder().encode("p2pd: a caller proves its key on a QUIC session\0");
const CHALLENGE_CONTEXT = new TextEncoder().encode("p2pd: a caller answers the listener of a QUIC session\0");
const HASH_LENGTH = 32;
const P1363 = "ieee-p1363";
/** SubjectPublicKeyInfo of a P-256 key, up to the uncompressed point's coordinates (RFC 5480). */
const SPKI_HEAD = Buffer.from("3059301306072a8648ce3d020106082a8648ce3d03010703420004", "hex");

/** What a proof is about: form 1 is bound to TLS's secret, form 2 to the listener's challenge. */
export type ProofSubject = ({ readonly exporterSecret: Uint8Array } | { readonly challenge: Uint8Array }) & {
  /** Compressed key of the listener. */
  readonly listenerKey: Uint8Array;
};

/** Proof by the key of `privateKeyPem`, whose compressed form is `callerKey`. */
export function encodeProof(
  subject: ProofSubject,
  callerKey: Uint8Array,
  privateKeyPem: string,
): Uint8Array<ArrayBuffer> {
  const signature = sign("sha256", signedText(subject, callerKey), {
    key: privateKeyPem,
    dsaEncoding: P1363,
  });
  return new Uint8Array(Buffer.concat([Uint8Array.of(formOf(subject)), callerKey, signature]));
}

/** The key that `proof` proves. Throws `peer-key`, or `protocol` if it is of another form. */
export function verifyProof(proof: Uint8Array, subject: ProofSubject): Uint8Array {
  if (proof.length !== PROOF_LENGTH || proof[0] !== formOf(subject)) {
    const text = `expected the caller's proof of form ${formOf(subject)}, got form ${proof[0]}`;
    throw new P2pdError("protocol", text);
  }
  const callerKey = proof.slice(1, 1 + KEY_LENGTH);
  const signature = proof.subarray(1 + KEY_LENGTH);
  if (!isProven(callerKey, signature, signedText(subject, callerKey))) {
    const shown = callerKey.toBase64({ alphabet: "base64url", omitPadding: true });
    throw new P2pdError("peer-key", `the caller did not prove the key ${shown} that it claims`);
  }
  return callerKey;
}

function isProven(callerKey: Uint8Array, signature: Uint8Array, text: Uint8Array): boolean {
  let point: Uint8Array;
  try {
    const converted = ECDH.convertKey(callerKey, "prime256v1", undefined, undefined, "uncompressed");
    if (typeof converted === "string") return false;
    point = converted;
  } catch {
    return false; // no point of the curve
  }
  const key = createPublicKey({
    key: Buffer.concat([SPKI_HEAD, point.subarray(1)]),
    format: "der",
    type: "spki",
  });
  return verify("sha256", text, { key, dsaEncoding: P1363 }, signature);
}

/** Compressed form (SEC 1, 2.3.3) of a public key; undefined if it is not on P-256. */
export function compressedKeyOf(publicKey: KeyObject): Uint8Array | undefined {
  if (publicKey.asymmetricKeyType !== "ec") return undefined;
  const { crv, x, y } = publicKey.export({ format: "jwk" });
  if (crv !== "P-256" || x === undefined || y === undefined) return undefined;
  const parity = (Buffer.from(y, "base64url").at(-1) as number) & 1;
  return new Uint8Array(Buffer.concat([Uint8Array.of(2 + parity), Buffer.from(x, "base64url")]));
}

function formOf(subject: ProofSubject): number {
  return "challenge" in subject ? 2 : 1;
}

function signedText(subject: ProofSubject, callerKey: Uint8Array): Uint8Array {
  const fresh =
    "challenge" in subject
      ? [CHALLENGE_CONTEXT, subject.challenge]
      : [CONTEXT, exportedValue(subject.exporterSecret)];
  return Buffer.concat([...fresh, subject.listenerKey, callerKey]);
}

/** TLS-Exporter(LABEL, "", 32) of RFC 8446 section 7.5, for suites with SHA-256. */
function exportedValue(exporterSecret: Uint8Array): Uint8Array {
  const emptyHash = Buffer.from("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "hex");
  return expandLabel(expandLabel(exporterSecret, LABEL, emptyHash), "exporter", emptyHash);
}

/** HKDF-Expand-Label (RFC 8446 section 7.1) of one hash length. */
function expandLabel(secret: Uint8Array, label: string, context: Uint8Array): Uint8Array {
  const text = Buffer.from(`tls13 ${label}`);
  const info = Buffer.concat([
    Uint8Array.of(0, HASH_LENGTH, text.length),
    text,
    Uint8Array.of(context.length),
    context,
  ]);
  return createHmac("sha256", secret).update(info).update(Uint8Array.of(1)).digest();
}
