import { afterAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import type { P2pdError } from "../../../core/errors.ts";
import { connectByName } from "../../../core/net/tcp-connect-plain.ts";
import type { ByteStream } from "../../../core/net/world.ts";
import { nativeSockets } from "../../../native/sockets.ts";
import {
  closeStreams,
  codeOf,
  collect,
  connect,
  countFds,
  hasFdList,
  keep,
  loopback,
  pair,
  quiet,
  settled,
  text,
  unusedPort,
  world,
} from "./real-streams.ts";

afterAll(closeStreams);

describe("a byte stream", () => {
  test("keeps what came before anybody attached, and half-closes in both orders", async () => {
    const [a, b] = await pair();
    a.write(text("early"));
    a.end();
    const atB = collect(b);
    expect(await atB.ended).toBe("early");
    const atA = collect(a);
    b.write(text("answer"));
    b.end();
    expect(await atA.ended).toBe("answer");
    expect(await Promise.all([atA.closed, atB.closed])).toEqual([undefined, undefined]);
    expect(a.local).toEqual(b.remote);
    expect(a.remote).toEqual(b.local);
  });

  test("takes everything, asks to wait, and drains once the reader reads on", async () => {
    const [a, b] = await pair();
    const hash = createHash("sha256");
    let received = 0;
    const done = Promise.withResolvers<void>();
    b.attach({
      ...quiet,
      data: (bytes) => void (hash.update(bytes), (received += bytes.length)),
      end: done.resolve,
    });
    b.pause();
    const drained = Promise.withResolvers<void>();
    a.attach({ ...quiet, drain: drained.resolve });
    const block = world.randomBytes(1 << 20);
    const expected = createHash("sha256");
    let blocks = 0;
    let more = true;
    while (more) {
      more = a.write(block);
      expected.update(block);
      blocks++;
    }
    expect(a.pendingBytes).toBeGreaterThan(0);
    expect(received).toBe(0);
    b.resume();
    await drained.promise;
    expect(a.pendingBytes).toBe(0);
    a.end();
    await done.promise;
    expect(received).toBe(blocks << 20);
    expect(hash.digest("hex")).toBe(expected.digest("hex"));
  });

  test("that is aborted resets the peer, and both hear of it last and once", async () => {
    const [a, b] = await pair();
    const atA = collect(a);
    const atB = collect(b);
    a.abort();
    expect((await atA.closed)?.code).toBe("aborted");
    expect((await atB.closed)?.code).toBe("closed");
    expect(a.write(text("late"))).toBe(true);
    a.end();
    a.abort();
  });

  test("whose receiver throws is closed with that error", async () => {
    const [a, b] = await pair();
    const closed = Promise.withResolvers<P2pdError | undefined>();
    const data = (): never => {
      throw new Error("receiver at fault");
    };
    a.attach({ ...quiet, data, close: closed.resolve });
    b.write(text("x"));
    const error = await closed.promise;
    expect(error?.code).toBe("internal");
    expect(error?.message).toContain("receiver at fault");
    expect((await collect(b).closed)?.code).toBe("closed");
  });

  test("whose pieces are small arrives in order after a full buffer", async () => {
    const [a, b] = await pair();
    a.attach(quiet);
    while (a.write(new Uint8Array(1 << 20)));
    const before = a.pendingBytes;
    for (let i = 0; i < 5000; i++) a.write(Uint8Array.of(i & 255, i >> 8));
    expect(a.pendingBytes).toBe(before + 10000);
    a.end();
    const parts: Uint8Array[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    b.attach({ ...quiet, data: (bytes) => void parts.push(bytes), end: resolve });
    await promise;
    const tail = Buffer.concat(parts).subarray(-10000);
    for (let i = 0; i < 5000; i++) expect(tail.readUInt16LE(2 * i)).toBe(i);
  });
});

describe("a connect", () => {
  test("leaves from the port of a shared listener, and another listener there is refused", async () => {
    const target = await world.listenTcp({ local: loopback, accept: keep });
    const shared = await world.listenTcp({ local: loopback, shared: true, accept: keep });
    const stream = keep(await connect({ remote: target.local, local: shared.local, shared: true }));
    expect(stream.local).toEqual(shared.local);
    const again = world.listenTcp({ local: shared.local, shared: true, accept: keep });
    expect(await codeOf(again)).toBe("address-in-use");
    expect(await codeOf(connect({ remote: target.local, local: shared.local }))).toBe("address-in-use");
    target.close();
    shared.close();
  });

  test("says in one code why it failed, naming both ends", async () => {
    const closedPort = await unusedPort();
    const remote = { ip: "127.0.0.1", port: closedPort };
    const elsewhere = { ip: "203.0.113.1", port: 0 };
    expect(await codeOf(connect({ remote }))).toBe("refused");
    expect(await codeOf(connect({ remote, local: remote, shared: true }))).toBe("refused");
    expect(await codeOf(connect({ remote, local: elsewhere }))).toBe("unreachable");
    expect(await codeOf(connect({ remote, device: "nonesuch0" }))).toBe("unreachable");
    expect(await codeOf(connect({ remote: { ip: "fe80::1", port: 9 } }))).toBe("unreachable");
    expect(await codeOf(connect({ remote: { ip: "::1", port: 9 }, local: loopback }))).toBe("bad-argument");
    expect(await codeOf(connect({ remote: loopback }))).toBe("bad-argument");
    const failure = await connect({ remote, local: elsewhere }).catch((error: P2pdError) => error.message);
    expect(failure).toContain(`127.0.0.1:${closedPort} from 203.0.113.1`);
    expect(await codeOf(connect({ remote, signal: AbortSignal.abort() }))).toBe("aborted");
  });

  test("by host and port alone, as where there are no system calls, stands or is given up", async () => {
    const { promise, resolve } = Promise.withResolvers<ByteStream>();
    const listener = await world.listenTcp({ local: loopback, accept: resolve });
    const near = keep(await connectByName(listener.local).done);
    expect(near.remote).toEqual(listener.local);
    near.write(text("plain"));
    near.end();
    expect(await collect(keep(await promise)).ended).toBe("plain");
    const given = connectByName(listener.local);
    given.cancel();
    expect((await collect(await given.done).closed)?.code).toBe("aborted");
    listener.close();
    const attempt = connectByName(listener.local).done;
    expect(await attempt.then(String, (error: { code: string }) => error.code)).toBe("ECONNREFUSED");
  });

  test.skipIf(!hasFdList)(
    "that nobody answers ends by its timeout or its signal, with no descriptor left",
    async () => {
      const native = nativeSockets();
      const deaf = native.openStream(4);
      native.bind(deaf, { octets: Uint8Array.of(127, 0, 0, 1), port: 0, scope: 0 });
      native.listen(deaf, 0);
      const remote = { ip: "127.0.0.1", port: native.localAddress(deaf).port };
      keep(await connect({ remote })); // fills its queue: later SYNs are dropped
      const before = countFds();
      expect(await codeOf(connect({ remote, timeoutMs: 30 }))).toBe("timeout");
      const controller = new AbortController();
      const aborted = codeOf(connect({ remote, signal: controller.signal }));
      world.time.after(10, () => controller.abort());
      expect(await aborted).toBe("aborted");
      await settled(() => countFds() <= before);
      native.close(deaf);
    },
  );

  test.skipIf(!hasFdList)("and a listener and a UDP socket may be tied to a NIC", async () => {
    const device = "lo";
    const listener = await world.listenTcp({ local: loopback, device, accept: keep });
    keep(await connect({ remote: listener.local, device }));
    listener.close();
    (await world.openUdp({ local: loopback, device })).close();
    expect(await codeOf(world.listenTcp({ local: loopback, device: "nonesuch0", accept: keep }))).toBe(
      "unreachable",
    );
  });

  test.skipIf(!hasFdList)("that fails, is aborted or times out leaves no descriptor", async () => {
    const remote = { ip: "127.0.0.1", port: await unusedPort() };
    await codeOf(connect({ remote }));
    const before = countFds();
    const attempts = Array.from({ length: 50 }, (_, i) => {
      const controller = new AbortController();
      const attempt = codeOf(
        connect({ remote, timeoutMs: i % 2 === 0 ? 0 : 1000, signal: controller.signal }),
      );
      controller.abort();
      return attempt;
    });
    for (const code of await Promise.all(attempts)) expect(["aborted", "refused", "timeout"]).toContain(code);
    await settled(() => countFds() <= before);
  });

  test.skipIf(!hasFdList)("500 times at once all stand, carry data and leave nothing", async () => {
    await world.lookup("127.0.0.1");
    const before = countFds();
    const listener = await world.listenTcp({
      local: loopback,
      accept: (far) => far.attach({ ...quiet, data: (bytes) => void far.write(bytes), end: () => far.end() }),
    });
    const answers = await Promise.all(
      Array.from({ length: 500 }, async (_, i) => {
        const stream = await connect({ remote: listener.local, shared: i % 2 === 0 });
        stream.write(text(`${i}`));
        stream.end();
        const got = collect(stream);
        await got.closed;
        return got.ended;
      }),
    );
    expect(answers).toEqual(Array.from({ length: 500 }, (_, i) => `${i}`));
    listener.close();
    await settled(() => countFds() <= before);
  });
});

describe("UDP", () => {
  test("carries datagrams, empty ones too, and is silent after close", async () => {
    const arrivals: string[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    const a = await world.openUdp({ local: loopback });
    const b = await world.openUdp({
      local: loopback,
      handlers: {
        message(bytes, from) {
          arrivals.push(`${bytes.length} ${from.ip}:${from.port === a.local.port}`);
          if (arrivals.length === 2) resolve();
        },
      },
    });
    a.send(new Uint8Array(0), b.local);
    a.send(new Uint8Array(1400), b.local);
    await promise;
    expect(arrivals).toEqual(["0 127.0.0.1:true", "1400 127.0.0.1:true"]);
    expect(await codeOf(world.openUdp({ local: a.local }))).toBe("address-in-use");
    a.close();
    a.close();
    expect(a.send(new Uint8Array(1), b.local)).toBe(true);
    b.close();
  });

  test("IPv4's and IPv6's any address share a port, and each hears its own family", async () => {
    const heard = { 4: Promise.withResolvers<string>(), 6: Promise.withResolvers<string>() };
    const hear = (family: 4 | 6) => ({
      message: (_: Uint8Array, { ip }: { ip: string }) => heard[family].resolve(ip),
    });
    const six = await world.openUdp({ local: { ip: "::", port: 0 }, handlers: hear(6) });
    const { port } = six.local;
    const four = await world.openUdp({ local: { ip: "0.0.0.0", port }, handlers: hear(4) });
    six.send(new Uint8Array(1), { ip: "::1", port });
    four.send(new Uint8Array(1), { ip: "127.0.0.1", port });
    expect(await Promise.all([heard[4].promise, heard[6].promise])).toEqual(["127.0.0.1", "::1"]);
    six.close();
    four.close();
  });

  test("reports a datagram that is too large, and stays usable after an ICMP error", async () => {
    const heard = Promise.withResolvers<void>();
    const tooLarge = Promise.withResolvers<P2pdError>();
    const b = await world.openUdp({ local: loopback, handlers: { message: () => heard.resolve() } });
    const a = await world.openUdp({ local: loopback });
    a.attach({ message() {}, error: (error) => error.code === "too-large" && tooLarge.resolve(error) });
    a.send(new Uint8Array(70_000), b.local);
    expect((await tooLarge.promise).code).toBe("too-large");
    a.send(new Uint8Array(1), { ip: "127.0.0.1", port: await unusedPort() });
    a.send(new Uint8Array(1), b.local);
    await heard.promise;
    a.close();
    b.close();
  });

  test.skipIf(process.platform !== "linux")("names both ends and the reason of an ICMP error", async () => {
    const remote = { ip: "127.0.0.1", port: await unusedPort() };
    const refused = Promise.withResolvers<P2pdError>();
    const a = await world.openUdp({ local: loopback, handlers: { message() {}, error: refused.resolve } });
    a.send(new Uint8Array(1), remote);
    const error = await refused.promise;
    expect(error.code).toBe("refused");
    const ends = `UDP from 127.0.0.1:${a.local.port} to 127.0.0.1:${remote.port}`;
    expect(error.message).toBe(`${ends}: nobody listens there, or a firewall refuses (ECONNREFUSED)`);
    const second = Promise.withResolvers<P2pdError>();
    const other = { ip: "127.0.0.1", port: await unusedPort() };
    a.attach({ message() {}, error: second.resolve });
    a.send(new Uint8Array(1), other);
    expect((await second.promise).message).toContain(`, last to 127.0.0.1:${other.port}: nobody`);
    a.close();
  });

  test("says why an address or a NIC cannot be had", async () => {
    expect(await codeOf(world.openUdp({ local: { ip: "203.0.113.1", port: 0 } }))).toBe("unreachable");
    expect(await codeOf(world.openUdp({ local: loopback, device: "nonesuch0" }))).toBe("unreachable");
  });
});

describe("time, randomness and names", () => {
  test("a timer fires once, not when cancelled, and clocks agree", async () => {
    const start = world.time.now();
    world.time.after(1, () => expect.unreachable()).cancel();
    await new Promise<void>((resolve) => void world.time.after(5, resolve));
    expect(world.time.now() - start).toBeGreaterThanOrEqual(4);
    world.time.after(2 ** 40, () => expect.unreachable(), { background: true }).cancel();
    expect(Math.abs(world.time.wallMs() - Date.now())).toBeLessThan(1000);
    expect(new Set(world.randomBytes(100_000)).size).toBe(256);
  });

  test("an address is its own name, and a name that cannot be is unreachable", async () => {
    expect(await world.lookup("192.0.2.1")).toEqual(["192.0.2.1"]);
    expect(await world.lookup("[2001:DB8::0001]", 6)).toEqual(["2001:db8::1"]);
    expect(await world.lookup("localhost", 4)).toEqual(["127.0.0.1"]);
    expect(await codeOf(world.lookup("192.0.2.1", 6))).toBe("unreachable");
    expect(await codeOf(world.lookup(""))).toBe("unreachable");
  });
});
