import { afterAll, afterEach, describe, expect, test } from "bun:test";
import type { P2pdError } from "../../../core/errors.ts";
import { CLOSE } from "../../../core/net/quic-errors.ts";
import { encodeProof } from "../../../core/net/quic-proof.ts";
import { writerOf } from "../../../core/net/quic-runtime.ts";
import type { QuicPath } from "../../../core/net/world.ts";
import { createTestIdentity } from "./credentials.ts";
import { closeEndpoints, dial, endpoint, listener, quicPair, rawCaller, relay } from "./quic-pair.ts";
import {
  alice,
  bob,
  closeStreams,
  codeOf,
  collect,
  countFds,
  exchange,
  hasFdList,
  loopback,
  quiet,
  settled,
  text,
  world,
} from "./real-streams.ts";

const MIB = 1 << 20;
/** No more than this is on its way to a reader that does not read. */
const MOST_UNREAD = 9 * MIB;

afterEach(closeEndpoints);
afterAll(closeStreams);

describe("QUIC", () => {
  for (const ip of ["127.0.0.1", "::1"]) {
    test(`on ${ip} proves both keys and carries 64 MiB both ways`, async () => {
      const [near, far] = await quicPair({ local: { ip, port: 0 } });
      expect([near.peerKey, far.peerKey]).toEqual([bob.key, alice.key]);
      expect([near.local, near.remote]).toEqual([far.remote, far.local]);
      expect(near.cipher).toStartWith("TLS_");
      expect(near.rttMs()).toBeGreaterThan(0);
      const [atNear, atFar] = await Promise.all([exchange(near, 64), exchange(far, 64)]);
      expect(atNear.received).toBe(atFar.sent);
      expect(atFar.received).toBe(atNear.sent);
    }, 30_000);
  }

  test("on :: serves both families, calls both from the same port, and knows its own address", async () => {
    const any = { ip: "::", port: 0 };
    const [left, right] = [await listener({ local: any }), await listener({ local: any })];
    for (const ip of ["127.0.0.1", "::1"]) {
      const arrival = right.next();
      const near = await dial(left.endpoint, { ip, port: right.endpoint.local.port });
      const far = await arrival;
      expect(far.remote).toEqual({ ip, port: left.endpoint.local.port });
      expect(far.local).toEqual({ ip, port: right.endpoint.local.port });
      expect(near.local).toEqual(far.remote);
    }
  });

  test("half-closes, flushes what is pending first, and closes when both have all of it", async () => {
    const [near, far] = await quicPair();
    expect(near.write(new Uint8Array(8 * MIB).fill(7))).toBe(false);
    near.end();
    const atFar = collect(far);
    expect((await atFar.ended).length).toBe(8 * MIB);
    far.write(text("still heard"));
    far.end();
    const atNear = collect(near);
    expect(await atNear.ended).toBe("still heard");
    expect(await Promise.all([atNear.closed, atFar.closed])).toEqual([undefined, undefined]);
  });

  test("that is aborted tells both sides once", async () => {
    const [near, far] = await quicPair();
    const [atNear, atFar] = [collect(near), collect(far)];
    near.abort();
    near.abort();
    expect((await atNear.closed)?.code).toBe("aborted");
    expect((await atFar.closed)?.code).toBe("closed");
    expect([near.write(text("x")), near.sendDatagram(text("x")), near.maxDatagramBytes]).toEqual([
      true,
      false,
      0,
    ]);
  });

  test("makes a writer wait for a slow reader, who loses nothing", async () => {
    const [near, far] = await quicPair();
    let sent = 0;
    let drained = Promise.withResolvers<boolean>();
    near.attach({ ...quiet, drain: () => drained.resolve(true) });
    const block = new Uint8Array(MIB).fill(9);
    const fill = async (patienceMs: number): Promise<void> => {
      for (let roomy = true; roomy && sent < 64; ) {
        drained = Promise.withResolvers();
        sent++;
        if (near.write(block)) continue;
        const timer = setTimeout(() => drained.resolve(false), patienceMs);
        roomy = await drained.promise;
        clearTimeout(timer);
      }
    };
    await fill(500);
    expect(sent * MIB - near.pendingBytes).toBeLessThan(MOST_UNREAD);
    let received = 0;
    const ended = Promise.withResolvers<void>();
    far.attach({ ...quiet, data: (bytes) => void (received += bytes.length), end: ended.resolve });
    await fill(10_000);
    near.end();
    await ended.promise;
    expect(received).toBe(sent * MIB);
  }, 30_000);

  test("holds what comes while paused, and ends if its receiver throws", async () => {
    const [near, far] = await quicPair();
    const got: string[] = [];
    const ended = Promise.withResolvers<void>();
    near.attach({
      ...quiet,
      data(bytes) {
        got.push(Buffer.from(bytes).toString());
        near.pause();
        setImmediate(() => {
          got.push("|");
          near.resume();
        });
      },
      end: ended.resolve,
    });
    far.write(text("one"));
    await settled(() => got.length === 2);
    far.write(text("two"));
    far.end();
    await ended.promise;
    expect(got.join("")).toStartWith("one|two");
    const closed = Promise.withResolvers<P2pdError | undefined>();
    far.attach({
      ...quiet,
      data() {
        throw new Error("lost its mind");
      },
      close: closed.resolve,
    });
    near.write(text("x"));
    expect((await closed.promise)?.code).toBe("internal");
  });

  test("carries datagrams up to its maximum, holds early ones, and refuses larger and empty ones", async () => {
    const [near, far] = await quicPair();
    const largest = world.randomBytes(near.maxDatagramBytes);
    expect(largest.length).toBeGreaterThan(1000);
    expect(near.sendDatagram(largest)).toBe(true);
    expect(near.sendDatagram(new Uint8Array(near.maxDatagramBytes + 1))).toBe(false);
    expect(near.sendDatagram(new Uint8Array(0))).toBe(false);
    expect(await nextDatagram(far)).toEqual(largest);
    const answer = nextDatagram(near);
    far.sendDatagram(text("back"));
    expect(await answer).toEqual(text("back"));
    expect(near.maxDatagramBytes).toBeGreaterThan(largest.length);
    let taken = 0;
    while (near.sendDatagram(largest)) taken++;
    expect(taken).toBeLessThan(2048);
  });

  test("leaves no descriptor and no session after 200 connections", async () => {
    const bobs = await listener();
    const alices = await endpoint();
    const before = hasFdList ? countFds() : 0;
    // A path that is aborted at once may end before the listener has its proof: what that saw is not counted.
    for (let round = 0; round < 10; round++) {
      const paths = await Promise.all(Array.from({ length: 20 }, () => dial(alices, bobs.endpoint.local)));
      await Promise.all(
        paths.map((path) => {
          path.abort();
          return collect(path).closed;
        }),
      );
    }
    for (const path of bobs.accepted) path.abort();
    if (hasFdList) await settled(() => countFds() <= before);
  }, 30_000);
});

