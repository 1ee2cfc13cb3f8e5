import { afterEach, describe, expect, test } from "bun:test";
import { P2pdError } from "../../../core/errors.ts";
import type { Endpoint } from "../../../core/ip.ts";
import { defaultWorld } from "../../../core/net/default-world.ts";
import type { World } from "../../../core/net/world.ts";
import { Daemon } from "../../../core/node/daemon.ts";
import { openPipe } from "../../../core/node/open-pipe.ts";
import type { Pipe } from "../../../core/node/pipe.ts";

const hasIp6 = defaultWorld()
  .nics()
  .some((nic) => nic.addresses.some(({ ip }) => ip === "::1"));
const LOOPBACK = { local: { ip: "127.0.0.1", port: 0 } };
const started: Daemon[] = [];

afterEach(async () => {
  await Promise.all(started.splice(0).map((daemon) => daemon.close()));
});

describe("a daemon", () => {
  test.skipIf(!hasIp6)("answers IPv4, IPv6, TCP and UDP by one method on one port", async () => {
    const daemon = serve(new Echo());
    const [{ local }] = await daemon.start();
    expect(daemon.listening.map((place) => [place.transport, place.local.port])).toEqual([
      ["tcp", local.port],
      ["udp", local.port],
      ["tcp", local.port],
      ["udp", local.port],
    ]);
    for (const ip of ["127.0.0.1", "::1"]) {
      for (const transport of ["tcp", "udp"] as const) {
        const pipe = await openPipe({}, { ip, port: local.port }, { transport });
        await pipe.send(`${transport} ${ip}`);
        expect(text(await pipe.recv("all", 2000))).toBe(`${transport} ${ip}`);
        await pipe.close();
      }
    }
  });

  test("tells of connections that come and go, and ends a stream when its peer has", async () => {
    const daemon = serve(new Echo());
    const [{ local }] = await daemon.start([LOOPBACK], { transports: ["tcp"] });
    const pipe = await openPipe({}, local);
    await pipe.send("bye");
    pipe.end();
    let got = "";
    for await (const message of pipe) got += text(message);
    expect(got).toBe("bye");
    expect(await pipe.closed).toBeUndefined();
    await until(() => daemon.log.length === 2);
    expect(daemon.log).toEqual(["up stream", "down stream undefined"]);
    expect(daemon.pipes.size).toBe(0);
  });

  test("reads a stream no faster than its method settles", async () => {
    const gate = Promise.withResolvers<void>();
    let calls = 0;
    const daemon = serve(
      new Scripted(() => {
        calls++;
        return gate.promise;
      }),
    );
    const [{ local }] = await daemon.start([LOOPBACK], { transports: ["tcp"], queueBytes: 1000 });
    const pipe = await openPipe({}, local);
    const writing = pipe.send(new Uint8Array(32 << 20));
    const first = await Promise.race([writing.then(() => "sent"), until(() => calls === 1)]);
    expect([first, calls]).toEqual([undefined, 1]);
    expect(pipe.pendingBytes).toBeGreaterThan(1 << 20);
    gate.resolve();
    await writing;
    expect(calls).toBeGreaterThan(1);
    await pipe.close(new P2pdError("aborted", "test over"));
  });

  test("a method that throws ends its connection, not the daemon nor a UDP socket", async () => {
    const script = (msg: Uint8Array, from: Endpoint, pipe: Pipe) => {
      if (msg[0] === 33) throw new Error("bug");
      if (msg[0] === 63) return Promise.reject(new Error("later bug"));
      return pipe.send(msg, from);
    };
    const daemon = serve(new Scripted(script));
    const [{ local }] = await daemon.start([LOOPBACK]);
    const broken = await openPipe({}, local);
    await broken.send("!");
    expect(await broken.closed).toBeInstanceOf(P2pdError);
    await until(() => daemon.log.length === 1);
    expect(daemon.log).toEqual(["internal: a daemon's method threw: bug"]);
    const udp = await openPipe({}, local, { transport: "udp" });
    await udp.send("!");
    await udp.send("?");
    await udp.send("fine");
    expect(text(await udp.recv("all", 2000))).toBe("fine");
    await until(() => daemon.log.length === 3);
    expect(daemon.log[2]).toBe("internal: a daemon's method threw: later bug");
    await udp.close();
  });

  test("limits the promises that datagrams leave open, and counts what it drops", async () => {
    const gate = Promise.withResolvers<void>();
    const daemon = serve(new Scripted(() => gate.promise));
    const [{ local }] = await daemon.start([LOOPBACK], { transports: ["udp"] });
    const pipe = await openPipe({}, local, { transport: "udp" });
    const there = [...daemon.pipes][0] as Pipe;
    for (let i = 0; i < 1100; i++) {
      await pipe.send("x");
      if (i % 50 === 0) await until(() => there.received >= i);
    }
    await until(() => daemon.dropped === 76);
    gate.resolve();
    await pipe.close();
  });

  test("closed, it has no pipes, its port is free again and it cannot be started", async () => {
    const daemon = serve(new Echo());
    const [{ local }] = await daemon.start([LOOPBACK]);
    const pipe = await openPipe({}, local);
    await pipe.send("x");
    await pipe.recv();
    await Promise.all([
      daemon.close(),
      pipe.closed.then(() => undefined),
      pipe.ended.then(() => pipe.close()),
    ]);
    expect([daemon.pipes.size, daemon.listening.length]).toEqual([0, 0]);
    expect(await code(daemon.start())).toBe("closed");
    const next = serve(new Echo());
    await next.start([{ local }]);
    expect(next.listening.map((place) => place.local.port)).toEqual([local.port, local.port]);
  });

  test("rejects with nothing left open when a place is taken", async () => {
    const first = serve(new Echo());
    const [{ local }] = await first.start([LOOPBACK], { transports: ["tcp"] });
    const second = serve(new Echo());
    expect(await code(second.start([LOOPBACK, { local }]))).toBe("address-in-use");
    expect([second.listening.length, second.pipes.size]).toEqual([0, 0]);
    expect(await code(second.start([LOOPBACK], { port: local.port, transports: ["tcp"] }))).toBe(
      "address-in-use",
    );
    expect(await code(second.start([]))).toBe("bad-argument");
  });

  test("looks for another port when the one it was given for TCP is taken for UDP", async () => {
    const world = defaultWorld();
    let refusals = 0;
    const crowded: World = {
      ...world,
      openUdp: (options) => {
        if (refusals++ < 3) return Promise.reject(new P2pdError("address-in-use", "taken"));
        return world.openUdp(options);
      },
    };
    const daemon = serve(new Echo());
    const places = await daemon.start([LOOPBACK], { world: crowded });
    expect(refusals).toBe(4);
    expect(new Set(places.map((place) => place.local.port)).size).toBe(1);
  });

  test("without routes does with the family that there is", async () => {
    const world = defaultWorld();
    const old: World = {
      ...world,
      listenTcp: (options) =>
        options.local.ip === "::"
          ? Promise.reject(new P2pdError("unreachable", "no IPv6"))
          : world.listenTcp(options),
      openUdp: (options) =>
        options.local.ip === "::"
          ? Promise.reject(new P2pdError("unreachable", "no IPv6"))
          : world.openUdp(options),
    };
    const places = await serve(new Echo()).start(undefined, { world: old });
    expect(places.map((place) => place.local.ip)).toEqual(["0.0.0.0", "0.0.0.0"]);
  });
});

