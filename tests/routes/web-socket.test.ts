/** WebSocket frames by RFC 6455, and the stream that is made of them. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { P2pdError } from "../../core/errors.ts";
import { realTime } from "../../core/net/real-time.ts";
import type { ByteStream, StreamHandlers } from "../../core/net/world.ts";
import {
  createFrameReader,
  encodeClose,
  encodeDataHeader,
  encodePong,
} from "../../core/wire/web-socket-frames.ts";
import { createWebSocketStream } from "../../core/net/web-socket-stream.ts";

test("messages of any cut, in any pieces, give the octets that were sent", () => {
  const message = fc.record({
    octets: fc.uint8Array({ maxLength: 300 }),
    fragments: fc.integer({ min: 1, max: 4 }),
  });
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 8 }),
      fc.array(fc.nat(200), { minLength: 1 }),
      (messages, cuts) => {
        const sent = messages.flatMap(({ octets, fragments }) => fragment(octets, fragments));
        const { read, seen } = reader();
        let wire = Buffer.concat(sent);
        for (let i = 0; wire.length > 0; i++) {
          const cut = (cuts[i % cuts.length] as number) + 1;
          read(Uint8Array.from(wire.subarray(0, cut)));
          wire = wire.subarray(cut);
        }
        expect(Buffer.concat(seen.data)).toEqual(Buffer.concat(messages.map(({ octets }) => octets)));
      },
    ),
  );
});

test("frames of 126, 65,536 and more octets have the lengths of section 5.2", () => {
  for (const length of [125, 126, 65_535, 65_536, 100_000]) {
    const { read, seen } = reader();
    read(frame(2, new Uint8Array(length).fill(7)));
    expect(Buffer.concat(seen.data).length).toBe(length);
  }
  expect([...encodeDataHeader(125)]).toEqual([0x82, 125]);
  expect([...encodeDataHeader(126)]).toEqual([0x82, 126, 0, 126]);
  expect([...encodeDataHeader(65_536)]).toEqual([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
});

test("the examples of section 5.7 are read", () => {
  const { read, seen } = reader();
  read(new Uint8Array([0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]));
  expect(Buffer.concat(seen.data).toString()).toBe("Hello");
  read(frame(9, Buffer.from("Hello")));
  expect(seen.pings.map((payload) => Buffer.from(payload).toString())).toEqual(["Hello"]);
  expect([...encodePong(Buffer.from("Hello"))]).toEqual([0x8a, 5, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
});

test("a control frame between two fragments of a message is no part of it", () => {
  const { read, seen } = reader();
  read(frame(2, Buffer.from("a"), false));
  read(frame(10, Buffer.from("pong")));
  read(frame(0, Buffer.from("b")));
  read(frame(8, new Uint8Array([3, 232])));
  expect([Buffer.concat(seen.data).toString(), seen.closes]).toEqual(["ab", [1000]]);
});

test.each([
  ["an unmasked frame", [0x82, 1, 65], 1002],
  ["a reserved bit", [0xc2, 0x81, 0, 0, 0, 0, 65], 1002],
  ["an unknown opcode", [0x83, 0x80, 0, 0, 0, 0], 1002],
  ["an unknown control opcode", [0x8b, 0x80, 0, 0, 0, 0], 1002],
  ["a fragmented ping", [0x09, 0x80, 0, 0, 0, 0], 1002],
  ["a long ping", [0x89, 0xfe, 0, 126, 0, 0, 0, 0], 1002],
  ["a continuation of nothing", [0x80, 0x80, 0, 0, 0, 0], 1002],
  ["a message in a message", [0x02, 0x80, 0, 0, 0, 0, 0x82, 0x80, 0, 0, 0, 0], 1002],
  ["half a close code", [0x88, 0x81, 0, 0, 0, 0, 3], 1002],
  ["a close code that is not for the wire", [0x88, 0x82, 0, 0, 0, 0, 3, 238], 1002],
  ["a close reason that is no UTF-8", [0x88, 0x83, 0, 0, 0, 0, 3, 232, 255], 1007],
  ["a length above 2^53", [0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0], 1002],
  ["text that is no UTF-8", [0x81, 0x81, 0, 0, 0, 0, 255], 1007],
  ["text that ends within a character", [0x81, 0x81, 0, 0, 0, 0, 0xc3], 1007],
])("%s is a violation", (_, octets, closeCode) => {
  const { read } = reader();
  const thrown = failure(() => read(new Uint8Array(octets)));
  expect(thrown).toMatchObject({ code: "protocol", detail: { closeCode } });
});

test("no octets make the reader fail with anything but a violation", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 60 })), (pieces) => {
      const { read } = reader();
      const thrown = failure(() => pieces.forEach((piece) => read(piece)));
      expect(thrown === undefined || thrown instanceof P2pdError).toBe(true);
    }),
    { numRuns: 500 },
  );
});

test("a reason that is too long for a close frame is cut between two characters", () => {
  const close = encodeClose(1011, "ü".repeat(100));
  expect(close.length).toBe(2 + 2 + 122);
  expect(Buffer.from(close.subarray(4)).toString()).toBe("ü".repeat(61));
});

test("a violation of the client closes with its code, and is the stream's error", () => {
  const { socket, wire, client, seen } = webSocket();
  client().data(new Uint8Array([0x82, 1, 65]));
  expect(closeCode(wire)).toBe(1002);
  expect(seen.closed).toMatchObject([{ code: "protocol" }]);
  expect(socket.write(new Uint8Array(1))).toBe(true);
  expect(wire.ended).toBe(true);
});

test("a close frame of the client is the end of its octets, and our end closes with 1000", () => {
  const { socket, wire, client, seen } = webSocket();
  client().data(frame(8, new Uint8Array(0)));
  client().data(frame(8, new Uint8Array(0)));
  client().end();
  expect([seen.ends, seen.closed]).toEqual([1, []]);
  socket.write(Buffer.from("still"));
  socket.end();
  expect(closeCode(wire)).toBe(1000);
  client().close();
  expect(seen.closed).toEqual([undefined]);
});

test("a connection that ends or breaks without a close frame is an error", () => {
  const ended = webSocket();
  ended.client().end();
  expect(ended.seen.closed).toMatchObject([{ code: "closed" }]);
  const broken = webSocket();
  broken.client().close();
  expect(broken.seen.closed).toMatchObject([{ code: "closed" }]);
});

test("pings are answered while the client reads, and not while it does not", () => {
  const { wire, client, socket } = webSocket();
  client().data(frame(9, Buffer.from("x")));
  expect(wire.written.map((bytes) => bytes[0])).toEqual([0x8a]);
  wire.accepts = false;
  expect(socket.write(new Uint8Array(10))).toBe(false);
  client().data(frame(9, Buffer.from("y")));
  expect(wire.written.length).toBe(2);
  wire.accepts = true;
  client().drain();
  client().data(frame(9, Buffer.from("z")));
  expect(wire.written.length).toBe(3);
});

test("pause, resume and what is pending are those of the connection", () => {
  const { socket, wire } = webSocket();
  socket.pause();
  expect(wire.paused).toBe(true);
  socket.resume();
  expect([wire.paused, socket.pendingBytes, socket.fd]).toEqual([false, 0, -1]);
  expect(socket.write(new Uint8Array(0))).toBe(true);
  socket.write(new Uint8Array(20_000));
  expect(wire.written.map((bytes) => bytes.length)).toEqual([4, 20_000]);
  socket.abort();
  expect(closeCode(wire)).toBe(1011);
});

function reader() {
  const seen = { data: [] as Uint8Array[], pings: [] as Uint8Array[], closes: [] as (number | undefined)[] };
  const read = createFrameReader({
    data: (bytes) => void seen.data.push(Uint8Array.from(bytes)),
    ping: (payload) => void seen.pings.push(payload),
    close: (code) => void seen.closes.push(code),
  });
  return { read, seen };
}

/** A frame as a client sends it. */
function frame(opcode: number, payload: Uint8Array, final = true): Uint8Array {
  const mask = [0x12, 0x34, 0x56, 0x78];
  const header = Buffer.from(encodeDataHeader(payload.length));
  header[0] = (final ? 0x80 : 0) | opcode;
  header[1] = (header[1] as number) | 0x80;
  return Uint8Array.from([...header, ...mask, ...payload.map((octet, i) => octet ^ (mask[i & 3] as number))]);
}

