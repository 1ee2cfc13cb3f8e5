import { describe, expect, test } from "bun:test";
import { createSealing, signalSuite } from "../../../core/signal/sealing.ts";
import { decodeEnvelope, type Envelope, envelopeTagKey } from "../../../core/wire/signal-envelope.ts";
import { failure, makeIdentity } from "./signaling-nodes.ts";

/** RFC 9180, appendix A.3.3: Auth mode of DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-128-GCM. */
const VECTOR = {
  info: "4f6465206f6e2061204772656369616e2055726e",
  ikmE: "798d82a8d9ea19dbc7f2c6dfa54e8a6706f7cdc119db0813dacf8440ab37c857",
  skRm: "d929ab4be2e59f6954d6bedd93e638f02d4046cef21115b00cdda2acb2a4440e",
  pkRm: "04423e363e1cd54ce7b7573110ac121399acbc9ed815fae03b72ffbd4c18b01836835c5a09513f28fc971b7266cfde2e96afe84bb0f266920e82c4f53b36e1a78d",
  skSm: "1120ac99fb1fccc1e8230502d245719d1b217fe20505c7648795139d177f0de9",
  pkSm: "04a817a0902bf28e036d66add5d544cc3a0457eab150f104285df1e293b5c10eef8651213e43d9cd9086c80b309df22cf37609f58c1127f7607e85f210b2804f73",
  enc: "042224f3ea800f7ec55c03f29fc9865f6ee27004f818fcbdc6dc68932c1e52e15b79e264a98f2c535ef06745f3d308624414153b22c7332bc1e691cb4af4d53454",
  pt: "4265617574792069732074727574682c20747275746820626561757479",
  aad: "436f756e742d30",
  ct: "82ffc8c44760db691a07c5627e5fc2c08e7a86979ee79b494a17cc3405446ac2bdb8f265db4a099ed3289ffe19",
} as const;

test("what seals signals is RFC 9180: its vectors of Auth mode", async () => {
  const suite = await signalSuite();
  const pair = async (secret: string, point: string): Promise<CryptoKeyPair> => ({
    privateKey: await suite.kem.importKey("raw", hex(secret), false),
    publicKey: await suite.kem.importKey("raw", hex(point), true),
  });
  const receiver = await pair(VECTOR.skRm, VECTOR.pkRm);
  const sender = await pair(VECTOR.skSm, VECTOR.pkSm);
  const info = hex(VECTOR.info);
  const sending = await suite.createSenderContext({
    recipientPublicKey: receiver.publicKey,
    info,
    senderKey: sender,
    ekm: hex(VECTOR.ikmE),
  });
  expect(new Uint8Array(sending.enc).toHex()).toBe(VECTOR.enc);
  const ciphertext = await sending.seal(hex(VECTOR.pt), hex(VECTOR.aad));
  expect(new Uint8Array(ciphertext).toHex()).toBe(VECTOR.ct);
  const receiving = await suite.createRecipientContext({
    recipientKey: receiver,
    info,
    enc: hex(VECTOR.enc),
    senderPublicKey: sender.publicKey,
  });
  const opened = await receiving.open(hex(VECTOR.ct), hex(VECTOR.aad));
  expect(new Uint8Array(opened).toHex()).toBe(VECTOR.pt);
});

describe("a sealed text", () => {
  const alice = makeIdentity();
  const bob = makeIdentity();
  const text = new TextEncoder().encode("hello");

  test("is opened by its receiver, who learns the sender", async () => {
    const sealing = await createSealing(bob);
    const opened = await sealing.openOuter(await sealedTo(bob.publicKey));
    expect(opened?.sender).toEqual(alice.publicKey);
    expect(await sealing.openInner(opened as NonNullable<typeof opened>)).toEqual(text);
  });

  test("shows a broker neither the sender nor the receiver", async () => {
    const bytes = Buffer.from(await (await createSealing(alice)).seal(bob.publicKey, text));
    for (const key of [alice.publicKey, bob.publicKey]) expect(bytes.includes(key.subarray(1))).toBe(false);
  });

  test("is nothing to anybody else", async () => {
    const mallory = await createSealing(makeIdentity());
    expect(await mallory.openOuter(await sealedTo(bob.publicKey))).toBeUndefined();
  });

  test("cannot be handed on under another outer seal", async () => {
    const sealing = await createSealing(bob);
    const one = await sealing.openOuter(await sealedTo(bob.publicKey));
    const two = await sealing.openOuter(await sealedTo(bob.publicKey));
    if (one === undefined || two === undefined) throw new Error("the outer seals did not open");
    expect(await sealing.openInner({ ...one, outerEnc: two.outerEnc })).toBeUndefined();
    expect(await sealing.openInner({ ...one, sender: bob.publicKey })).toBeUndefined();
    expect(await sealing.openInner({ ...one, sender: new Uint8Array(33).fill(255) })).toBeUndefined();
  });

  test("to a key that is no point of the curve is refused", async () => {
    const noPoint = new Uint8Array(33).fill(255).with(0, 2);
    expect((await failure((await createSealing(alice)).seal(noPoint, text))).message).toContain("no point");
  });

  async function sealedTo(key: Uint8Array): Promise<Envelope> {
    const bytes = await (await createSealing(alice)).seal(key, text);
    return decodeEnvelope(bytes, envelopeTagKey(key)) as Envelope;
  }
});

function hex(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.fromHex(text);
}
