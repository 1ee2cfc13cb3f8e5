import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { P2pdError } from "../../../core/errors.ts";
import { Pipe, type PipeOptions } from "../../../core/node/pipe.ts";
import { streamChannel } from "../../../core/node/stream-channel.ts";
import { HandTime, type MemoryStream, memoryStreams, settle } from "./memory-stream.ts";

describe("a pipe", () => {
  test("carries octets and text as UTF-8 both ways and counts them", async () => {
    const [a, b] = pipes();
    await a.send("grün");
    await a.send(Uint8Array.of(1, 2, 3));
    expect(text(await b.recv())).toBe("grün");
    expect([...(await b.recv()).bytes]).toEqual([1, 2, 3]);
    await b.send("back");
    expect((await a.recv()).from).toEqual({ ip: "192.0.2.2", port: 1002 });
    expect([a.sent, a.received, b.sent, b.received]).toEqual([8, 4, 4, 8]);
    expect([a.kind, a.fd, a.local.port, a.remote.port]).toEqual(["stream", -1, 1001, 1002]);
  });

  test("send waits for room and goes on when there is some", async () => {
    const { pipe, far } = half({}, 10);
    const sent = pipe.send(new Uint8Array(20));
    expect(await state(sent)).toBe("pending");
    expect(pipe.pendingBytes).toBe(20);
    far.attach(swallow());
    await sent;
    expect(pipe.pendingBytes).toBe(0);
  });

  test("a sender that never waits is refused before memory runs out", async () => {
    const { pipe } = half({ maxPendingBytes: 100 }, 10);
    void pipe.send(new Uint8Array(101));
    expect(await code(pipe.send("x"))).toBe("send-failed");
  });

  test("sends that wait when the connection breaks are rejected with the reason", async () => {
    const { pipe, far } = half({}, 10);
    const sent = pipe.send(new Uint8Array(20));
    far.abort(new P2pdError("closed", "cable cut"));
    expect(await message(sent)).toBe("send-failed: the connection broke: cable cut");
    expect(await message(pipe.send("more"))).toBe("send-failed: the connection broke: cable cut");
  });

  test("after end nothing can be sent and the other direction goes on", async () => {
    const [a, b] = pipes();
    a.end();
    await b.ended;
    expect(await message(a.send("x"))).toBe("closed: nothing can be sent any more: the pipe was ended");
    await b.send("still");
    expect(text(await a.recv())).toBe("still");
    b.end();
    expect(await a.closed).toBeUndefined();
    expect(await b.closed).toBeUndefined();
  });

  test("close delivers what is pending, waits for the peer's end and settles without a reason", async () => {
    const [a, b] = pipes();
    await a.send("last words");
    const closing = a.close();
    await b.ended;
    expect(text(await b.recv())).toBe("last words");
    expect(await code(a.send("x"))).toBe("closed");
    b.end();
    await closing;
    expect(await a.closed).toBeUndefined();
    await a.close();
  });

  test("close does not wait for ever for a peer that never ends", async () => {
    const { pipe, far, time } = half();
    far.attach(swallow());
    await pipe.send("x");
    const closing = pipe.close();
    await settle();
    time.advance(3000);
    await closing;
    expect(await pipe.closed).toBeUndefined();
    expect(time.pending).toBe(0);
  });

  test("close says so when the peer did not read what was sent", async () => {
    const { pipe, time } = half();
    await pipe.send("unread");
    void pipe.close();
    time.advance(3000);
    expect((await pipe.closed)?.message).toBe("closed with 6 octets unsent: the peer did not read them");
  });

  test("close with a reason stops at once and hands the reason on", async () => {
    const [a, b] = pipes();
    const reason = new P2pdError("protocol", "nonsense received");
    await a.close(reason);
    expect(await a.closed).toBe(reason);
    expect(await b.closed).toBe(reason);
    expect(await code(collect(b))).toBe("protocol");
  });
});

