/** TURN's attributes and ChannelData: octets as the RFC draws them, round trips, truncation, and whatever may arrive. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { type AttributeKind, attribute } from "../../../core/wire/stun-attributes.ts";
import { decodeStun, encodeStun, readAttribute } from "../../../core/wire/stun.ts";
import * as turn from "../../../core/wire/turn.ts";

const ID = Uint8Array.from({ length: 12 }, (_, i) => i);
const HEADER = new Uint8Array(20);

const KINDS: readonly (readonly [AttributeKind<unknown>, fc.Arbitrary<unknown>])[] = [
  kind(turn.CHANNEL_NUMBER, fc.nat(0xffff)),
  kind(turn.LIFETIME, fc.nat(0xffffffff)),
  kind(
    turn.XOR_PEER_ADDRESS,
    fc.record({ ip: fc.constantFrom("192.0.2.1", "2001:db8::7"), port: fc.nat(65_535) }),
  ),
  kind(turn.DATA, fc.uint8Array({ maxLength: 300 })),
  kind(
    turn.XOR_RELAYED_ADDRESS,
    fc.record({ ip: fc.constantFrom("198.51.100.9", "::1"), port: fc.nat(65_535) }),
  ),
  kind(turn.REQUESTED_ADDRESS_FAMILY, fc.constantFrom(turn.FAMILY_IP4, turn.FAMILY_IP6)),
  kind(turn.EVEN_PORT, fc.boolean()),
  kind(turn.REQUESTED_TRANSPORT, fc.nat(255)),
  kind(turn.DONT_FRAGMENT, fc.constant(true)),
  kind(turn.RESERVATION_TOKEN, fc.uint8Array({ minLength: 8, maxLength: 8 })),
  kind(turn.CONNECTION_ID, fc.nat(0xffffffff)),
  kind(turn.ADDITIONAL_ADDRESS_FAMILY, fc.constantFrom(turn.FAMILY_IP4, turn.FAMILY_IP6)),
  kind(
    turn.ADDRESS_ERROR_CODE,
    fc.record({
      family: fc.constantFrom(turn.FAMILY_IP4, turn.FAMILY_IP6),
      code: fc.integer({ min: 300, max: 699 }),
      reason: fc.string({ maxLength: 40 }),
    }),
  ),
];

test.each([
  [turn.CHANNEL_NUMBER, 0x4001, "000c0004 40010000"],
  [turn.LIFETIME, 600, "000d0004 00000258"],
  [turn.REQUESTED_TRANSPORT, turn.TRANSPORT_UDP, "00190004 11000000"],
  [turn.REQUESTED_ADDRESS_FAMILY, turn.FAMILY_IP6, "00170004 02000000"],
  [turn.ADDITIONAL_ADDRESS_FAMILY, turn.FAMILY_IP6, "80000004 02000000"],
  [turn.EVEN_PORT, true, "00180001 80000000"],
  [turn.DONT_FRAGMENT, true, "001a0000"],
  [turn.CONNECTION_ID, 0x01020304, "002a0004 01020304"],
  [turn.XOR_PEER_ADDRESS, { ip: "192.0.2.1", port: 32_853 }, "00120008 0001a147 e112a643"],
] as const)("%o is written as its section draws it", (one, value, hex) => {
  const bytes = encode(one, value);
  expect(bytes.subarray(20).toHex()).toBe(hex.replaceAll(" ", ""));
});

test("every attribute comes back as it was written", () => {
  for (const [one, values] of KINDS) {
    fc.assert(
      fc.property(values, (value) => {
        const message = decodeStun(encode(one, value));
        if (typeof message === "string") throw new Error(message);
        expect(readAttribute<unknown>(message, one)).toEqual(value);
      }),
      { numRuns: 60 },
    );
  }
});

test("values of any length and content are read or refused without an exception", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 800 }), (bytes) => {
      for (const [one] of KINDS) one.read(bytes, HEADER);
    }),
    { numRuns: 1000 },
  );
});

test("a value of another length than its section prescribes is refused", () => {
  for (const one of [turn.CHANNEL_NUMBER, turn.LIFETIME, turn.CONNECTION_ID, turn.RESERVATION_TOKEN]) {
    for (const length of [0, 1, 3, 5, 7, 9]) expect(one.read(new Uint8Array(length), HEADER)).toBeUndefined();
  }
  expect(turn.EVEN_PORT.read(new Uint8Array(2), HEADER)).toBeUndefined();
  expect(turn.DONT_FRAGMENT.read(new Uint8Array(1), HEADER)).toBeUndefined();
});

test("ChannelData is written with its header, and padded to whole words over TCP", () => {
  const data = Uint8Array.of(1, 2, 3, 4, 5);
  expect(turn.encodeChannelData(0x4002, data, false).toHex()).toBe("400200050102030405");
  expect(turn.encodeChannelData(0x4002, data, true).toHex()).toBe("400200050102030405000000");
  const dirty = new Uint8Array(16).fill(0xff);
  expect(turn.encodeChannelData(0x4002, data, true, dirty).toHex()).toBe("400200050102030405000000");
  expect(dirty[12]).toBe(0xff);
});

test("ChannelData comes back, padded or not, and never from a truncation", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: turn.CHANNEL_FIRST, max: turn.CHANNEL_LAST }),
      fc.uint8Array({ maxLength: 200 }),
      fc.boolean(),
      (channel, data, padded) => {
        const bytes = turn.encodeChannelData(channel, data, padded);
        expect(turn.decodeChannelData(bytes)).toEqual({ channel, data });
        for (let length = 0; length < 4 + data.length; length++) {
          expect(turn.decodeChannelData(bytes.subarray(0, length))).toBeUndefined();
        }
      },
    ),
    { numRuns: 200 },
  );
});

test.each([0, 0x3fff, 0x8000, Number.NaN])("channel %p is refused with what was expected", (channel) => {
  expect(() => turn.encodeChannelData(channel, new Uint8Array(1), false)).toThrow("0x4000 to 0x7fff");
  expect(turn.decodeChannelData(Uint8Array.of(channel >> 8, channel & 255, 0, 0))).toBeUndefined();
});

test("data that do not fit are refused", () => {
  expect(() => turn.encodeChannelData(0x4000, new Uint8Array(65_536), false)).toThrow("65536 octets");
  expect(() => turn.encodeChannelData(0x4000, new Uint8Array(9), false, new Uint8Array(12))).toThrow(
    "cannot hold 9",
  );
});

function kind<T>(
  one: AttributeKind<T>,
  values: fc.Arbitrary<T>,
): readonly [AttributeKind<unknown>, fc.Arbitrary<unknown>] {
  return [one, values];
}

function encode(one: AttributeKind<unknown>, value: unknown): Uint8Array {
  return encodeStun({
    class: "request",
    method: turn.ALLOCATE,
    transactionId: ID,
    attributes: [attribute(one, value)],
  });
}
