import { afterEach, describe, expect, test } from "bun:test";
import { P2pdError } from "../../../core/errors.ts";
import { defaultWorld } from "../../../core/net/default-world.ts";
import type { ByteStream } from "../../../core/net/world.ts";
import { type Listening, listen } from "../../../core/node/listen.ts";
import { openPipe } from "../../../core/node/open-pipe.ts";
import type { Pipe } from "../../../core/node/pipe.ts";

const hasIp6 = defaultWorld()
  .nics()
  .some((nic) => nic.addresses.some(({ ip }) => ip === "::1"));
const LOOPBACKS = hasIp6 ? ["127.0.0.1", "::1"] : ["127.0.0.1"];
const open: Listening[] = [];

afterEach(async () => {
  await Promise.all(open.splice(0).map((listening) => listening.close()));
});

describe.each(LOOPBACKS)("over %s", (ip) => {
  test("a TCP pipe carries both ways, half-closes and ends without a reason", async () => {
    const { local, next } = await server(ip, "tcp");
    const pipe = await openPipe({}, local);
    const there = await next();
    await pipe.send("question");
    pipe.end();
    expect(await all(there)).toBe("question");
    await there.send("answer");
    there.end();
    expect(await all(pipe)).toBe("answer");
    expect([await pipe.closed, await there.closed]).toEqual([undefined, undefined]);
    expect([pipe.sent, pipe.received, there.sent, there.received]).toEqual([8, 6, 6, 8]);
    expect([pipe.kind, pipe.remote, there.remote]).toEqual(["stream", local, pipe.local]);
  });

  test("one UDP pipe of a listener tells its senders apart and answers each", async () => {
    const { local, next } = await server(ip, "udp");
    const there = await next();
    there.onMessage(({ bytes, from }) => void there.send(`re: ${text(bytes)}`, from));
    const one = await openPipe({ local: { ip, port: 0 } }, local, { transport: "udp" });
    const two = await openPipe({ local: { ip, port: 0 } }, local, { transport: "udp" });
    await one.send("1");
    await two.send("2");
    expect(text((await one.recv("all", 2000)).bytes)).toBe("re: 1");
    expect(text((await two.recv("all", 2000)).bytes)).toBe("re: 2");
    expect((await failure(there.send("x"))).code).toBe("bad-argument");
    await Promise.all([one.close(), two.close()]);
    expect(await one.closed).toBeUndefined();
    expect(await code(one.send("late"))).toBe("closed");
  });

  test("a UDP pipe hears its peer alone, unless told to hear everybody", async () => {
    const { local, next } = await server(ip, "udp");
    const there = await next();
    const shy = await openPipe({ local: { ip, port: 0 } }, local, { transport: "udp" });
    const keen = await openPipe({ local: { ip, port: 0 } }, local, { transport: "udp", anySender: true });
    const stranger = await openPipe({ local: { ip, port: 0 } }, shy.local, { transport: "udp" });
    await stranger.send("psst");
    await stranger.send("psst", keen.local);
    expect((await keen.recv("all", 2000)).from).toEqual(stranger.local);
    await there.send("official", shy.local);
    expect(text((await shy.recv("all", 2000)).bytes)).toBe("official");
    await Promise.all([shy.close(), keen.close(), stranger.close()]);
  });

  test("a UDP message larger than a datagram is refused as too large", async () => {
    const { local } = await server(ip, "udp");
    const pipe = await openPipe({}, local, { transport: "udp" });
    expect(await code(pipe.send(new Uint8Array(65_508)))).toBe("too-large");
    await pipe.send(new Uint8Array(65_507));
    await pipe.close();
  });
});