describe("recv", () => {
  test("waits for a message, for at most the time given", async () => {
    const { pipe, time } = half();
    const late = pipe.recv("all", 50);
    time.advance(49);
    expect(await state(late)).toBe("pending");
    time.advance(1);
    expect(await message(late)).toBe("receive-timeout: no message came within 50 ms");
  });

  test("with 0 takes what is there and does not wait", async () => {
    const { pipe, far } = half();
    expect(await code(pipe.recv("all", 0))).toBe("nothing-received");
    far.write(bytes("now"));
    await settle();
    expect(text(await pipe.recv("all", 0))).toBe("now");
  });

  test("of several readers the one that waits longest is served first", async () => {
    const { pipe, far } = half();
    const readers = [pipe.recv(), pipe.recv()];
    far.write(bytes("one"));
    far.write(bytes("two"));
    expect((await Promise.all(readers)).map(text)).toEqual(["one", "two"]);
  });

  test("can be aborted, before and while it waits, and leaves nothing behind", async () => {
    const { pipe, far, time } = half();
    const stop = new AbortController();
    const waiting = pipe.recv("all", 1000, stop.signal);
    stop.abort();
    expect(await code(waiting)).toBe("aborted");
    expect(await code(pipe.recv("all", 1000, stop.signal))).toBe("aborted");
    expect(time.pending).toBe(0);
    far.write(bytes("kept"));
    await settle();
    expect(text(await pipe.recv())).toBe("kept");
  });

  test("after the peer's end gives what waits and then says that nothing will come", async () => {
    const { pipe, far } = half();
    const named = pipe.recv();
    far.write(bytes("a"));
    far.write(bytes("b"));
    far.end();
    await pipe.ended;
    expect(text(await named)).toBe("a");
    expect(text(await pipe.recv())).toBe("b");
    expect(await message(pipe.recv())).toBe(
      'nothing-received: nothing waits in "all" and the peer has ended',
    );
  });

  test("refuses a timeout that is none and a queue that is none", async () => {
    const { pipe } = half();
    expect(await code(pipe.recv("all", -1))).toBe("bad-argument");
    expect(await code(pipe.recv("all", Number.NaN))).toBe("bad-argument");
    expect(await code(pipe.recv("absent"))).toBe("no-such-subscription");
  });
});