describe("Connecting by QUIC", () => {
  test("to a wrong key fails naming both keys", async () => {
    const bobs = await listener();
    const error = await dial(await endpoint(), bobs.endpoint.local, alice.key).catch((e: P2pdError) => e);
    expect(error).toMatchObject({ code: "peer-key" });
    expect((error as P2pdError).message).toContain(Buffer.from(bob.key).toString("base64url"));
    expect((error as P2pdError).message).toContain(Buffer.from(alice.key).toString("base64url"));
    await settled(() => bobs.endpoint.counters.failed === 1);
    expect(bobs.accepted).toEqual([]);
  });

  test("to silence times out, and is given up by its signal", async () => {
    const silent = await world.openUdp({ local: loopback });
    const from = await endpoint();
    const connect = (timeoutMs: number, signal?: AbortSignal) =>
      codeOf(
        from.connect({
          remote: silent.local,
          expectedKey: bob.key,
          timeoutMs,
          ...(signal === undefined ? {} : { signal }),
        }),
      );
    expect(await connect(50)).toBe("timeout");
    const controller = new AbortController();
    const attempt = connect(5000, controller.signal);
    controller.abort();
    expect(await attempt).toBe("aborted");
    expect(await connect(5000, AbortSignal.abort())).toBe("aborted");
    silent.close();
  });

  test("and giving up one of two calls costs neither the other one nor the listener", async () => {
    const bobs = await listener();
    const from = await endpoint();
    for (let round = 0; round < 40; round++) {
      const calls = [0, 1].map(() => {
        const controller = new AbortController();
        const { signal } = controller;
        const options = { remote: bobs.endpoint.local, expectedKey: bob.key, timeoutMs: 5000, signal };
        return { controller, path: from.connect(options) };
      });
      const winner = await Promise.any(
        calls.map(({ path }, index) => path.then((made) => ({ made, index }))),
      );
      const loser = calls[1 - winner.index];
      loser?.controller.abort();
      loser?.path.then(
        (path) => path.abort(),
        () => undefined,
      );
      winner.made.end();
      const { closed } = collect(winner.made);
      // The one given up may have left before its proof, which counts as failed.
      await settled(() => {
        const { accepted, strangers } = bobs.endpoint.counters;
        return strangers === 0 && accepted === 2 * (round + 1);
      });
      for (const path of bobs.accepted) path.end();
      expect(await closed).toBeUndefined();
    }
    expect(bobs.endpoint.counters).toMatchObject({ accepted: 80, strangers: 0, turnedAway: 0 });
  }, 30_000);

  test("to an endpoint that accepts nobody is refused", async () => {
    const deaf = await endpoint({ credentials: bob.credentials });
    const from = await endpoint();
    const path = dial(from, deaf.local).then(
      async (made) => (await collect(made).closed)?.code,
      (error: P2pdError) => error.code,
    );
    expect(await path).toBe("refused");
    expect(deaf.counters.turnedAway).toBe(1);
  });

  test("refuses impossible targets and credentials", async () => {
    const from = await endpoint();
    expect(await codeOf(dial(from, { ip: "127.0.0.1", port: 0 }))).toBe("bad-argument");
    expect(await codeOf(dial(from, { ip: "::1", port: 9 }))).toBe("bad-argument");
    const any = await endpoint({ local: { ip: "::", port: 0 } });
    expect(await codeOf(dial(any, { ip: "fe80::1", port: 9 }))).toBe("unsupported");
    expect(await codeOf(endpoint({ local: { ip: "fe80::1", port: 0 } }))).toBe("unsupported");
    expect(await codeOf(endpoint({ credentials: createTestIdentity("P-384").credentials }))).toBe(
      "bad-argument",
    );
    expect(await codeOf(endpoint({ local: from.local }))).toBe("address-in-use");
    expect(await codeOf(endpoint({ local: { ip: "198.51.100.7", port: 0 } }))).toBe("unreachable");
  });

  test("whose peer dies ends with a timeout on both sides", async () => {
    const bobs = await listener({ idleTimeoutMs: 1000 });
    const line = await relay(bobs.endpoint.local);
    const arrival = bobs.next();
    const near = await dial(await endpoint({ idleTimeoutMs: 1000 }), line.local);
    const far = await arrival;
    const ends = [collect(near).closed, collect(far).closed];
    line.cut();
    expect((await Promise.all(ends)).map((error) => error?.code)).toEqual(["timeout", "timeout"]);
  });

  test.each([
    ["both", 2000, 2000, 0, 7],
    ["the caller", 100, 2000, 10, 60],
    ["the listener", 2000, 100, 10, 60],
  ] as const)(
    "shows signs of life as often as %s side says: %p and %p ms",
    async (_, caller, called, least, most) => {
      const bobs = await listener({ idleTimeoutMs: 3000, keepAliveMs: called });
      const line = await relay(bobs.endpoint.local);
      const arrival = bobs.next();
      const alices = await endpoint({ idleTimeoutMs: 3000, keepAliveMs: 1500 });
      const to = { remote: line.local, expectedKey: bob.key, timeoutMs: 5000, keepAliveMs: caller };
      await Promise.all([alices.connect(to), arrival]);
      await Bun.sleep(300);
      const before = line.carried();
      await Bun.sleep(1200);
      expect(line.carried() - before).toBeWithin(least, most + 1);
      line.cut();
    },
  );
});

