import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { P2pdError } from "../../../core/errors.ts";
import type { Channel, ChannelHandlers } from "../../../core/node/channel.ts";
import { Pipe } from "../../../core/node/pipe.ts";
import { streamChannel } from "../../../core/node/stream-channel.ts";
import { HandTime, type MemoryStream, memoryStreams, settle } from "./memory-stream.ts";

describe("a join", () => {
  test("carries both ways, what waited in all first, and counts", async () => {
    const { pipe, peer, inner, user } = joint();
    peer.write(bytes("early "));
    await settle();
    const got = reader(user);
    const atPeer = reader(peer);
    const done = pipe.join(inner);
    peer.write(bytes("late"));
    user.write(bytes("hello"));
    await settle();
    expect([got.text, atPeer.text]).toEqual(["early late", "hello"]);
    user.end();
    await settle();
    expect([atPeer.ended, got.ended]).toEqual([true, false]);
    peer.write(bytes("!"));
    peer.end();
    expect(await done).toEqual({ toPipe: 5, fromPipe: 11 });
    expect([got.text, got.ended]).toEqual(["early late!", true]);
    expect([pipe.sent, pipe.received]).toEqual([5, 11]);
    expect(await pipe.closed).toBeUndefined();
  });

  test("passes on an end that came before it", async () => {
    const { pipe, peer, inner, user } = joint();
    peer.write(bytes("all of it"));
    peer.end();
    await pipe.ended;
    const got = reader(user);
    const done = pipe.join(inner);
    await settle();
    expect([got.text, got.ended]).toEqual(["all of it", true]);
    user.end();
    reader(peer);
    expect(await done).toEqual({ toPipe: 0, fromPipe: 9 });
  });

  test("the views that one side gives are the views that the other gets", async () => {
    const { pipe, peer, inner, user } = joint();
    const seen: Uint8Array[] = [];
    user.attach({ data: (piece) => seen.push(piece), drain() {}, end() {}, close() {} });
    void pipe.join(inner);
    const piece = new Uint8Array(1000);
    peer.write(piece);
    await settle();
    expect(seen[0]).toBe(piece);
  });

  test("a side that does not read stops the other, and only as long", async () => {
    const { pipe, peer, inner, user, near } = joint(100);
    void pipe.join(inner);
    peer.write(new Uint8Array(101));
    await settle();
    expect(near.paused).toBe(true);
    const got = reader(user);
    await settle();
    expect([near.paused, got.text.length]).toEqual([false, 101]);
    user.write(new Uint8Array(101));
    await settle();
    expect(inner.paused).toBe(true);
    const atPeer = reader(peer);
    await settle();
    expect([inner.paused, atPeer.text.length]).toEqual([false, 101]);
  });

  test("begins although the pipe was paused and its channel holds more than the queue takes", async () => {
    const held = ["a", "b", "c", "d", "e"];
    const state = { paused: false };
    let to: ChannelHandlers | undefined;
    const remote = { ip: "192.0.2.1", port: 1 };
    const deliver = () => {
      while (!state.paused && held.length > 0) to?.message(bytes(held.shift() as string), remote);
    };
    const channel: Channel = {
      kind: "stream",
      local: remote,
      remote,
      fd: -1,
      pendingBytes: 0,
      attach(handlers) {
        to = handlers;
        deliver();
      },
      send: () => true,
      pause() {
        state.paused = true;
      },
      resume() {
        state.paused = false;
        deliver();
      },
      end() {},
      abort() {},
    };
    const pipe = new Pipe(channel, { time: new HandTime(), queueMessages: 1 });
    expect([state.paused, held.length]).toEqual([true, 3]);
    const [inner, user] = memoryStreams();
    const got = reader(user);
    void pipe.join(inner);
    await settle();
    expect([state.paused, got.text]).toEqual([false, "abcde"]);
  });

  test("a second one is refused, and so are send and recv meanwhile", async () => {
    const { pipe, inner } = joint();
    void pipe.join(inner);
    expect(await code(pipe.join(memoryStreams()[0]))).toBe("pipe-busy");
    expect(await code(pipe.send("x"))).toBe("pipe-busy");
    expect(await code(pipe.recv())).toBe("pipe-busy");
  });

  test("a closed pipe cannot be joined", async () => {
    const { pipe, inner } = joint();
    await pipe.close(new P2pdError("aborted", "enough"));
    expect(await code(pipe.join(inner))).toBe("aborted");
    const other = joint();
    void other.pipe.close();
    expect(await code(other.pipe.join(other.inner))).toBe("closed");
  });

  test("when the stream vanishes mid-transfer the pipe is closed with the reason", async () => {
    const { pipe, peer, inner, user } = joint();
    const atPeer = reader(peer);
    const done = pipe.join(inner);
    user.write(bytes("abc"));
    await settle();
    user.abort(new P2pdError("closed", "browser tab closed"));
    const error = await done.catch((thrown: unknown) => thrown as P2pdError);
    expect(error).toBeInstanceOf(P2pdError);
    expect(error).toMatchObject({
      code: "closed",
      message: "browser tab closed",
      detail: { toPipe: 3, fromPipe: 0 },
    });
    expect((await pipe.closed)?.message).toBe("browser tab closed");
    expect(atPeer.closed).toBe("browser tab closed");
  });

  test("when the pipe breaks the stream is aborted with the reason", async () => {
    const { pipe, peer, inner, user } = joint();
    const got = reader(user);
    const done = pipe.join(inner);
    peer.abort(new P2pdError("timeout", "peer silent"));
    expect(await code(done)).toBe("timeout");
    await settle();
    expect(got.closed).toBe("peer silent");
    expect((await pipe.closed)?.message).toBe("peer silent");
  });

  test("closing the pipe ends the join on both sides", async () => {
    const { pipe, peer, inner, user } = joint();
    const got = reader(user);
    const atPeer = reader(peer);
    const done = pipe.join(inner);
    await pipe.close();
    expect(await code(done)).toBe("closed");
    await settle();
    expect([got.closed, atPeer.closed]).toEqual(["the pipe was closed", "the pipe was closed"]);
  });

  test("loses and reorders nothing, however the octets are cut and however small the buffers are", async () => {
    const pieces = fc.array(fc.uint8Array({ minLength: 1, maxLength: 50 }), { maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(
        pieces,
        pieces,
        fc.integer({ min: 1, max: 100 }),
        fc.nat(60),
        async (down, up, capacity, late) => {
          const { pipe, peer, inner, user } = joint(capacity);
          const got = reader(user);
          const atPeer = reader(peer);
          for (const piece of down) peer.write(piece);
          peer.end();
          for (let i = 0; i < late; i++) await Promise.resolve();
          const done = pipe.join(inner);
          for (const piece of up) user.write(piece);
          user.end();
          const carried = await done;
          expect(got.octets).toEqual(down.flatMap((piece) => [...piece]));
          expect(atPeer.octets).toEqual(up.flatMap((piece) => [...piece]));
          expect(carried).toEqual({ toPipe: atPeer.octets.length, fromPipe: got.octets.length });
          expect(await pipe.closed).toBeUndefined();
        },
      ),
      { numRuns: 150 },
    );
  });
});

/** peer <-> near|pipe|inner <-> user */
function joint(capacity = 65_536) {
  const [near, peer]: readonly [MemoryStream, MemoryStream] = memoryStreams(capacity);
  const [inner, user]: readonly [MemoryStream, MemoryStream] = memoryStreams(capacity);
  return { pipe: new Pipe(streamChannel(near), { time: new HandTime() }), near, peer, inner, user };
}

function reader(stream: MemoryStream) {
  const seen = {
    octets: [] as number[],
    ended: false,
    closed: "",
    get text() {
      return String.fromCharCode(...this.octets);
    },
  };
  stream.attach({
    data: (piece) => void seen.octets.push(...piece),
    drain() {},
    end: () => {
      seen.ended = true;
    },
    close: (error) => {
      seen.closed = error?.message ?? "orderly";
    },
  });
  return seen;
}

function bytes(given: string): Uint8Array {
  return new TextEncoder().encode(given);
}

function code(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "resolved",
    (error: unknown) => (error as P2pdError).code,
  );
}
