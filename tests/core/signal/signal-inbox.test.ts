import { beforeAll, describe, expect, test } from "bun:test";
import { createSealing, type Sealing } from "../../../core/signal/sealing.ts";
import { createSenders, PER_SENDER_BURST } from "../../../core/signal/senders.ts";
import {
  createSignalInbox,
  type Delivered,
  FRESH_MS,
  OPENINGS_BURST,
  type SignalInbox,
} from "../../../core/signal/signal-inbox.ts";
import { encodeEnvelope, ENVELOPE_MAX_LENGTH, envelopeTagKey } from "../../../core/wire/signal-envelope.ts";
import { encodeSignal, type SignalMessage } from "../../../core/wire/signal-message.ts";
import { HandTime } from "../node/memory-stream.ts";
import { makeIdentity, REQUEST, until } from "./signaling-nodes.ts";

const bob = makeIdentity();
const alice = makeIdentity();
const tagKey = envelopeTagKey(bob.publicKey);
let bobs: Sealing;
let alices: Sealing;
let messages = 0;

beforeAll(async () => {
  [bobs, alices] = await Promise.all([createSealing(bob), createSealing(alice)]);
});

describe("a signal", () => {
  test("that is sealed, fresh and new is delivered with its proven sender", async () => {
    const { inbox, delivered } = open();
    inbox.push(await sealed(), "a");
    await until(() => delivered.length === 1);
    expect(delivered[0]).toMatchObject({ from: alice.id, message: { type: "ping" } });
  });

  test("that comes over a second broker is a duplicate, over the same one replayed", async () => {
    const { inbox, delivered, again } = open();
    const bytes = await sealed();
    inbox.push(bytes, "a");
    await until(() => delivered.length === 1);
    inbox.push(bytes, "b");
    inbox.push(bytes, "a");
    expect(inbox.counters).toMatchObject({ delivered: 1, duplicate: 1, replayed: 1 });
    expect(again).toEqual(["b"]);
  });

  test("whose id was used, sealed anew, is replayed", async () => {
    const { inbox, delivered } = open();
    const message = ping();
    inbox.push(await sealed(message), "a");
    await until(() => delivered.length === 1);
    inbox.push(await sealed(message), "a");
    await until(() => inbox.counters.replayed === 1);
    expect(delivered).toHaveLength(1);
  });

  test("of a time too far from ours is stale, either way, and its sender is told", async () => {
    const { inbox, stale, time } = open();
    for (const off of [-FRESH_MS - 1000, FRESH_MS + 1000]) {
      inbox.push(await sealed({ ...ping(), at: time.wallMs() + off }), "a");
    }
    await until(() => inbox.counters.stale === 2);
    expect(stale).toHaveLength(2);
    expect(inbox.counters.delivered).toBe(0);
  });

  test("from before our own start is stale: we cannot know whether it was used", async () => {
    const { inbox, time } = open();
    inbox.push(await sealed({ ...ping(), at: time.wallMs() - 10_000 }), "a");
    await until(() => inbox.counters.stale === 1);
  });

  test("that says it is another's is forged", async () => {
    const { inbox } = open();
    const mallory = makeIdentity();
    const liar = await createSealing({ ...mallory, publicKey: alice.publicKey });
    inbox.push(await liar.seal(bob.publicKey, encodeSignal(ping())), "a");
    await until(() => inbox.counters.forged === 1);
  });

  test("with random insides is not for us", async () => {
    const { inbox } = open();
    inbox.push(garbage(tagKey), "a");
    await until(() => inbox.counters.unsealable === 1);
  });

  test("that is oversized, malformed, of another version or made by a stranger is dropped at once", () => {
    const { inbox } = open();
    inbox.push(new Uint8Array(ENVELOPE_MAX_LENGTH + 1), "a");
    inbox.push(new Uint8Array(0), "a");
    inbox.push(new Uint8Array(300).fill(1), "a");
    inbox.push(new Uint8Array(300).fill(9), "a");
    inbox.push(garbage(envelopeTagKey(alice.publicKey)), "a");
    expect(inbox.counters).toMatchObject({
      received: 5,
      oversized: 1,
      malformed: 2,
      "unknown-version": 1,
      stranger: 1,
    });
  });

  test("of an unknown type or version is counted as such", async () => {
    const { inbox } = open();
    for (const [name, value] of [
      ["type", "dance"],
      ["v", 7],
    ] as const) {
      const text = new TextEncoder().encode(JSON.stringify({ ...ping(), [name]: value }));
      inbox.push(await alices.seal(bob.publicKey, text), "a");
    }
    await until(() => inbox.counters["unknown-type"] === 1 && inbox.counters["unknown-version"] === 1);
  });
});