describe("A caller by QUIC", () => {
  test("without a proof is closed in time, and its octets and datagrams are not delivered", async () => {
    const bobs = await listener({ strangerTimeoutMs: 100 });
    const mute = await rawCaller(bobs.endpoint.local);
    mute.stream.writer.writeSync(text("too short"));
    expect(await mute.closedWith).toBe(CLOSE.timeout);
    const rude = await rawCaller(bobs.endpoint.local);
    rude.stream.writer.writeSync(text("GET / HTTP/1.1\r\n".repeat(10)));
    expect(await rude.closedWith).toBe(CLOSE.protocol);
    const brief = await rawCaller(bobs.endpoint.local);
    brief.stream.writer.writeSync(text("x"));
    brief.stream.writer.endSync();
    expect(await brief.closedWith).toBe(CLOSE.protocol);
    expect(bobs.accepted).toEqual([]);
    expect(bobs.endpoint.counters).toMatchObject({ accepted: 3, strangers: 0, failed: 3 });
  });

  test("with a forged proof, or one of another session, is refused; with its own it is heard", async () => {
    const bobs = await listener();
    const arrival = bobs.next();
    const prove = async (secretOf: string | undefined, key: Uint8Array): Promise<number | QuicPath> => {
      const caller = await rawCaller(bobs.endpoint.local);
      secrets.push(caller.secret());
      const exporterSecret = new Uint8Array(Buffer.from(secretOf ?? caller.secret(), "hex"));
      const subject = { exporterSecret, listenerKey: bob.key };
      caller.stream.writer.writeSync(encodeProof(subject, key, alice.credentials.privateKeyPem));
      return Promise.race([caller.closedWith, arrival]);
    };
    const secrets: string[] = [];
    expect(await prove(undefined, bob.key)).toBe(CLOSE.peerKey);
    expect(await prove(undefined, new Uint8Array(33).fill(2))).toBe(CLOSE.peerKey);
    expect(await prove(secrets[0], alice.key)).toBe(CLOSE.peerKey);
    expect(await prove(undefined, alice.key)).toMatchObject({ peerKey: alice.key });
  });

  test("that opens another stream is closed", async () => {
    const bobs = await listener();
    const caller = await rawCaller(bobs.endpoint.local);
    const stray = await caller.session.createUnidirectionalStream({ body: text("x") });
    stray.closed.catch(() => undefined);
    expect(await caller.closedWith).toBe(CLOSE.protocol);
  });

  test("that sends more than the window, or nonsense on its control stream, is closed", async () => {
    const bobs = await listener();
    const prove = async () => {
      const caller = await rawCaller(bobs.endpoint.local);
      const exporterSecret = new Uint8Array(Buffer.from(caller.secret(), "hex"));
      const subject = { exporterSecret, listenerKey: bob.key };
      caller.stream.writer.writeSync(encodeProof(subject, alice.key, alice.credentials.privateKeyPem));
      return caller;
    };
    const greedy = await prove();
    const writer = writerOf(greedy.stream);
    void (async () => {
      const block = new Uint8Array(65_536);
      for (let i = 0; i < 1000; i++) if (!writer.writeSync(block)) await writer.drained();
    })().catch(() => undefined);
    expect(await greedy.closedWith).toBe(CLOSE.protocol);
    for (const nonsense of ["ffffffffffffffff", "fffffffffffffffe", "0000000000000001"]) {
      const caller = await prove();
      const body = new Uint8Array(Buffer.from(nonsense, "hex"));
      const control = await caller.session.createUnidirectionalStream({ body });
      control.closed.catch(() => undefined);
      expect(await caller.closedWith).toBe(CLOSE.protocol);
    }
  });

  test("is heard although garbage floods the port", async () => {
    const bobs = await listener();
    const flood = await world.openUdp({ local: loopback });
    for (let i = 0; i < 2000; i++) {
      const garbage = world.randomBytes(i % 1400);
      if (i % 2 === 0 && garbage.length > 5) garbage.set([0xc3, 0, 0, 0, 1, 8]); // looks like an Initial
      flood.send(garbage, bobs.endpoint.local);
    }
    const arrival = bobs.next();
    const near = await dial(await endpoint(), bobs.endpoint.local);
    near.write(text("through"));
    near.end();
    expect(await collect(await arrival).ended).toBe("through");
    flood.close();
  });
});

function nextDatagram(path: QuicPath): Promise<Uint8Array> {
  return new Promise((resolve) => path.attachDatagrams((bytes) => resolve(bytes.slice())));
}