describe("async iteration", () => {
  test("yields everything in order and ends with the pipe", async () => {
    const [a, b] = pipes();
    for (let i = 0; i < 10; i++) await a.send(`${i}`);
    a.end();
    expect(await collect(b)).toEqual(["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
  });

  test("throws the reason when the pipe breaks", async () => {
    const { pipe, far } = half();
    const all = collect(pipe);
    far.abort(new P2pdError("closed", "gone"));
    expect(await message(all)).toBe("closed: gone");
  });

  test("ends when the pipe is closed here", async () => {
    const { pipe } = half();
    const all = collect(pipe);
    void pipe.close();
    expect(await all).toEqual([]);
  });
});

describe("onMessage", () => {
  test("hears every message, and what waited before, in order; all keeps nothing meanwhile", async () => {
    const { pipe, far } = half();
    far.write(bytes("early"));
    await settle();
    const heard: string[] = [];
    const stop = pipe.onMessage((given, from) => {
      heard.push(text(given));
      expect(from).toBe(pipe);
    });
    far.write(bytes("later"));
    await settle();
    expect(heard).toEqual(["early", "later"]);
    expect(pipe.subscriptions()[0]?.waiting).toBe(0);
    stop();
    far.write(bytes("queued"));
    await settle();
    expect(heard).toHaveLength(2);
    expect(text(await pipe.recv())).toBe("queued");
  });

  test("a reader that waits gets the message too", async () => {
    const { pipe, far } = half();
    let heard = 0;
    pipe.onMessage(() => heard++);
    const waiting = pipe.recv();
    far.write(bytes("both"));
    expect(text(await waiting)).toBe("both");
    expect(heard).toBe(1);
  });

  test("wakes a channel that was paused because nobody read", async () => {
    const { pipe, far, near } = half({ queueBytes: 10 });
    far.write(bytes("x".repeat(11)));
    await settle();
    expect(near.paused).toBe(true);
    let octets = 0;
    pipe.onMessage(({ bytes }) => {
      octets += bytes.length;
    });
    far.write(bytes("y"));
    await settle();
    expect([near.paused, octets]).toEqual([false, 12]);
  });

  test("a listener that throws closes the pipe with that reason", async () => {
    const { pipe, far } = half();
    pipe.onMessage(() => {
      throw new Error("bug");
    });
    far.write(bytes("x"));
    const reason = await pipe.closed;
    expect([reason?.code, reason?.message]).toEqual(["internal", "a message listener threw: bug"]);
  });
});

describe("backpressure", () => {
  test("a stream that nobody reads is paused, and resumed when all is read below half", async () => {
    const { pipe, far, near } = half({ queueMessages: 8 });
    for (let i = 0; i < 20; i++) far.write(bytes(`${i}`));
    await settle();
    expect(near.paused).toBe(true);
    expect(pipe.subscriptions()[0]?.waiting).toBe(9);
    for (let i = 0; i < 4; i++) await pipe.recv();
    expect(near.paused).toBe(true);
    await pipe.recv();
    expect(near.paused).toBe(false);
    await settle();
    const rest: string[] = [];
    for (let i = 5; i < 20; i++) {
      rest.push(text(await pipe.recv()));
    }
    expect(rest).toEqual(Array.from({ length: 15 }, (_, i) => `${i + 5}`));
    expect(pipe.dropped).toBe(0);
  });

  test("nothing of a stream is lost or reordered, whatever is sent and however it is read", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 60 }), { maxLength: 60 }),
        fc.integer({ min: 1, max: 120 }),
        fc.integer({ min: 1, max: 10 }),
        fc.integer({ min: 1, max: 200 }),
        fc.array(fc.integer({ min: 0, max: 30 }), { minLength: 1, maxLength: 10 }),
        async (pieces, queueBytes, queueMessages, capacity, pauses) => {
          const { pipe, far } = half({ queueBytes, queueMessages }, capacity);
          for (const piece of pieces) far.write(piece);
          far.end();
          const got: number[] = [];
          let turn = 0;
          for (;;) {
            for (let i = pauses[turn++ % pauses.length] as number; i > 0; i--) await Promise.resolve();
            const all = pipe.subscriptions()[0];
            expect(all?.waiting).toBeLessThanOrEqual(queueMessages + 1);
            expect(all?.waitingBytes).toBeLessThanOrEqual(queueBytes + 60);
            const message = await pipe.recv().catch(() => undefined);
            if (message === undefined) break;
            got.push(...message.bytes);
          }
          expect(got).toEqual(pieces.flatMap((piece) => [...piece]));
          expect(pipe.dropped).toBe(0);
        },
      ),
      { numRuns: 150 },
    );
  });
});

function pipes(options: Partial<PipeOptions> = {}): readonly [Pipe, Pipe] {
  const time = new HandTime();
  const [a, b] = memoryStreams();
  return [new Pipe(streamChannel(a), { time, ...options }), new Pipe(streamChannel(b), { time, ...options })];
}

function half(options: Partial<PipeOptions> = {}, capacity = 65_536) {
  const time = new HandTime();
  const [near, far]: readonly [MemoryStream, MemoryStream] = memoryStreams(capacity);
  return { pipe: new Pipe(streamChannel(near), { time, ...options }), near, far, time };
}

function swallow() {
  return { data() {}, drain() {}, end() {}, close() {} };
}

function bytes(given: string): Uint8Array {
  return new TextEncoder().encode(given);
}

function text({ bytes }: { readonly bytes: Uint8Array }): string {
  return new TextDecoder().decode(bytes);
}

async function collect(pipe: Pipe): Promise<string[]> {
  const all: string[] = [];
  for await (const given of pipe) all.push(text(given));
  return all;
}

async function state(promise: Promise<unknown>): Promise<string> {
  let now = "pending";
  promise.then(
    () => (now = "resolved"),
    () => (now = "rejected"),
  );
  await settle();
  return now;
}

function code(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "resolved",
    (error: unknown) => (error as P2pdError).code,
  );
}

function message(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "resolved",
    (error: unknown) => `${(error as P2pdError).code}: ${(error as P2pdError).message}`,
  );
}
