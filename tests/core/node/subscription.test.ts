import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { P2pdError } from "../../../core/errors.ts";
import type { Channel, ChannelHandlers } from "../../../core/node/channel.ts";
import { Pipe, type PipeOptions } from "../../../core/node/pipe.ts";
import { compileSubscription } from "../../../core/node/subscription.ts";
import { SubscriptionQueue } from "../../../core/node/subscription-queue.ts";
import { HandTime, settle } from "./memory-stream.ts";

describe("subscriptions", () => {
  test("sort messages by content and by sender; all gets every one", async () => {
    const { pipe, arrive } = wired("datagram");
    pipe.subscribe(compileSubscription("pings", "^ping", ""));
    pipe.subscribe(compileSubscription("from six", "", "^\\[2001:db8::1\\]:53$"));
    pipe.subscribe({ name: "own", message: /PONG/i, sender: /^192\.0\.2\.1:/ });
    arrive("ping 1", "192.0.2.1", 53);
    arrive("pong", "2001:db8::1", 53);
    arrive("a pong", "192.0.2.1", 99);
    expect(await read(pipe, "pings")).toEqual(["ping 1"]);
    expect(await read(pipe, "from six")).toEqual(["pong"]);
    expect(await read(pipe, "own")).toEqual(["a pong"]);
    expect(await read(pipe, "all")).toEqual(["ping 1", "pong", "a pong"]);
  });

  test("see the first 4096 octets of a message only", async () => {
    const { pipe, arrive } = wired("datagram");
    pipe.subscribe(compileSubscription("x", "x", ""));
    arrive(`${" ".repeat(4095)}x`);
    arrive(`${" ".repeat(4096)}x`);
    expect(pipe.subscriptions()[1]?.waiting).toBe(1);
  });

  test("a RegExp with the flag g does not skip every other message", () => {
    const { pipe, arrive } = wired("datagram");
    pipe.subscribe({ name: "g", message: /a/g, sender: /(?:)/y });
    for (let i = 0; i < 4; i++) arrive("a");
    expect(pipe.subscriptions()[1]?.waiting).toBe(4);
  });

  test("are listed with what waits and what was dropped, and are gone after unsubscribe", async () => {
    const { pipe, arrive } = wired("datagram", { queueMessages: 2 });
    pipe.subscribe(compileSubscription("a", "a", ":1$"));
    for (let i = 0; i < 5; i++) arrive("aa");
    expect(pipe.subscriptions()).toEqual([
      { name: "all", message: "(?:)", sender: "(?:)", waiting: 2, waitingBytes: 4, dropped: 3 },
      { name: "a", message: "a", sender: ":1$", waiting: 2, waitingBytes: 4, dropped: 3 },
    ]);
    expect(pipe.dropped).toBe(6);
    await read(pipe, "a");
    const waiting = pipe.recv("a");
    pipe.unsubscribe("a");
    expect(await code(() => waiting)).toBe("nothing-received");
    expect(await code(() => pipe.recv("a"))).toBe("no-such-subscription");
    expect(await code(() => pipe.unsubscribe("a"))).toBe("no-such-subscription");
    expect(pipe.dropped).toBe(6);
  });

  test("with a name that is taken, reserved, empty or endless, or too many, are refused", async () => {
    const { pipe } = wired("datagram");
    const add = (name: string) => code(() => pipe.subscribe({ name, message: /a/, sender: /a/ }));
    expect(await add("a")).toBe("resolved");
    expect(await add("a")).toBe("subscription-exists");
    expect(await add("all")).toBe("reserved-name");
    expect(await code(() => pipe.unsubscribe("all"))).toBe("reserved-name");
    expect(await add("")).toBe("bad-argument");
    expect(await add("n".repeat(129))).toBe("bad-argument");
    for (let i = 1; i < 64; i++) await add(`n${i}`);
    expect(await add("one more")).toBe("bad-argument");
  });

  test("made after the end of the pipe give nothing instead of waiting", async () => {
    const { pipe, handlers } = wired("stream");
    handlers().end();
    pipe.subscribe(compileSubscription("late", "", ""));
    expect(await code(() => pipe.recv("late"))).toBe("nothing-received");
  });
});

