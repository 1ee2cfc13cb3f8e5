/**
 * Seals signals and opens them: HPKE (RFC 9180) with DHKEM(P-256, HKDF-SHA256), HKDF-SHA256 and AES-128-GCM, on the
 * node keys. The message is sealed in Auth mode, which proves its sender to the receiver; that and the sender's key
 * are sealed once more in Base mode, which hides the sender from brokers. The layout is in
 * `core/wire/signal-envelope.ts`; who may be heard is decided in `signal-inbox.ts`.
 */
import { createPrivateKey } from "node:crypto";
import type { CipherSuite } from "@hpke/core";
import { P2pdError } from "../errors.ts";
import {
  ENC_LENGTH,
  encodeEnvelope,
  type Envelope,
  envelopeTagKey,
  SENDER_LENGTH,
} from "../wire/signal-envelope.ts";
import { type SignalIdentity, uncompressKey } from "./node-key.ts";

const OUTER_INFO = new TextEncoder().encode("p2pd/1 signal outer");
const INNER_INFO = new TextEncoder().encode("p2pd/1 signal inner");
/** Receivers whose keys are kept ready. */
const KEPT_KEYS = 64;

/** An envelope whose outer seal was opened: nothing in it is proved yet. */
export interface OpenedEnvelope {
  /** Compressed key of whoever claims to be the sender. */
  readonly sender: Uint8Array;
  readonly outerEnc: Uint8Array;
  readonly enc: Uint8Array;
  readonly ciphertext: Uint8Array;
}

export interface Sealing {
  /** An envelope for the holder of a compressed key. Rejects with `bad-argument` (no key) or `too-large`. */
  seal(receiver: Uint8Array, text: Uint8Array): Promise<Uint8Array>;
  /** Opens the outer seal; undefined if it is none for us. */
  openOuter(envelope: Envelope): Promise<OpenedEnvelope | undefined>;
  /** Opens the inner seal, which proves the sender; undefined if the sender did not make it. */
  openInner(opened: OpenedEnvelope): Promise<Uint8Array | undefined>;
}

/** The suite of signals. Loaded at the first use: a start does not pay for it. */
export async function signalSuite(): Promise<CipherSuite> {
  const { Aes128Gcm, CipherSuite, DhkemP256HkdfSha256, HkdfSha256 } = await import("@hpke/core");
  return new CipherSuite({ kem: new DhkemP256HkdfSha256(), kdf: new HkdfSha256(), aead: new Aes128Gcm() });
}

export async function createSealing(identity: SignalIdentity): Promise<Sealing> {
  const suite = await signalSuite();
  const jwk = createPrivateKey(identity.credentials.privateKeyPem).export({ format: "jwk" });
  const ownPublic = await importPoint(suite, identity.publicKey);
  if (ownPublic === undefined) throw new P2pdError("internal", "the node's own key is no point of P-256");
  const own = {
    privateKey: await suite.kem.importKey("jwk", jwk, false),
    publicKey: ownPublic,
  };
  const receivers = new Map<string, { readonly key: CryptoKey; readonly tagKey: Uint8Array }>();

  async function receiverOf(key: Uint8Array): Promise<{ key: CryptoKey; tagKey: Uint8Array }> {
    const name = key.toBase64();
    const kept = receivers.get(name);
    if (kept !== undefined) return kept;
    const imported = await importPoint(suite, key);
    if (imported === undefined)
      throw new P2pdError("bad-argument", "the receiver's id names no point of P-256");
    const made = { key: imported, tagKey: envelopeTagKey(key) };
    if (receivers.size >= KEPT_KEYS) receivers.delete(receivers.keys().next().value as string);
    receivers.set(name, made);
    return made;
  }

  return {
    async seal(receiver, text) {
      const { key, tagKey } = await receiverOf(receiver);
      const [outer, inner] = await Promise.all([
        suite.createSenderContext({ recipientPublicKey: key, info: OUTER_INFO }),
        suite.createSenderContext({ recipientPublicKey: key, info: INNER_INFO, senderKey: own }),
      ]);
      const innerText = await inner.seal(text, outer.enc);
      const plain = Buffer.concat([identity.publicKey, new Uint8Array(inner.enc), new Uint8Array(innerText)]);
      const ciphertext = await outer.seal(plain);
      return encodeEnvelope(new Uint8Array(outer.enc), new Uint8Array(ciphertext), tagKey);
    },
    async openOuter({ enc, ciphertext }) {
      try {
        const context = await suite.createRecipientContext({ recipientKey: own, enc, info: OUTER_INFO });
        const plain = new Uint8Array(await context.open(ciphertext));
        const innerAt = SENDER_LENGTH + ENC_LENGTH;
        if (plain.length < innerAt) return undefined;
        return {
          sender: plain.subarray(0, SENDER_LENGTH),
          outerEnc: enc,
          enc: plain.subarray(SENDER_LENGTH, innerAt),
          ciphertext: plain.subarray(innerAt),
        };
      } catch {
        // Whatever the ciphers say of a stranger's octets, it was not sealed for us.
        return undefined;
      }
    },
    async openInner({ sender, outerEnc, enc, ciphertext }) {
      try {
        const senderPublicKey = await importPoint(suite, sender);
        if (senderPublicKey === undefined) return undefined;
        const info = INNER_INFO;
        const context = await suite.createRecipientContext({ recipientKey: own, enc, info, senderPublicKey });
        return new Uint8Array(await context.open(ciphertext, outerEnc));
      } catch {
        // Not made with the key that it names.
        return undefined;
      }
    },
  };
}

async function importPoint(suite: CipherSuite, key: Uint8Array): Promise<CryptoKey | undefined> {
  const point = uncompressKey(key);
  return point === undefined ? undefined : suite.kem.importKey("raw", point, true);
}
