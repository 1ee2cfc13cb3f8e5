import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { P2pdError } from "../../../core/errors.ts";
import type { Time, Timer } from "../../../core/net/world.ts";
import type { Path } from "../../../core/connect/race.ts";
import type { SecureStream } from "../../../core/net/world.ts";
import { readOpening } from "../../../core/node/opening.ts";
import { Session } from "../../../core/node/session.ts";
import { encodeFin, encodeHello, encodeReset, encodeWelcome } from "../../../core/wire/session-frame.ts";
import {
  encodeAck,
  encodeNotResumed,
  encodeResume,
  INITIAL_WINDOW,
} from "../../../core/wire/session-positions.ts";
import { SESSION_ID } from "./session-pair.ts";
import { streamPair, type TestStream } from "./stream-pair.ts";

test("a dialer sends data right behind its greeting, and a message arrives as one", async () => {
  const { dialer, accept } = sessions();
  dialer.greet();
  dialer.send(text("first"));
  dialer.send(text("second"));
  const { acceptor, hello } = await accept();
  expect(hello).toEqual({ version: 1, capabilities: [], session: SESSION_ID });
  acceptor.welcome();
  const far = record(acceptor);
  await turns();
  expect(far.messages).toEqual(["first", "second"]);
  expect((await dialer.welcomed).refusal).toBeUndefined();
});

test("small messages are one write, large ones a header with a little of the payload, and the rest of it as it is", async () => {
  const { dialer, near } = sessions();
  dialer.greet({ service: "echo" });
  const large = new Uint8Array(100_000);
  dialer.send(text("abc"));
  dialer.send(large);
  expect(near.written.slice(1).map(({ length }) => length)).toEqual([7, 4 + 8192, 100_000 - 8192]);
  expect(near.written.at(-1)?.buffer).toBe(large.buffer);
});

test("all octets arrive in order, whatever the sizes and pauses", async () => {
  const sizes = fc.array(fc.oneof(fc.nat(100), fc.constantFrom(16_384, 16_385, 300_000)), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(sizes, fc.array(fc.boolean(), { minLength: 1 }), async (lengths, pauses) => {
      const { dialer, acceptor } = await greeted();
      let received = 0;
      let expected = 0;
      let turn = 0;
      const { promise: ended, resolve: tellEnd } = Promise.withResolvers<string>();
      acceptor.attach({
        message: (bytes) => {
          for (const octet of bytes) if (octet !== received++ % 251) throw new Error("octets out of order");
          if (pauses[turn++ % pauses.length] !== true) return;
          acceptor.pause();
          queueMicrotask(() => acceptor.resume());
        },
        drain: () => undefined,
        end: () => tellEnd("end"),
        close: () => undefined,
      });
      for (const length of lengths) dialer.send(Uint8Array.from({ length }, () => expected++ % 251));
      dialer.end();
      expect(await ended).toBe("end");
      expect(received).toBe(expected);
    }),
    { numRuns: 25 },
  );
});

test("a paused session delivers nothing, not even the end or the close behind it", async () => {
  const { dialer, acceptor, near } = await greeted();
  const far = record(acceptor);
  acceptor.pause();
  dialer.send(text("a"));
  dialer.end();
  near.end();
  await turns();
  expect(far.log).toEqual([]);
  acceptor.resume();
  await turns();
  expect(far.log).toEqual(["a", "end", "close"]);
});

test("a pause inside a message holds what came in the same chunk", async () => {
  const { acceptor, near } = await greeted();
  const far = record(acceptor, () => acceptor.pause());
  near.write(Buffer.concat([frame("one"), frame("two")]));
  await turns();
  expect(far.log).toEqual(["one"]);
  acceptor.resume();
  await turns();
  expect(far.log).toEqual(["one", "two"]);
});

test("backpressure of the stream reaches the sender, and its drain too", async () => {
  const { dialer, near } = await greeted();
  const log = record(dialer).log;
  near.hold();
  expect(dialer.send(text("x"))).toBe(false);
  expect(dialer.pendingBytes).toBe(5);
  near.release();
  expect(log).toEqual(["drain"]);
  expect(dialer.pendingBytes).toBe(0);
});

