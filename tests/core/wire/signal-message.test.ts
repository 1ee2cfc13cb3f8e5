import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ENVELOPE_MAX_TEXT } from "../../../core/wire/signal-envelope.ts";
import {
  decodeSignal,
  encodeSignal,
  SIGNAL_PADDING,
  SIGNAL_TYPES,
  type SignalMessage,
} from "../../../core/wire/signal-message.ts";

const ID = "AAAAAAAAAAAAAAAAAAAAAA";
const head = { v: 1, id: ID, at: 1_700_000_000_000 } as const;
const EXAMPLES: Readonly<Record<string, SignalMessage>> = {
  offer: {
    ...head,
    type: "offer",
    request: ID,
    address: "p2pd1~x",
    strategies: ["direct", "reverse"],
    service: "echo",
    transport: "udp",
    token: "t",
    certificate: "c",
  },
  answer: {
    ...head,
    re: { id: ID, at: 1, got: 2, held: 0.5 },
    type: "answer",
    request: ID,
    accepted: false,
    code: "busy",
    text: "later",
  },
  reverse: { ...head, type: "reverse", request: ID, address: "p2pd1~x", token: "abc" },
  connected: { ...head, type: "connected", request: ID, path: "direct/tcp" },
  cancel: { ...head, type: "cancel", request: ID, code: "timeout" },
  ping: { ...head, type: "ping" },
  pong: { ...head, type: "pong" },
  stale: { ...head, type: "stale" },
};

describe("a signal", () => {
  test("of every type comes out as it went in", () => {
    expect(Object.keys(EXAMPLES)).toEqual([...SIGNAL_TYPES]);
    for (const message of Object.values(EXAMPLES))
      expect(decodeSignal(encodeSignal(message))).toEqual(message);
  });

  test("is padded, so that its length tells little", () => {
    const lengths = Object.values(EXAMPLES).map((message) => encodeSignal(message).length);
    expect(new Set(lengths)).toEqual(new Set([SIGNAL_PADDING]));
  });

  test("with fields that we do not know is understood", () => {
    expect(decodeSignal(bytesOf({ ...EXAMPLES["ping"], later: { version: 2 } }))).toMatchObject({
      type: "ping",
    });
  });

  test("of another version or type is reported as such and not guessed", () => {
    expect(decodeSignal(bytesOf({ ...EXAMPLES["ping"], v: 2 }))).toBe("unknown-version");
    expect(decodeSignal(bytesOf({ ...EXAMPLES["ping"], type: "punch-by-moonlight" }))).toBe("unknown-type");
    expect(decodeSignal(bytesOf({ ...EXAMPLES["ping"], type: "toString" }))).toBe("unknown-type");
  });

  test("that lacks any one field, or has one of the wrong kind, is malformed", () => {
    for (const message of Object.values(EXAMPLES)) {
      const required = { answer: ["accepted"], offer: ["address", "strategies"], reverse: ["token"] }[
        message.type as "offer"
      ];
      for (const field of ["id", "at", "type", "v", ...(required ?? [])]) {
        const { [field]: _, ...rest } = message as unknown as Record<string, unknown>;
        expect(decodeSignal(bytesOf(rest))).toBe("malformed");
        expect(decodeSignal(bytesOf({ ...message, [field]: [null] }))).toBe("malformed");
      }
    }
  });

  test("that is no JSON, no object, no UTF-8, too long or random is malformed without an exception", () => {
    for (const text of ["", "{", "[]", "null", "7", '"x"']) {
      expect(decodeSignal(new TextEncoder().encode(text))).toBe("malformed");
    }
    expect(decodeSignal(Uint8Array.of(0xff))).toBe("malformed");
    expect(decodeSignal(new Uint8Array(ENVELOPE_MAX_TEXT + 1).fill(0x20))).toBe("malformed");
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => expect(decodeSignal(bytes)).toBeString()),
    );
    fc.assert(
      fc.property(fc.json(), (text) => expect(decodeSignal(new TextEncoder().encode(text))).toBeString()),
    );
  });

  test("that we ourselves put together wrongly is our error", () => {
    expect(() => encodeSignal({ ...head, type: "cancel", request: "short", code: "x" })).toThrow("cancel");
  });
});

function bytesOf(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}
