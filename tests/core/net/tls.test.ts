import { afterAll, describe, expect, test } from "bun:test";
import type { P2pdError } from "../../../core/errors.ts";
import type { ByteStream } from "../../../core/net/world.ts";
import { createTestIdentity } from "./credentials.ts";
import {
  alice,
  bob,
  closeStreams,
  codeOf,
  codeWhen,
  collect,
  collectSecure,
  connect,
  countFds,
  exchange,
  hasFdList,
  keep,
  options,
  pair,
  quiet,
  securePair,
  settled,
  text,
  world,
} from "./real-streams.ts";

afterAll(closeStreams);

describe("TLS", () => {
  for (const role of ["client", "server"] as const) {
    test(`with the connecting side as ${role} proves both keys and carries 64 MiB both ways`, async () => {
      const [a, b] = await securePair(role);
      expect([a.peerKey, b.peerKey]).toEqual([bob.key, alice.key]);
      expect(a.cipher).toStartWith("TLS_");
      const [sentA, sentB] = [exchange(a, 64), exchange(b, 64)];
      const [atA, atB] = await Promise.all([sentA, sentB]);
      expect(atA.received).toBe(atB.sent);
      expect(atB.received).toBe(atA.sent);
    });
  }

  test("half-closes and flushes what is pending first", async () => {
    const [a, b] = await securePair("client");
    a.write(new Uint8Array(8 << 20).fill(7));
    a.end();
    const atB = collect(b);
    expect((await atB.ended).length).toBe(8 << 20);
    b.write(text("still heard"));
    b.end();
    const atA = collect(a);
    expect(await atA.ended).toBe("still heard");
    expect(await Promise.all([atA.closed, atB.closed])).toEqual([undefined, undefined]);
  });

  test("with a wrong key fails naming both keys, and leaves no descriptor", async () => {
    const before = hasFdList ? countFds() : 0;
    const [a, b] = await pair();
    const wrong = world.secure(a, { ...options("client", alice), expectedKey: alice.key });
    const other = world
      .secure(b, options("server", bob))
      .then(collectSecure, (error: P2pdError) => error.code);
    const error = await wrong.catch((thrown: P2pdError) => thrown);
    expect(error).toMatchObject({ code: "peer-key" });
    expect((error as P2pdError).message).toContain(Buffer.from(bob.key).toString("base64url"));
    expect((error as P2pdError).message).toContain(Buffer.from(alice.key).toString("base64url"));
    expect(await other).toBe("closed");
    if (hasFdList) await settled(() => countFds() <= before);
  });

  test("refuses a key on another curve and a peer without certificate", async () => {
    const [a, b] = await pair();
    const stranger = createTestIdentity("P-384");
    const [mine] = await Promise.allSettled([
      world.secure(a, options("server", alice)),
      world.secure(b, options("client", stranger)).then((stream) => stream.attach(quiet)),
    ]);
    expect(mine).toMatchObject({ status: "rejected", reason: { code: "peer-key" } });
    const bare = await codeWhen(async (port) => {
      await Bun.connect({
        hostname: "127.0.0.1",
        port,
        tls: { rejectUnauthorized: false },
        socket: { data() {}, handshake() {}, error() {} },
      });
    });
    expect(bare).toBe("peer-key");
  });

  test("with garbage, a peer that leaves, or silence ends quickly and says so", async () => {
    const say = async (port: number, octets: Uint8Array, thenEnd: boolean): Promise<void> => {
      const stream = keep(await connect({ remote: { ip: "127.0.0.1", port } }));
      stream.write(octets);
      if (thenEnd) stream.end();
    };
    expect(await codeWhen((port) => say(port, text("GET / HTTP/1.0\r\n\r\n"), false))).toBe("protocol");
    expect(await codeWhen((port) => say(port, new Uint8Array(0), true))).toBe("closed");
    expect(await codeWhen((port) => say(port, new Uint8Array(0), false), 50)).toBe("timeout");
  });

  test("is given up by its signal, and refuses a stream that has ended", async () => {
    const [a, b] = await pair();
    const controller = new AbortController();
    const secured = codeOf(world.secure(a, { ...options("client", alice), signal: controller.signal }));
    controller.abort();
    expect(await secured).toBe("aborted");
    expect(await codeOf(world.secure(a, options("client", alice)))).toBe("closed");
    b.abort();
    expect(await codeOf(world.secure(b, options("server", alice)))).toBe("closed");
    const [c] = await pair();
    expect(await codeOf(world.secure(c, { ...options("client", alice), signal: AbortSignal.abort() }))).toBe(
      "aborted",
    );
  });

  test("runs over a stream that is no socket", async () => {
    const [a, b] = await pair();
    const plain: ByteStream = Object.create(a) as ByteStream;
    const [inner, outer] = await Promise.all([
      world.secure(plain, options("client", alice)),
      world.secure(b, options("server", bob)),
    ]);
    keep(inner).write(text("over a bridge"));
    inner.end();
    expect(inner.remote).toEqual(a.remote);
    expect(await collect(keep(outer)).ended).toBe("over a bridge");
  });
});