class Echo extends Daemon {
  readonly log: string[] = [];

  message(msg: Uint8Array, from: Endpoint, pipe: Pipe): Promise<void> {
    return pipe.send(msg, from);
  }

  override up(pipe: Pipe): void {
    this.log.push(`up ${pipe.kind}`);
  }

  override down(pipe: Pipe, reason: P2pdError | undefined): void {
    this.log.push(`down ${pipe.kind} ${reason?.code}`);
  }
}

class Scripted extends Daemon {
  readonly log: string[] = [];

  constructor(readonly script: (msg: Uint8Array, from: Endpoint, pipe: Pipe) => Promise<void>) {
    super();
  }

  message(msg: Uint8Array, from: Endpoint, pipe: Pipe): Promise<void> {
    return this.script(msg, from, pipe);
  }

  override failed(error: P2pdError, pipe: Pipe): void {
    this.log.push(`${error.code}: ${error.message}`);
    super.failed(error, pipe);
  }
}

function serve<D extends Daemon>(daemon: D): D {
  started.push(daemon);
  return daemon;
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
}

function text({ bytes }: { readonly bytes: Uint8Array }): string {
  return new TextDecoder().decode(bytes);
}

function code(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "resolved",
    (error: unknown) => (error as P2pdError).code,
  );
}