function fragment(octets: Uint8Array, count: number): Uint8Array[] {
  const size = Math.ceil(octets.length / count);
  return Array.from({ length: count }, (_, i) =>
    frame(i === 0 ? 2 : 0, octets.subarray(i * size, (i + 1) * size), i === count - 1),
  );
}

function failure(run: () => void): unknown {
  try {
    run();
    return undefined;
  } catch (thrown) {
    return thrown;
  }
}

/** A WebSocket over a connection that only notes what is done to it. */
function webSocket() {
  const wire = { written: [] as Uint8Array[], accepts: true, paused: false, ended: false };
  const seen = { data: [] as Uint8Array[], ends: 0, closed: [] as (P2pdError | undefined)[] };
  let handlers: StreamHandlers | undefined;
  const nowhere = { ip: "127.0.0.1", port: 1 };
  const connection: ByteStream = {
    local: nowhere,
    remote: nowhere,
    fd: 3,
    pendingBytes: 0,
    attach: (next) => (handlers = next),
    write(bytes) {
      wire.written.push(bytes);
      return wire.accepts;
    },
    pause: () => (wire.paused = true),
    resume: () => (wire.paused = false),
    end: () => (wire.ended = true),
    abort() {},
  };
  const socket = createWebSocketStream(realTime, connection);
  socket.attach({
    data: (bytes) => void seen.data.push(bytes),
    drain() {},
    end: () => seen.ends++,
    close: (error) => void seen.closed.push(error),
  });
  return { socket, wire, seen, client: () => handlers as StreamHandlers };
}

function closeCode(wire: { written: Uint8Array[] }): number {
  const last = wire.written.at(-1) as Uint8Array;
  expect(last[0]).toBe(0x88);
  return ((last[2] as number) << 8) | (last[3] as number);
}
