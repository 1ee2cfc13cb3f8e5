import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { P2pdError } from "../../../core/errors.ts";
import {
  createWebSocketReader,
  encodeWebSocketFrame,
  WEBSOCKET_OPCODES,
} from "../../../core/wire/websocket.ts";

describe("frames from a server", () => {
  test("carry their payload however they are cut", () => {
    const lengths = fc.array(fc.constantFrom(0, 1, 125, 126, 300, 65_535, 65_536), { maxLength: 4 });
    fc.assert(
      fc.property(lengths, fc.integer({ min: 1, max: 5000 }), (sizes, step) => {
        const bytes = Buffer.concat(
          sizes.map((size) => frame(WEBSOCKET_OPCODES.binary, Buffer.alloc(size, 7))),
        );
        const { got, feed } = reader();
        for (let at = 0; at < bytes.length; at += step) feed(bytes.subarray(at, at + step));
        expect(got.data).toBe(sizes.reduce<number>((sum, size) => sum + size, 0));
      }),
    );
  });

  test("may be parts of one message, with a ping between them", () => {
    const { got, feed } = reader();
    feed(frame(WEBSOCKET_OPCODES.binary, Buffer.from("ab"), false));
    feed(frame(WEBSOCKET_OPCODES.ping, Buffer.from("?")));
    feed(frame(WEBSOCKET_OPCODES.continuation, Buffer.from("cd")));
    feed(frame(WEBSOCKET_OPCODES.close, Buffer.from([3, 232])));
    expect(got).toEqual({ data: 4, pings: ["?"], closes: 1 });
  });

  test("that break the rules are violations", () => {
    const wrong: readonly (readonly number[])[] = [
      [0xc2, 0],
      [0x82, 0x80],
      [0x81, 0],
      [0x83, 0],
      [0x80, 0],
      [0x09, 0],
      [0x89, 126, 0, 126],
      [0x02, 0, 0x82, 0],
      [0x82, 127, 255, 0, 0, 0, 0, 0, 0, 0],
    ];
    for (const bytes of wrong) expect(() => reader().feed(Uint8Array.from(bytes))).toThrow(P2pdError);
  });

  test("of random octets end in a violation or in nothing", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          reader().feed(bytes);
        } catch (thrown) {
          expect(thrown).toBeInstanceOf(P2pdError);
        }
      }),
    );
  });
});

test("a client's frame is masked (RFC 6455, section 5.7)", () => {
  const mask = Uint8Array.of(0x37, 0xfa, 0x21, 0x3d);
  const bytes = encodeWebSocketFrame(WEBSOCKET_OPCODES.text, Buffer.from("Hello"), mask);
  expect(Buffer.from(bytes).toString("hex")).toBe("818537fa213d7f9f4d5158");
  expect(encodeWebSocketFrame(WEBSOCKET_OPCODES.binary, new Uint8Array(126), mask).length).toBe(134);
  expect(encodeWebSocketFrame(WEBSOCKET_OPCODES.binary, new Uint8Array(65_536), mask).length).toBe(65_550);
});

function frame(opcode: number, payload: Uint8Array, isFinal = true): Uint8Array {
  const first = (isFinal ? 0x80 : 0) | opcode;
  const length = payload.length;
  if (length < 126) return Buffer.concat([Uint8Array.of(first, length), payload]);
  if (length < 65_536) return Buffer.concat([Uint8Array.of(first, 126, length >> 8, length & 255), payload]);
  const head = new Uint8Array(10);
  head.set([first, 127]);
  new DataView(head.buffer).setBigUint64(2, BigInt(length));
  return Buffer.concat([head, payload]);
}

function reader() {
  const got = { data: 0, pings: [] as string[], closes: 0 };
  const feed = createWebSocketReader({
    data: (bytes) => (got.data += bytes.length),
    ping: (payload) => got.pings.push(Buffer.from(payload).toString()),
    close: () => got.closes++,
  });
  return { got, feed };
}