test("each direction ends on its own, and both together close in order", async () => {
  const { dialer, acceptor } = await greeted();
  const near = record(dialer);
  const far = record(acceptor);
  dialer.end();
  dialer.send(text("too late"));
  await turns();
  expect(far.log).toEqual(["end"]);
  acceptor.send(text("still"));
  acceptor.end();
  await turns();
  expect(near.log).toEqual(["still", "end", "close"]);
  expect(far.log).toEqual(["end", "close"]);
  await Promise.all([dialer.closed, acceptor.closed]);
});

test("a broken path is told as closed, with words", async () => {
  const { acceptor, near } = await greeted();
  const far = record(acceptor);
  near.end();
  await turns();
  expect(far.error).toMatchObject({ code: "closed", message: expect.stringContaining("without a goodbye") });
});

test("a path cut by the system tells why", async () => {
  const { acceptor, near } = await greeted();
  const far = record(acceptor);
  near.abort();
  await turns();
  expect(far.error).toMatchObject({ code: "closed", message: "reset by the peer" });
});

test("an abort reaches the peer with its reason", async () => {
  const { dialer, acceptor } = await greeted();
  const near = record(dialer);
  const far = record(acceptor);
  dialer.abort(new P2pdError("timeout", "too slow"));
  await turns();
  expect(far.error).toMatchObject({ code: "timeout", message: "too slow" });
  expect(near.error).toMatchObject({ code: "timeout" });
});

test("an abort behind a long backlog does not wait for the peer", async () => {
  const { dialer, near } = await greeted();
  const log = record(dialer);
  near.hold();
  dialer.send(new Uint8Array(1 << 20));
  dialer.abort(new P2pdError("aborted", "enough"));
  await turns();
  expect(near.aborted?.reason?.message).toBe("enough");
  expect(log.error?.code).toBe("aborted");
});

test("a session that has ended in order for a reader that does not read is closed by an abort", async () => {
  const { dialer, acceptor } = await greeted();
  const near = record(dialer);
  const far = record(acceptor);
  acceptor.pause();
  dialer.send(text("unread"));
  dialer.end();
  acceptor.end();
  await turns();
  expect(near.log).toEqual(["end", "close"]);
  expect(far.log).toEqual([]);
  acceptor.abort(new P2pdError("aborted", "enough"));
  await turns();
  expect(far.log).toEqual(["close"]);
  expect(far.error?.code).toBe("aborted");
});

test("a RESET that the peer does not answer closes after a second", async () => {
  const { dialer, near, clock } = await greeted();
  const log = record(dialer);
  dialer.abort();
  clock.advance(1001);
  await turns();
  expect(near.aborted).toBeDefined();
  expect(log.log).toEqual(["close"]);
});

test("a refusal is told to the dialer with its code, and closes both", async () => {
  const { dialer, accept } = sessions();
  dialer.greet({ service: "nope" });
  const near = record(dialer);
  const { acceptor } = await accept();
  acceptor.refuse({ code: "no-such-service", text: "no nope here" });
  acceptor.refuse({ code: "internal", text: "not said twice" });
  acceptor.welcome();
  expect((await dialer.welcomed).refusal).toEqual({ code: "no-such-service", text: "no nope here" });
  await turns();
  expect(near.error).toMatchObject({ code: "no-such-service" });
});

test("a peer that does not answer HELLO is let go after ten seconds", async () => {
  const { dialer, clock, near } = sessions();
  dialer.greet();
  clock.advance(9999);
  expect(near.aborted).toBeUndefined();
  clock.advance(2);
  expect(await dialer.welcomed.catch((error: unknown) => error)).toMatchObject({ code: "timeout" });
  clock.advance(1001);
  await dialer.closed;
});

