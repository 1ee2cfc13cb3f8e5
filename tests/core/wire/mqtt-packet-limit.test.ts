import { expect, test } from "bun:test";
import fc from "fast-check";
import { createPacketLimit } from "../../../core/wire/mqtt-packet-limit.ts";

test("packets up to the limit pass, however they are cut, and the first longer one does not", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 500 }), { maxLength: 8 }),
      fc.integer({ min: 1, max: 100 }),
      (sizes, step) => {
        const bytes = Buffer.concat(sizes.map(packet));
        const pass = createPacketLimit(300);
        let passed = true;
        for (let at = 0; passed && at < bytes.length; at += step)
          passed = pass(bytes.subarray(at, at + step));
        expect(passed).toBe(sizes.every((size) => size <= 300));
      },
    ),
  );
});

test("a packet that announces 256 MiB is refused before it comes", () => {
  expect(createPacketLimit(8192)(Uint8Array.of(0x30, 0xff, 0xff, 0xff, 0x7f))).toBe(false);
});

test("a length of five octets is no length", () => {
  expect(createPacketLimit(8192)(Uint8Array.of(0x30, 0x80, 0x80, 0x80, 0x80, 0x01))).toBe(false);
});

function packet(size: number): Uint8Array {
  const length = size < 128 ? [size] : [(size & 127) | 128, size >> 7];
  return Buffer.concat([Uint8Array.of(0x30, ...length), new Uint8Array(size)]);
}
