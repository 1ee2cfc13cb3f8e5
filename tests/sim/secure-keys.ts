/**
 * How a key is proved in the simulation: whoever has the private key can make a proof, and a table of this
 * process says what the right one is. Quick, repeatable, and worth nothing outside.
 */
import { createHash, createPrivateKey, createPublicKey } from "node:crypto";

/** Octets of a compressed key, and of a proof. */
export const KEY_LENGTH = 33;
export const PROOF_LENGTH = 32;
export const NONCE_LENGTH = 32;

const holders = new Map<string, string>();
const keys = new Map<string, Uint8Array>();

/** Compressed public key (SEC 1, 2.3.3) of a private key in PEM; its first octet is 0 if it is not on P-256. */
export function compressedKey(privateKeyPem: string): Uint8Array {
  const known = keys.get(privateKeyPem);
  if (known !== undefined) return known;
  const isP256 = createPrivateKey(privateKeyPem).asymmetricKeyDetails?.namedCurve === "prime256v1";
  const { x, y } = createPublicKey(privateKeyPem).export({ format: "jwk" });
  const sign = isP256 ? 2 + ((Buffer.from(y ?? "", "base64url").at(-1) as number) & 1) : 0;
  const key = new Uint8Array(KEY_LENGTH);
  key.set([sign, ...Buffer.from(x ?? "", "base64url").subarray(0, KEY_LENGTH - 1)]);
  keys.set(privateKeyPem, key);
  holders.set(keyText(key), privateKeyPem);
  return key;
}

/** The proof that the holder of a key took this part in a handshake with these nonces. */
export function proveKey(
  privateKeyPem: string,
  by: "client" | "server",
  clientNonce: Uint8Array,
  serverNonce: Uint8Array,
): Uint8Array {
  return createHash("sha256")
    .update(privateKeyPem)
    .update(by)
    .update(clientNonce)
    .update(serverNonce)
    .digest();
}

/** Whether `proof` is that of the holder of `key`. */
export function isProof(
  proof: Uint8Array,
  key: Uint8Array,
  by: "client" | "server",
  clientNonce: Uint8Array,
  serverNonce: Uint8Array,
): boolean {
  const pem = holders.get(keyText(key));
  return pem !== undefined && Buffer.compare(proveKey(pem, by, clientNonce, serverNonce), proof) === 0;
}

/** A key as errors show it. */
export function keyText(key: Uint8Array): string {
  return key.toBase64({ alphabet: "base64url", omitPadding: true });
}