describe("openPipe", () => {
  test("resolves host names and tries their addresses in turn", async () => {
    const { local, next } = await server("127.0.0.1", "tcp");
    const pipe = await openPipe({}, `localhost:${local.port}`, { timeoutMs: 5000 });
    expect((await next()).remote.port).toBe(pipe.local.port);
    await pipe.close(new P2pdError("aborted", "test over"));
  });

  test("says what was tried when nobody listens", async () => {
    const { local } = await server("127.0.0.1", "tcp");
    await open.pop()?.close();
    const error = await failure(openPipe({}, `127.0.0.1:${local.port}`));
    expect(error.code).toBe("refused");
    expect(error.detail.attempts).toHaveLength(1);
    expect(error.message).toStartWith(`no pipe to 127.0.0.1 port ${local.port}: `);
  });

  test.each(["", "host", "host:", "host:0", "host:65536", "::1:80", "[::1]", "a b:80", "x/y:80"])(
    "refuses the destination %j",
    async (dest) => {
      const error = await failure(openPipe({}, dest));
      expect([error.code, error.message]).toEqual([
        "bad-argument",
        `"${dest}" is no destination; expected host:port, 192.0.2.1:80 or [2001:db8::1]:80, port 1 to 65535`,
      ]);
    },
  );

  test("refuses a destination of another family than its route", async () => {
    const route = { local: { ip: "127.0.0.1", port: 0 } };
    expect((await failure(openPipe(route, "[::1]:9"))).message).toBe(
      "::1 cannot be reached from an IPv4 address",
    );
  });

  test("can be aborted, and gives up resolving when its time is over", async () => {
    const signal = AbortSignal.abort();
    expect((await failure(openPipe({}, "host.invalid:80", { signal }))).code).toBe("aborted");
    const world = { ...defaultWorld(), lookup: () => new Promise<never>(() => undefined) };
    const error = await failure(openPipe({ world }, "host.invalid:80", { timeoutMs: 5 }));
    expect([error.code, error.message]).toEqual([
      "timeout",
      "the name host.invalid was not resolved within 5 ms",
    ]);
  });

  test("says so when a host has no address of the route's family", async () => {
    const world = { ...defaultWorld(), lookup: () => Promise.resolve([]) };
    const route = { world, local: { ip: "::1", port: 0 } };
    expect((await failure(openPipe(route, "host.invalid:80"))).message).toBe(
      "no pipe to host.invalid port 80: host.invalid has no IPv6 address",
    );
  });
});

describe("listen", () => {
  test("refuses connections beyond maxPipes and takes new ones when others have gone", async () => {
    const { local, next, listening } = await server("127.0.0.1", "tcp", { maxPipes: 1 });
    const first = await openPipe({}, local);
    const there = await next();
    expect(await brokenBy(openPipe({}, local))).toBeInstanceOf(P2pdError);
    expect(listening.refused).toBe(1);
    await Promise.all([first.close(), there.close()]);
    const third = await openPipe({}, local);
    expect((await next()).remote).toEqual(third.local);
    await third.close(new P2pdError("aborted", "test over"));
  });

  test("closes the connection when onPipe throws", async () => {
    const route = { local: { ip: "127.0.0.1", port: 0 } };
    const listening = await listen(route, "tcp", () => {
      throw new Error("bug");
    });
    open.push(listening);
    expect(await brokenBy(openPipe({}, listening.local))).toBeInstanceOf(P2pdError);
  });

  test("refuses a transport that is none", async () => {
    expect((await failure(listen({}, "sctp" as "tcp", () => undefined))).message).toBe(
      '"sctp" is no transport; expected tcp or udp',
    );
  });
});

