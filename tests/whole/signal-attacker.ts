/**
 * A stranger at a broker, in a process of its own: sends a node signals that are garbage or worse.
 * Arguments: port of the broker on loopback, the node's id, and `kinds` (one of each kind, then it ends) or how many
 * garbage signals a second for how many milliseconds and `stranger` (who saw the topic at the broker and knows no id)
 * or `insider` (who knows the id). Prints how many it sent.
 */
import { createPublicKey, generateKeyPairSync, randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { inboxTopic, keyOfNodeId, nodeIdOfKey, type SignalIdentity } from "../../core/signal/node-key.ts";
import { createSealing } from "../../core/signal/sealing.ts";
import { encodeEnvelope, ENVELOPE_MAX_LENGTH, envelopeTagKey } from "../../core/wire/signal-envelope.ts";
import { encodeSignal, type SignalMessage } from "../../core/wire/signal-message.ts";

/** Different ones, more than the node recognises copies of. */
const SAMPLES = 10_000;
const CONNECT = Buffer.from("101500044d5154540402003c0009666c6f6f6465722d31", "hex");

const [portText = "", id = "", what = "", durationText = "", who = ""] = process.argv.slice(2);
const node = keyOfNodeId(id);
const topic = inboxTopic(node);
const socket = connect(Number(portText), "127.0.0.1");
await once(socket, "connect");
socket.write(CONNECT);
await once(socket, "data");
const sent = what === "kinds" ? await sendKinds() : await flood(Number(what), Number(durationText));
socket.end(Buffer.of(0xe0, 0));
console.log(sent);

/** One of each kind that has a name in docs/signaling.md and that a stranger can make; every envelope once. */
async function sendKinds(): Promise<number> {
  const mallory = identity();
  const sealing = await createSealing(mallory);
  const liar = await createSealing({ ...identity(), publicKey: mallory.publicKey });
  const now = Date.now();
  const fresh = await sealing.seal(node, encodeSignal(ping(now)));
  const kinds: readonly Uint8Array[] = [
    fresh,
    fresh, // replayed
    await sealing.seal(node, encodeSignal(ping(now - 3_600_000))), // stale
    await liar.seal(node, encodeSignal(ping(now))), // forged
    await sealing.seal(node, new TextEncoder().encode('{"v":1,"no":"signal"}')), // malformed inside
    Uint8Array.of(1, 2, 3), // malformed outside
    randomBytes(ENVELOPE_MAX_LENGTH + 1), // oversized
    garbage(envelopeTagKey(node)), // unsealable
    garbage(envelopeTagKey(mallory.publicKey)), // of a stranger to the id
  ];
  for (const kind of kinds) await write(publishPacket(kind));
  return kinds.length;
}

/** At a steady rate. */
async function flood(perSecond: number, durationMs: number): Promise<number> {
  const tagKey = envelopeTagKey(who === "insider" ? node : identity().publicKey);
  const samples = Array.from({ length: SAMPLES }, () => publishPacket(garbage(tagKey)));
  const start = performance.now();
  let count = 0;
  while (performance.now() - start < durationMs) {
    const due = Math.floor(((performance.now() - start) / 1000) * perSecond) - count;
    const packets = Array.from({ length: Math.min(due, 500) }, (_, i) => samples[(count + i) % SAMPLES]);
    count += packets.length;
    if (packets.length > 0) await write(Buffer.concat(packets as Buffer[]));
    await Bun.sleep(5);
  }
  return count;
}

async function write(bytes: Uint8Array): Promise<void> {
  const to: Socket = socket;
  if (!to.write(bytes)) await once(to, "drain");
}

function ping(at: number): SignalMessage {
  return { v: 1, id: randomBytes(16).toString("base64url"), at, type: "ping" };
}

function garbage(tagKey: Uint8Array): Uint8Array {
  return encodeEnvelope(Buffer.concat([Buffer.of(4), randomBytes(64)]), randomBytes(380), tagKey);
}

function publishPacket(payload: Uint8Array): Buffer {
  const length = 2 + topic.length + payload.length;
  const head = Buffer.from([0x30, (length & 127) | 128, length >> 7, 0, topic.length]);
  return Buffer.concat([head, Buffer.from(topic), payload]);
}

function identity(): SignalIdentity {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  const { x, y } = createPublicKey(privateKey).export({ format: "jwk" });
  const sign = (Buffer.from(y as string, "base64url").at(-1) as number) & 1;
  const publicKey = new Uint8Array([2 + sign, ...Buffer.from(x as string, "base64url")]);
  const privateKeyPem = privateKey.export({ type: "pkcs8", format: "pem" });
  return { id: nodeIdOfKey(publicKey), publicKey, credentials: { privateKeyPem } };
}