describe("limits", () => {
  test("a sender that says too much is not heard for a while, others are", async () => {
    const { inbox, time } = open();
    const carols = await createSealing(makeIdentity());
    for (let i = 0; i < PER_SENDER_BURST + 5; i++) {
      inbox.push(await sealed(), "a");
      await until(() => settled(inbox));
    }
    expect(inbox.counters).toMatchObject({ delivered: PER_SENDER_BURST, "sender-rate": 5 });
    inbox.push(await carols.seal(bob.publicKey, encodeSignal(ping())), "a");
    await until(() => settled(inbox));
    expect(inbox.counters.delivered).toBe(PER_SENDER_BURST + 1);
    time.advance(1000);
    inbox.push(await sealed(), "a");
    await until(() => settled(inbox));
    expect(inbox.counters.delivered).toBe(PER_SENDER_BURST + 2);
  });

  test("whoever knows our id can make us spend so many openings a second, and no more", async () => {
    const { inbox, time } = open();
    for (let i = 0; i < 2000; i++) {
      inbox.push(garbage(tagKey), "a");
      if (i % 32 === 0) await until(() => settled(inbox));
    }
    await until(() => settled(inbox));
    expect(inbox.counters.unsealable).toBe(OPENINGS_BURST);
    expect(inbox.counters.flooded).toBe(2000 - OPENINGS_BURST);
    time.advance(1000);
    inbox.push(await sealed(), "a");
    await until(() => inbox.counters.delivered === 1);
  });

  test("a hundred thousand signals of strangers leave no memory behind and cost microseconds each", () => {
    const { inbox } = open();
    const samples = Array.from({ length: 100 }, () => garbage(envelopeTagKey(alice.publicKey)));
    Bun.gc(true);
    const before = process.memoryUsage().heapUsed;
    const start = performance.now();
    for (let i = 0; i < 100_000; i++) inbox.push(samples[i % 100] as Uint8Array, "a");
    const eachUs = (performance.now() - start) / 100;
    Bun.gc(true);
    expect(inbox.counters.stranger).toBe(100_000);
    expect(eachUs).toBeLessThan(50);
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(8 * 1024 * 1024);
  });
});

function open(): {
  inbox: SignalInbox;
  delivered: Delivered[];
  stale: Delivered[];
  again: string[];
  time: HandTime;
} {
  const time = new HandTime();
  const delivered: Delivered[] = [];
  const stale: Delivered[] = [];
  const again: string[] = [];
  const inbox = createSignalInbox({
    time,
    wallMs: () => time.wallMs(),
    publicKey: bob.publicKey,
    sealing: () => Promise.resolve(bobs),
    senders: createSenders(),
    awaits: () => false,
    deliver: (signal) => delivered.push(signal),
    stale: (signal) => stale.push(signal),
    again: (_from, _messageId, via) => again.push(via),
  });
  return { inbox, delivered, stale, again, time };
}

function settled({ counters }: SignalInbox): boolean {
  const { received, ...ends } = counters;
  return received === Object.values(ends).reduce((sum, count) => sum + count, 0);
}

function ping(): SignalMessage {
  const id = REQUEST.slice(0, 14) + (messages++).toString(36).padStart(8, "0");
  return { v: 1, id, at: new HandTime().wallMs(), type: "ping" };
}

function sealed(message: SignalMessage = ping()): Promise<Uint8Array> {
  return alices.seal(bob.publicKey, encodeSignal(message));
}

function garbage(key: Uint8Array): Uint8Array {
  const enc = crypto.getRandomValues(new Uint8Array(65));
  enc[0] = 4;
  return encodeEnvelope(enc, crypto.getRandomValues(new Uint8Array(400)), key);
}
