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
    transport: "udp",
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
  permit: { ...head, type: "permit", request: ID, ips: ["5.44.0.2", "2a01::1"] },
  cancel: { ...head, type: "cancel", request: ID, code: "timeout" },
  ping: { ...head, type: "ping" },
  pong: { ...head, type: "pong" },
  stale: { ...head, type: "stale" },
};

const SIDE = {
  kind: {
    type: "symmetric",
    mapping: "address-and-port-dependent",
    filtering: "address-and-port-dependent",
    delta: { type: "independent", value: -2 },
    range: [1024, 65_535],
    portPreservation: false,
    portParity: false,
  },
  ip: "5.44.0.2",
  samples: [{ localPort: 20_000, externalPort: 40_000 }],
  spare: [20_001, 20_002],
} as const;
const PUNCH = { secret: ID, pairs: [{ to: "192.168.1.7", udp: SIDE, tcp: SIDE }, {}] };

describe("what a signal says of a punch", () => {
  const offer = EXAMPLES["offer"] as SignalMessage;
  const withPunch = (punch: unknown): SignalMessage => ({ ...offer, punch }) as SignalMessage;

  test("comes out as it went in, four pairs of full length too", () => {
    expect(decodeSignal(encodeSignal(withPunch(PUNCH)))).toEqual(withPunch(PUNCH));
    const full = { ...SIDE, spare: Array.from({ length: 24 }, (_, i) => 20_001 + i) };
    const four = { secret: ID, pairs: Array.from({ length: 4 }, () => ({ udp: full, tcp: full })) };
    expect(decodeSignal(encodeSignal(withPunch(four)))).toEqual(withPunch(four));
  });

  test.each([
    ["five pairs", { ...PUNCH, pairs: [{}, {}, {}, {}, {}] }],
    ["a short secret", { ...PUNCH, secret: "abc" }],
    ["a name as address", { ...PUNCH, pairs: [{ udp: { ...SIDE, ip: "example.org" } }] }],
    ["port 0", { ...PUNCH, pairs: [{ udp: { ...SIDE, spare: [0] } }] }],
    [
      "a port too high",
      { ...PUNCH, pairs: [{ udp: { ...SIDE, samples: [{ localPort: 1, externalPort: 65_536 }] } }] },
    ],
    [
      "33 spare ports",
      { ...PUNCH, pairs: [{ udp: { ...SIDE, spare: Array.from({ length: 33 }, () => 5) } }] },
    ],
    ["an unknown kind", { ...PUNCH, pairs: [{ udp: { ...SIDE, kind: { ...SIDE.kind, type: "odd" } } }] }],
  ])("is refused with %s", (_, punch) => {
    expect(decodeSignal(bytesOf(withPunch(punch)))).toBe("malformed");
  });
});

describe("what a signal says of a relay", () => {
  const offer = EXAMPLES["offer"] as SignalMessage;
  const withRelay = (relay: unknown): SignalMessage => ({ ...offer, relay }) as SignalMessage;

  test.each([
    ["asking for one", { transport: "udp" }],
    ["offering one", { transport: "tcp", link: "tls", at: { ip: "5.44.0.2", port: 50_000 } }],
  ])("comes out as it went in, %s", (_, relay) => {
    expect(decodeSignal(encodeSignal(withRelay(relay)))).toEqual(withRelay(relay));
  });

  test.each([
    ["no transport", {}],
    ["another transport", { transport: "sctp" }],
    ["another link", { transport: "udp", link: "quic" }],
    ["a name as address", { transport: "udp", at: { ip: "example.org", port: 1 } }],
    ["port 0", { transport: "udp", at: { ip: "5.44.0.2", port: 0 } }],
    ["no port", { transport: "udp", at: { ip: "5.44.0.2" } }],
  ])("is refused with %s", (_, relay) => {
    expect(decodeSignal(bytesOf(withRelay(relay)))).toBe("malformed");
  });

  test.each([
    ["no address", []],
    ["nine addresses", Array.from({ length: 9 }, () => "5.44.0.2")],
    ["a name", ["example.org"]],
  ])("lets nobody in with %s", (_, ips) => {
    const permit = { ...EXAMPLES["permit"], ips } as SignalMessage;
    expect(decodeSignal(bytesOf(permit))).toBe("malformed");
  });
});

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
