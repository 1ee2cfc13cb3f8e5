import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  decodeEnvelope,
  ENC_LENGTH,
  encodeEnvelope,
  ENVELOPE_MAX_LENGTH,
  envelopeTagKey,
} from "../../../core/wire/signal-envelope.ts";

const receiver = Uint8Array.from({ length: 33 }, (_, i) => (i === 0 ? 2 : i));
const tagKey = envelopeTagKey(receiver);
const enc = Uint8Array.from({ length: ENC_LENGTH }, (_, i) => (i === 0 ? 4 : i));

describe("an envelope", () => {
  test("is laid out as docs/signaling.md says", () => {
    const bytes = encodeEnvelope(enc, new Uint8Array(130).fill(7), tagKey);
    expect(bytes.length).toBe(82 + 130);
    expect(Buffer.from(bytes.subarray(0, 17)).toString("hex")).toBe("01770b6593cdab195a52dc5f79f0652e03");
    expect(bytes.subarray(17, 82)).toEqual(enc);
  });

  test("comes out as it went in", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 130, maxLength: ENVELOPE_MAX_LENGTH - 82 }), (ciphertext) => {
        const envelope = decodeEnvelope(encodeEnvelope(enc, ciphertext, tagKey), tagKey);
        expect(envelope).toMatchObject({ enc, ciphertext });
      }),
    );
  });

  test("that is cut anywhere, or one bit of which is turned, is refused", () => {
    const bytes = encodeEnvelope(enc, new Uint8Array(140).fill(7), tagKey);
    for (let length = 0; length < bytes.length; length++) {
      expect(decodeEnvelope(bytes.subarray(0, length), tagKey)).toBeString();
    }
    fc.assert(
      fc.property(fc.nat(bytes.length * 8 - 1), (bit) => {
        const turned = bytes.slice();
        turned[bit >> 3] = (turned[bit >> 3] as number) ^ (1 << (bit & 7));
        expect(decodeEnvelope(turned, tagKey)).toBeString();
      }),
    );
  });

  test("for somebody else, of another version or too long says which", () => {
    const bytes = encodeEnvelope(enc, new Uint8Array(140), tagKey);
    expect(decodeEnvelope(bytes, envelopeTagKey(new Uint8Array(33)))).toBe("stranger");
    expect(decodeEnvelope(Uint8Array.of(2, ...bytes.subarray(1)), tagKey)).toBe("unknown-version");
    expect(decodeEnvelope(new Uint8Array(ENVELOPE_MAX_LENGTH + 1), tagKey)).toBe("oversized");
    expect(() => encodeEnvelope(enc, new Uint8Array(ENVELOPE_MAX_LENGTH), tagKey)).toThrow("at most 6144");
  });

  test("of random octets is refused without an exception", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        expect(decodeEnvelope(bytes, tagKey)).toBeString();
      }),
    );
  });
});