describe("real sockets", () => {
  test("a reader that is slow stops a fast writer, and everything arrives", async () => {
    const { local, next } = await server("127.0.0.1", "tcp", { queueBytes: 64 << 10 });
    const pipe = await openPipe({}, local);
    const there = await next();
    const block = new Uint8Array(1 << 20).fill(7);
    const writing = (async () => {
      for (let i = 0; i < 32; i++) await pipe.send(block);
      pipe.end();
    })();
    let octets = 0;
    let most = 0;
    for await (const { bytes } of there) {
      octets += bytes.length;
      most = Math.max(most, there.subscriptions()[0]?.waitingBytes ?? 0);
      if (octets % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await writing;
    expect(octets).toBe(32 << 20);
    expect(most).toBeLessThan(2 << 20);
    there.end();
    await pipe.closed;
  });

  test("a join between two TCP connections carries hundreds of megabytes a second", async () => {
    const octets = 256 << 20;
    const { seconds, received } = await joined(octets);
    console.log(`join, loopback TCP both sides: ${Math.round(octets / 1e6 / seconds)} MB/s`);
    expect(received).toBe(octets);
  });

  test("a UDP pipe joined with a stream sends its octets as datagrams and the answers back", async () => {
    const echo = await server("127.0.0.1", "udp");
    const there = await echo.next();
    there.onMessage(({ bytes, from }) => void there.send(bytes, from));
    expect(await code(there.join((await streams()).near))).toBe("bad-argument");
    const pipe = await openPipe({}, echo.local, { transport: "udp" });
    const { near, user } = await streams();
    const done = pipe.join(near);
    await user.send("x".repeat(3000));
    let got = "";
    for await (const { bytes } of user) {
      got += text(bytes);
      if (got.length === 3000) break;
    }
    expect(got).toBe("x".repeat(3000));
    user.end();
    expect(await done).toEqual({ toPipe: 3000, fromPipe: 3000 });
    expect(await pipe.closed).toBeUndefined();
  });
});

/** source -> (accepted stream | joined pipe) -> sink: `octets` through one join. */
async function joined(octets: number): Promise<{ seconds: number; received: number }> {
  const world = defaultWorld();
  const sink = Promise.withResolvers<number>();
  let received = 0;
  const place = { ip: "127.0.0.1", port: 0 };
  const far = await world.listenTcp({
    local: place,
    accept: (stream) => {
      stream.attach({
        data: (bytes) => {
          received += bytes.length;
        },
        drain() {},
        end: () => {
          stream.end();
          sink.resolve(received);
        },
        close() {},
      });
    },
  });
  const pipe = await openPipe({}, far.local);
  const { near, user } = await streams();
  const start = performance.now();
  const done = pipe.join(near);
  const block = new Uint8Array(1 << 20);
  for (let sent = 0; sent < octets; sent += block.length) await user.send(block);
  user.end();
  await sink.promise;
  const seconds = (performance.now() - start) / 1000;
  expect(await done).toEqual({ toPipe: octets, fromPipe: 0 });
  far.close();
  return { seconds, received };
}

/** A TCP connection: its near end as a bare stream, its far end as a pipe. */
async function streams(): Promise<{ near: ByteStream; user: Pipe }> {
  const accepted = Promise.withResolvers<ByteStream>();
  const local = { ip: "127.0.0.1", port: 0 };
  const listener = await defaultWorld().listenTcp({ local, accept: accepted.resolve });
  const user = await openPipe({}, listener.local);
  const near = await accepted.promise;
  listener.close();
  return { near, user };
}

async function server(ip: string, transport: "tcp" | "udp", options = {}) {
  const pipes: Pipe[] = [];
  const waiting: ((pipe: Pipe) => void)[] = [];
  const listening = await listen(
    { local: { ip, port: 0 } },
    transport,
    (pipe) => {
      const first = waiting.shift();
      if (first === undefined) pipes.push(pipe);
      else first(pipe);
    },
    options,
  );
  open.push(listening);
  const next = () =>
    new Promise<Pipe>((resolve) => {
      const pipe = pipes.shift();
      if (pipe === undefined) waiting.push(resolve);
      else resolve(pipe);
    });
  return { local: listening.local, next, listening };
}

async function all(pipe: Pipe): Promise<string> {
  let got = "";
  for await (const { bytes } of pipe) got += text(bytes);
  return got;
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

/** Why a pipe that the other side refuses is gone; it may be so before it is open here. */
function brokenBy(opening: Promise<Pipe>): Promise<unknown> {
  return opening.then(
    (pipe) => pipe.closed,
    (error: unknown) => error,
  );
}

function failure(promise: Promise<unknown>): Promise<P2pdError> {
  return promise.then(
    () => {
      throw new Error("it did not fail");
    },
    (error: unknown) => error as P2pdError,
  );
}

function code(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "resolved",
    (error: unknown) => (error as P2pdError).code,
  );
}
