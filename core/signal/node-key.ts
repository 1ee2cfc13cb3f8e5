/** Node ids and keys in the forms that the ciphers want; and the topics that follow from them. */
import { createHash, ECDH } from "node:crypto";
import { P2pdError } from "../errors.ts";
import { isNodeId } from "../wire/address.ts";

/** What signaling needs of the node's identity. */
export interface SignalIdentity {
  readonly id: string;
  /** Compressed, 33 octets. */
  readonly publicKey: Uint8Array;
  readonly credentials: { readonly privateKeyPem: string };
}

/** Compressed key, 33 octets, of a node id. Throws `bad-argument`. */
export function keyOfNodeId(id: string): Uint8Array {
  if (!isNodeId(id)) {
    throw new P2pdError("bad-argument", `"${id.slice(0, 64)}" is no node id (44 characters of base64url)`);
  }
  return Uint8Array.fromBase64(id, { alphabet: "base64url" });
}

export function nodeIdOfKey(key: Uint8Array): string {
  return key.toBase64({ alphabet: "base64url", omitPadding: true });
}

/** The 65 octets of a key given in 33 (SEC 1, section 2.3.4); undefined if no point has that x. */
export function uncompressKey(key: Uint8Array): Uint8Array | undefined {
  try {
    const hex = Buffer.from(key).toString("hex");
    const point = ECDH.convertKey(hex, "prime256v1", "hex", "hex", "uncompressed");
    return Uint8Array.fromHex(point);
  } catch {
    // Half of all x have no point on the curve, and a stranger may name any.
    return undefined;
  }
}

/** Where a node hears signals. Whoever does not know the key cannot tell whose it is. */
export function inboxTopic(key: Uint8Array): string {
  return `p2pd/1/s/${hashed("inbox", key)}`;
}

/** Where a node's address record is kept. */
export function recordTopic(key: Uint8Array): string {
  return `p2pd/1/a/${hashed("record", key)}`;
}

function hashed(purpose: string, key: Uint8Array): string {
  const hash = createHash("sha256").update(`p2pd/1 topic ${purpose}\0`).update(key).digest();
  return hash.subarray(0, 16).toString("base64url");
}
