import { afterEach, describe, expect, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import { createRealWorld } from "../../../core/net/real-world.ts";
import type { World } from "../../../core/net/world.ts";
import { recordTopic } from "../../../core/signal/node-key.ts";
import { createBrokerLink } from "../../../core/signal/broker-link.ts";
import { parseBrokerUrl } from "../../../core/signal/broker-url.ts";
import { encodeRecord } from "../../../core/wire/signal-record.ts";
import { type AedesBroker, startAedes } from "./brokers.ts";
import {
  failure,
  makeIdentity,
  offer,
  REQUEST,
  startTestNode,
  type TestNode,
  until,
} from "./signaling-nodes.ts";

const cleanUps: (() => void | Promise<void>)[] = [];

afterEach(async () => {
  for (const step of cleanUps.splice(0).toReversed()) await step();
});

describe("clocks", () => {
  test("an hour apart cost one round trip more, and are known after that", async () => {
    const { url } = await broker();
    const bob = node([url]);
    const alice = node([url], { world: shifted(3_600_000) });
    await Promise.all([alice.connected(), bob.connected()]);
    const pong = await alice.signaling.request(bob.id, bob.brokers, { type: "ping" }, { timeoutMs: 5000 });
    expect(pong.type).toBe("pong");
    expect(Math.abs((alice.signaling.clockOffset(bob.id)?.offsetMs ?? 0) + 3_600_000)).toBeLessThan(50);
    expect(bob.signaling.status().signals).toMatchObject({ stale: 1, delivered: 1 });
    // Also what needs no answer is corrected.
    const carol = node([url], { world: shifted(-3_600_000) });
    await carol.connected();
    await carol.signaling.send(bob.id, bob.brokers, offer());
    await until(() => bob.received.length === 1);
  });
});

describe("requests", () => {
  test("that nobody answers end in a timeout, that are given up in an abort", async () => {
    const { url } = await broker();
    const alice = node([url]);
    await alice.connected();
    const nobody = makeIdentity();
    const brokers = alice.brokers;
    const silent = alice.signaling.request(nobody.id, brokers, { type: "ping" }, { timeoutMs: 50 });
    expect(await failure(silent)).toMatchObject({ code: "timeout" });
    const controller = new AbortController();
    const options = { timeoutMs: 5000, signal: controller.signal };
    const given = alice.signaling.request(nobody.id, brokers, { type: "ping" }, options);
    const sent = alice.signaling.send(nobody.id, [parseBrokerUrl("mqtt://127.0.0.1:9")], offer(), options);
    const found = alice.signaling.fetchRecord(nobody.id, options);
    controller.abort();
    for (const promise of [given, sent, found]) {
      expect(await failure(promise)).toMatchObject({ code: "aborted" });
    }
    const again = [
      alice.signaling.request(nobody.id, brokers, { type: "ping" }, options),
      alice.signaling.send(nobody.id, brokers, offer(), options),
      alice.signaling.fetchRecord(nobody.id, options),
    ];
    for (const promise of again) expect(await failure(promise)).toMatchObject({ code: "aborted" });
  });

  test("to what is no node are refused", async () => {
    const alice = node([]);
    const bad = { code: "bad-argument" };
    expect(await failure(alice.signaling.send("me", [], offer()))).toMatchObject(bad);
    expect(
      await failure(alice.signaling.request("me", [], { type: "ping" }, { timeoutMs: 9 })),
    ).toMatchObject(bad);
    expect(await failure(alice.signaling.fetchRecord("me", { timeoutMs: 9 }))).toMatchObject(bad);
    const noPoint = `Av${"_".repeat(42)}`;
    expect(
      (await failure(alice.signaling.send(noPoint, [parseBrokerUrl("mqtt://127.0.0.1:9")], offer()))).message,
    ).toContain("no point");
  });

  test("are answered again when the answer was lost, without asking the receiver twice", async () => {
    const { url, aedes } = await broker();
    let lost = 0;
    const bob = node([url], {
      message: (signal) => void signal.reply({ type: "answer", request: REQUEST, accepted: true }),
    });
    const alice = node([url]);
    await Promise.all([alice.connected(), bob.connected()]);
    aedes.authorizeForward = (_client, packet) => {
      const isAnswer = packet.topic.endsWith(inboxOf(alice)) && lost === 0;
      if (isAnswer) lost++;
      return isAnswer ? null : packet;
    };
    const answer = await alice.signaling.request(bob.id, bob.brokers, offer(), { timeoutMs: 5000 });
    expect(answer).toMatchObject({ accepted: true });
    expect(lost).toBe(1);
    expect(bob.received).toHaveLength(1);
  });

  test("under way when signaling is closed end with that", async () => {
    const { url } = await broker();
    const alice = node([url]);
    await alice.connected();
    const asked = alice.signaling.request(makeIdentity().id, [], { type: "ping" }, { timeoutMs: 5000 });
    alice.signaling.close();
    expect(await failure(asked)).toMatchObject({ code: "closed" });
  });

  test("whose receiver throws do no harm", async () => {
    const { url } = await broker();
    const bob = node([url], {
      message() {
        throw new Error("not today");
      },
    });
    const alice = node([url]);
    await Promise.all([alice.connected(), bob.connected()]);
    await alice.signaling.send(bob.id, bob.brokers, offer());
    await until(() => bob.received.length === 1);
    await alice.signaling.request(bob.id, bob.brokers, { type: "ping" }, { timeoutMs: 5000 });
  });
});

describe("address records", () => {
  test("that are forged, expired or older than another do not count", async () => {
    const [one, two] = [await broker(), await broker()];
    const bob = makeIdentity();
    const now = Date.now();
    const put = async (at: AedesBroker, line: string, signedMs: number, signer = bob): Promise<void> => {
      const key = createPrivateKey(signer.credentials.privateKeyPem);
      const record = { line, signedMs, lifetimeSeconds: 60 };
      const payload = encodeRecord(record, bob.publicKey, key, new Uint8Array(12));
      const topic = recordTopic(bob.publicKey);
      const link = createBrokerLink(createRealWorld(), { broker: parseBrokerUrl(at.url) });
      cleanUps.push(() => link.close());
      await new Promise<void>((resolve) => void link.whenConnected(resolve));
      const kept = new Promise<void>((resolve) => void at.aedes.once("publish", () => resolve()));
      link.publish(topic, payload, { retain: true });
      await kept;
    };
    await put(one, "older", now - 2000);
    await put(two, "newer", now - 1000);
    const alice = node([one.url, two.url]);
    await alice.connected();
    expect((await alice.signaling.fetchRecord(bob.id, { timeoutMs: 5000 })).line).toBe("newer");
    await put(one, "expired", now - 7_200_000);
    await put(two, "forged", now, makeIdentity());
    const fetched = alice.signaling.fetchRecord(bob.id, { timeoutMs: 300 });
    expect(await failure(fetched)).toMatchObject({ code: "no-such-peer" });
    expect(alice.signaling.status().records).toMatchObject({ expired: 1, forged: 1 });
  });

  test("are kept at a broker that was not there when they were made", async () => {
    const first = await startAedes();
    await first.close();
    const bob = node([first.url]);
    bob.signaling.publishRecord("p2pd1~here");
    expect(() => bob.signaling.publishRecord("x".repeat(5000))).toThrow("4096");
    const second = await startAedes({ port: first.port });
    cleanUps.push(() => second.close());
    await bob.connected();
    const alice = node([]);
    const options = { timeoutMs: 5000, brokers: bob.brokers };
    expect((await alice.signaling.fetchRecord(bob.id, options)).line).toBe("p2pd1~here");
    const nowhere = node([]).signaling.fetchRecord(bob.id, { timeoutMs: 5000 });
    expect(await failure(nowhere)).toMatchObject({ code: "unavailable" });
  });
});

function inboxOf({ identity }: TestNode): string {
  const hash = new Bun.CryptoHasher("sha256")
    .update("p2pd/1 topic inbox\0")
    .update(identity.publicKey)
    .digest();
  return Buffer.from(hash.subarray(0, 16)).toString("base64url");
}

/** A machine whose wall clock is wrong by so much. */
function shifted(byMs: number): World {
  const real = createRealWorld();
  return { ...real, time: { ...real.time, wallMs: () => Date.now() + byMs } };
}

async function broker(): Promise<AedesBroker> {
  const started = await startAedes();
  cleanUps.push(() => started.close());
  return started;
}

function node(urls: readonly string[], options: Parameters<typeof startTestNode>[1] = {}): TestNode {
  const started = startTestNode(urls, options);
  cleanUps.push(() => started.signaling.close());
  return started;
}
