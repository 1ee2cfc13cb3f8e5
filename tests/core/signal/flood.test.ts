/** What 10,000 garbage signals a second do to an honest one; with mosquitto, which carries them. */
import { heapStats } from "bun:jsc";
import { afterEach, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { inboxTopic } from "../../../core/signal/node-key.ts";
import { encodeEnvelope, envelopeTagKey } from "../../../core/wire/signal-envelope.ts";
import { startMosquitto } from "./brokers.ts";
import { startTestNode, type TestNode } from "./signaling-nodes.ts";

const isLab = process.env["P2PD_LAB"] === "1";
/** More different ones than the inbox recognises copies of. */
const SAMPLES = 10_000;
const cleanUps: (() => void | Promise<void>)[] = [];

afterEach(async () => {
  for (const step of cleanUps.splice(0).toReversed()) await step();
});

describe.skipIf(!isLab)("a flood", () => {
  test("of 10,000 signals a second by strangers for 10 s stops no honest one, and nothing of it is kept", async () => {
    const { alice, bob, flood } = await site();
    const pour = flood(envelopeTagKey(alice.identity.publicKey));
    const before = heldObjects();
    const sent = pour(10_000, 10_000);
    const times = await requests(alice, bob, 20, 450);
    const count = await sent;
    const { signals } = bob.signaling.status();
    console.log(`stranger flood: ${describeTimes(times)}; sent ${count}, dropped ${signals.stranger}`);
    expect(signals.stranger).toBeGreaterThan(20_000);
    expect(signals.unsealable).toBe(0);
    expect(times).toHaveLength(20);
    expect(heldObjects() - before).toBeLessThan(20_000);
  }, 60_000);

  test("of 10,000 a second by somebody who knows the id slows honest ones and does not stop them", async () => {
    const { alice, bob, flood } = await site();
    const sent = flood(envelopeTagKey(bob.identity.publicKey))(10_000, 5000);
    const times = await requests(alice, bob, 5, 100);
    await sent;
    const { signals } = bob.signaling.status();
    console.log(
      `insider flood: ${describeTimes(times)}; opened ${signals.unsealable}, flooded ${signals.flooded}`,
    );
    expect(signals.flooded).toBeGreaterThan(1000);
    expect(times).toHaveLength(5);
  }, 60_000);
});

async function site(): Promise<{
  alice: TestNode;
  bob: TestNode;
  flood: (tagKey: Uint8Array) => (perSecond: number, durationMs: number) => Promise<number>;
}> {
  const broker = await startMosquitto(["max_queued_messages 0"]);
  cleanUps.push(() => broker.close());
  const [alice, bob] = [startTestNode([broker.url]), startTestNode([broker.url])];
  cleanUps.push(() => alice.signaling.close());
  cleanUps.push(() => bob.signaling.close());
  await Promise.all([alice.connected(), bob.connected()]);
  const socket = connect(broker.port, "127.0.0.1");
  cleanUps.push(() => void socket.destroy());
  await once(socket, "connect");
  socket.write(Buffer.from("101500044d5154540402003c0009666c6f6f6465722d31", "hex"));
  await once(socket, "data");
  const topic = inboxTopic(bob.identity.publicKey);
  const flood = (tagKey: Uint8Array) => {
    const samples = Array.from({ length: SAMPLES }, () => publishPacket(topic, garbage(tagKey)));
    return (perSecond: number, durationMs: number) => pour(socket, samples, perSecond, durationMs);
  };
  return { alice, bob, flood };
}

/** Objects of this process that a full collection leaves: octets would count what the engine only estimates. */
function heldObjects(): number {
  Bun.gc(true);
  return heapStats().objectCount;
}

/** Publishes garbage at a steady rate; resolves with how many. */
async function pour(
  socket: Socket,
  samples: readonly Uint8Array[],
  perSecond: number,
  durationMs: number,
): Promise<number> {
  const start = performance.now();
  let count = 0;
  while (performance.now() - start < durationMs) {
    const due = Math.floor(((performance.now() - start) / 1000) * perSecond) - count;
    const packets = Array.from(
      { length: Math.min(due, 500) },
      (_, i) => samples[(count + i) % samples.length],
    );
    count += packets.length;
    if (packets.length > 0 && !socket.write(Buffer.concat(packets as Buffer[]))) await once(socket, "drain");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return count;
}

function garbage(tagKey: Uint8Array): Uint8Array {
  const enc = crypto.getRandomValues(new Uint8Array(65));
  enc[0] = 4;
  return encodeEnvelope(enc, crypto.getRandomValues(new Uint8Array(380)), tagKey);
}

function publishPacket(topic: string, payload: Uint8Array): Buffer {
  const length = 2 + topic.length + payload.length;
  const head = Buffer.from([0x30, (length & 127) | 128, length >> 7, 0, topic.length]);
  return Buffer.concat([head, Buffer.from(topic), payload]);
}

async function requests(alice: TestNode, bob: TestNode, count: number, everyMs: number): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    await alice.signaling.request(bob.id, bob.brokers, { type: "ping" }, { timeoutMs: 20_000 });
    times.push(performance.now() - start);
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
  return times;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] as number;
}

function describeTimes(times: readonly number[]): string {
  return `median ${median(times).toFixed(1)} ms, longest ${Math.max(...times).toFixed(1)} ms`;
}
