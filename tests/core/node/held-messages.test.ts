import { expect, test } from "bun:test";
import fc from "fast-check";
import { HeldMessages } from "../../../core/node/held-messages.ts";

test("messages come out as they went in, whatever their lengths and the order of both", () => {
  const length = fc.oneof(fc.integer({ min: 1, max: 60 }), fc.constantFrom(4095, 4096, 16_384, 70_000));
  const step = fc.oneof(length, fc.constant(0));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const held = new HeldMessages();
      const expected: Uint8Array[] = [];
      const check = (): void => {
        const [message, wanted] = [held.shift(), expected.shift()];
        expect(message === undefined).toBe(wanted === undefined);
        if (wanted !== undefined) expect(Buffer.compare(message as Uint8Array, wanted)).toBe(0);
      };
      for (const [i, size] of steps.entries()) {
        if (size === 0) check();
        else {
          const message = new Uint8Array(size).fill(i % 256);
          held.push(message);
          expected.push(message.slice());
        }
        expect(held.octets).toBe(expected.reduce((sum, { length: octets }) => sum + octets, 0));
      }
      while (expected.length > 0) check();
      expect([held.isEmpty, held.shift()]).toEqual([true, undefined]);
    }),
    { numRuns: 60 },
  );
});

test("a short view does not keep the large buffer that it came in, a long piece is not copied", () => {
  const held = new HeldMessages();
  const large = new ArrayBuffer(1 << 20);
  held.push(new Uint8Array(large, 0, 10));
  held.push(new Uint8Array(large, 0, 5000));
  const whole = new Uint8Array(5000);
  held.push(whole);
  expect(held.shift()?.buffer.byteLength).toBeLessThan(2000);
  expect(held.shift()?.buffer.byteLength).toBe(5000);
  expect(held.shift()?.buffer).toBe(whole.buffer);
});

test("a quarter million messages of one octet cost less than four octets each", () => {
  const held = new HeldMessages();
  const count = 262_144;
  const buffers = new Set<ArrayBufferLike>();
  for (let i = 0; i < count; i++) held.push(Uint8Array.of(i & 255));
  for (let i = 0; i < count; i++) {
    const message = held.shift() as Uint8Array;
    if (message[0] !== (i & 255)) throw new Error(`message ${i} is not itself`);
    buffers.add(message.buffer);
  }
  const octets = [...buffers].reduce((sum, { byteLength }) => sum + byteLength, 0);
  expect(octets).toBeLessThan(4 * count);
});
