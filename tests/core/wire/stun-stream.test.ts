/** Messages found in byte streams, however they are cut, and streams that hold something else. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import * as kinds from "../../../core/wire/stun-attributes.ts";
import { createStunFrameReader, type StunFrameReader } from "../../../core/wire/stun-stream.ts";
import { encodeStun } from "../../../core/wire/stun.ts";
import * as vectors from "../../vectors/rfc5769.ts";

const CHANNEL_DATA = new Uint8Array([0x40, 1, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0]);

describe("a STUN stream", () => {
  test("gives the same messages however it is cut", () => {
    const messages = [
      vectors.SAMPLE_REQUEST,
      CHANNEL_DATA,
      vectors.IPV6_RESPONSE,
      CHANNEL_DATA,
      vectors.USERHASH_REQUEST,
    ];
    const stream = Buffer.concat(messages);
    const expected = messages.map((one) =>
      Buffer.from(one === CHANNEL_DATA ? one.subarray(0, 9) : one).toString("hex"),
    );
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 20 }), (cuts) => {
        const { reader, seen } = open();
        for (let at = 0, n = 0; at < stream.length; n++) {
          const size = cuts[n % cuts.length] as number;
          expect(reader.push(stream.subarray(at, at + size))).toBeUndefined();
          at += size;
        }
        expect(seen).toEqual(expected);
        expect(reader.heldBytes).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  test("ends at what is no STUN, at the first octet that shows it", () => {
    for (const [bytes, length] of [
      [[0xff], 1],
      [[0x01, 0x01, 0x00, 0x03], 4],
      [[0x01, 0x01, 0x00, 0x04, 0x22], 5],
    ] as const) {
      const { reader, seen } = open();
      for (let i = 0; i < length - 1; i++)
        expect(reader.push(new Uint8Array([bytes[i] as number]))).toBeUndefined();
      expect(reader.push(new Uint8Array([bytes[length - 1] as number]))).toBe("not-stun");
      expect(reader.push(vectors.SAMPLE_REQUEST)).toBe("not-stun");
      expect(seen).toEqual([]);
      expect(reader.heldBytes).toBe(0);
    }
  });

  test("takes ChannelData only where somebody receives it", () => {
    const reader = createStunFrameReader({ stun() {} });
    expect(reader.push(CHANNEL_DATA)).toBe("not-stun");
  });

  test("never holds more than one message of the size allowed", () => {
    const padding = [kinds.attribute(kinds.PADDING, new Uint8Array(600))];
    const large = encodeStun({
      class: "success",
      method: 1,
      transactionId: new Uint8Array(12),
      attributes: padding,
    });
    const small = createStunFrameReader({ stun() {} }, 512);
    expect(small.push(large)).toBe("too-large");
    const fitting = createStunFrameReader({ stun() {} }, 1024);
    for (let i = 0; i < large.length - 1; i++) {
      expect(fitting.push(large.subarray(i, i + 1))).toBeUndefined();
      expect(fitting.heldBytes).toBe(i + 1);
    }
    expect(fitting.push(new Uint8Array([...large.subarray(-1), ...large]))).toBeUndefined();
    expect(fitting.heldBytes).toBe(0);
  });

  test("random octets never throw", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 8 }), (pieces) => {
        const { reader } = open();
        for (const piece of pieces) reader.push(piece);
      }),
      { numRuns: 500 },
    );
  });
});

function open(): { reader: StunFrameReader; seen: string[] } {
  const seen: string[] = [];
  const keep = (bytes: Uint8Array): void => void seen.push(Buffer.from(bytes).toString("hex"));
  return { reader: createStunFrameReader({ stun: keep, channelData: keep }), seen };
}