describe("a peer that breaks the rules is reset with protocol", () => {
  const hello = encodeHello({ version: 1, capabilities: [], session: SESSION_ID });
  const resume = encodeResume({ session: SESSION_ID, epoch: 1, received: 0, limit: 1 });
  const cases: Readonly<Record<string, readonly Uint8Array[]>> = {
    "a WELCOME to an acceptor": [encodeWelcome({ version: 1, capabilities: [] })],
    "HELLO twice": [hello],
    "data after FIN": [encodeFin(), frame("x")],
    "FIN twice": [encodeFin(), encodeFin()],
    "a frame of no known type": [Uint8Array.of(77, 0, 0, 0)],
    "a RESET that is no JSON": [Uint8Array.of(5, 0, 0, 1, 65)],
    "an ACK of what was never sent": [encodeAck({ received: 1, limit: INITIAL_WINDOW })],
    "an ACK that is too short": [Uint8Array.of(7, 0, 0, 1, 0)],
    "a PING with a payload": [Uint8Array.of(8, 0, 0, 1, 0)],
    "RESUME on a path that carries a session already": [resume],
    "RESUMED that nobody waits for": [encodeNotResumed("stale")],
    "more DATA than it was allowed": Array.from({ length: 17 }, () => frame("x".repeat(16_000))),
  };
  for (const [name, chunks] of Object.entries(cases)) {
    test(name, async () => {
      const { acceptor, near, clock } = await greeted();
      const log = record(acceptor);
      acceptor.pause();
      for (const chunk of chunks) near.write(chunk);
      await turns();
      clock.advance(2000);
      await turns();
      expect(log.error?.code).toBe("protocol");
    });
  }
});

test("an unknown reason of a peer is told as closed", async () => {
  const { acceptor, near } = await greeted();
  const far = record(acceptor);
  near.write(encodeReset({ code: "gremlins", text: "they came" }));
  near.end();
  await turns();
  expect(far.error).toMatchObject({ code: "closed", message: "they came" });
});

test("random octets after a greeting never throw out of the session", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 40 })), async (chunks) => {
      const { acceptor, near } = await greeted();
      record(acceptor);
      for (const chunk of chunks) near.write(chunk);
      near.abort();
      await turns();
      await acceptor.closed;
    }),
  );
});

function sessions() {
  const [near, far] = streamPair();
  const clock = virtualTime();
  const { time } = clock;
  const dialer = new Session({ role: "dialer", time, id: SESSION_ID, path: pathOf(near) });
  const accept = async () => {
    const { opening, stream } = await readOpening(far, time);
    if (opening.type !== "hello") throw new Error(`${opening.type} came first`);
    const { hello } = opening;
    const acceptor = new Session({ role: "acceptor", time, id: hello.session, path: pathOf(stream) });
    return { hello, acceptor };
  };
  return { near, far, dialer, accept, clock };
}

async function greeted() {
  const all = sessions();
  all.dialer.greet();
  const { acceptor } = await all.accept();
  acceptor.welcome();
  await all.dialer.welcomed;
  return { ...all, acceptor };
}

function pathOf(stream: TestStream): Path {
  const secured = stream as unknown as SecureStream;
  return { strategy: "direct", transport: "tcp", candidate: "memory", stream: secured, rttMs: 1 };
}

interface Recording {
  readonly log: string[];
  readonly messages: string[];
  error: P2pdError | undefined;
}

function record(session: Session, onMessage = (): void => undefined): Recording {
  const recording: Recording = { log: [], messages: [], error: undefined };
  session.attach({
    message: (bytes) => {
      const message = new TextDecoder().decode(bytes);
      recording.messages.push(message);
      recording.log.push(message);
      onMessage();
    },
    drain: () => recording.log.push("drain"),
    end: () => recording.log.push("end"),
    close: (error) => {
      recording.log.push("close");
      recording.error = error;
    },
  });
  return recording;
}

function virtualTime(): { time: Time; advance(ms: number): void } {
  let now = 0;
  const timers = new Set<{ at: number; fire: () => void }>();
  const time: Time = {
    now: () => now,
    wallMs: () => now,
    after(delayMs, fire): Timer {
      const timer = { at: now + delayMs, fire };
      timers.add(timer);
      return { cancel: () => void timers.delete(timer) };
    },
  };
  const advance = (ms: number): void => {
    now += ms;
    for (const timer of timers) {
      if (timer.at > now) continue;
      timers.delete(timer);
      timer.fire();
    }
  };
  return { time, advance };
}

/** Lets everything that is due in microtasks happen. */
async function turns(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

function text(message: string): Uint8Array {
  return new TextEncoder().encode(message);
}

function frame(message: string): Uint8Array {
  return Uint8Array.of(3, 0, message.length >> 8, message.length & 255, ...text(message));
}