describe("the policy of queues", () => {
  test("on a stream a named queue that nobody reads drops its oldest and does not stop the others", async () => {
    const { pipe, arrive, log } = wired("stream", { queueMessages: 3 });
    pipe.subscribe(compileSubscription("n", "[0-9]", ""));
    for (let i = 0; i < 6; i++) arrive(`${i}`);
    expect(log).toEqual([]);
    expect(await read(pipe, "n")).toEqual(["3", "4", "5"]);
    expect(await read(pipe, "all")).toEqual(["3", "4", "5"]);
  });

  test("on a stream what only all took outlives what others took as well", async () => {
    const { pipe, arrive, log } = wired("stream", { queueMessages: 3 });
    pipe.subscribe(compileSubscription("n", "[0-9]", ""));
    for (const message of ["0", "1", "only", "2", "3", "4", "5"]) arrive(message);
    expect(await read(pipe, "all")).toEqual(["only", "2", "3"]);
    expect(log).toEqual([]);
  });

  test("on a datagram pipe nothing is paused and the newest are kept", async () => {
    const { pipe, arrive, log } = wired("datagram", { queueBytes: 10 });
    for (let i = 0; i < 6; i++) arrive(`${i}xxx`);
    expect(log).toEqual([]);
    expect(await read(pipe, "all")).toEqual(["4xxx", "5xxx"]);
  });

  test("a queue keeps its bounds and the order, and loses nothing that may not be lost", () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ length: fc.nat(40), droppable: fc.boolean(), takes: fc.nat(2) }), {
          maxLength: 80,
        }),
        fc.integer({ min: 1, max: 100 }),
        fc.integer({ min: 1, max: 8 }),
        (steps, bytes, messages) => {
          const queue = new SubscriptionQueue({ bytes, messages }, new HandTime());
          const out: number[] = [];
          let offered = 0;
          let blocked = false;
          for (const [i, { length, droppable, takes }] of steps.entries()) {
            // Who may not lose a message stops sending when the queue is over.
            if (droppable || !queue.over) {
              queue.push({ bytes: new Uint8Array(length), from: { ip: "192.0.2.1", port: i } }, droppable);
              offered++;
            } else blocked = true;
            expect(queue.size).toBeLessThanOrEqual(messages + 1);
            expect(queue.bytes).toBeLessThanOrEqual(bytes + 40);
            for (let n = 0; n < takes; n++) {
              const taken = queue.take();
              if (taken !== undefined) out.push(taken.from.port);
            }
          }
          for (let rest = queue.take(); rest !== undefined; rest = queue.take()) out.push(rest.from.port);
          expect(out).toEqual(out.toSorted((a, b) => a - b));
          expect(out.length + queue.dropped).toBe(offered);
          if (!blocked) {
            for (const [i, { droppable }] of steps.entries()) if (!droppable) expect(out).toContain(i);
          }
          expect([queue.size, queue.bytes]).toEqual([0, 0]);
        },
      ),
      { numRuns: 1000 },
    );
  });

  test("ten thousand messages pass through in order", async () => {
    const queue = new SubscriptionQueue({ bytes: 1 << 20, messages: 20_000 }, new HandTime());
    for (let i = 0; i < 10_000; i++)
      queue.push({ bytes: new Uint8Array(1), from: { ip: "192.0.2.1", port: i } }, true);
    for (let i = 0; i < 10_000; i++) expect(queue.take()?.from.port).toBe(i);
    queue.end();
    expect(await queue.next(0)).toBeUndefined();
  });

  test("a small view of a large buffer does not keep the buffer", () => {
    const queue = new SubscriptionQueue({ bytes: 100, messages: 10 }, new HandTime());
    queue.push({ bytes: new Uint8Array(65_536).subarray(0, 10), from: { ip: "192.0.2.1", port: 1 } }, true);
    expect(queue.take()?.bytes.buffer.byteLength).toBe(10);
  });
});

function wired(kind: "stream" | "datagram", options: Partial<PipeOptions> = {}) {
  const log: string[] = [];
  let attached: ChannelHandlers | undefined;
  const channel: Channel = {
    kind,
    local: { ip: "192.0.2.9", port: 9 },
    remote: { ip: "192.0.2.1", port: 1 },
    fd: -1,
    pendingBytes: 0,
    attach: (handlers) => {
      attached = handlers;
    },
    send: () => true,
    pause: () => void log.push("pause"),
    resume: () => void log.push("resume"),
    end: () => void log.push("end"),
    abort: () => void log.push("abort"),
  };
  const pipe = new Pipe(channel, { time: new HandTime(), ...options });
  const handlers = () => attached as ChannelHandlers;
  const arrive = (text: string, ip = "192.0.2.1", port = 1) => {
    handlers().message(new TextEncoder().encode(text), { ip, port });
  };
  return { pipe, arrive, handlers, log };
}

async function read(pipe: Pipe, name: string): Promise<string[]> {
  const all: string[] = [];
  for (;;) {
    const message = await pipe.recv(name, 0).catch(() => undefined);
    if (message === undefined) return all;
    all.push(new TextDecoder().decode(message.bytes));
  }
}

async function code(call: () => unknown): Promise<string> {
  await settle();
  try {
    await call();
    return "resolved";
  } catch (error) {
    return (error as P2pdError).code;
  }
}
