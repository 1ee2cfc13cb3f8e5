import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { P2pdError } from "../../../core/errors.ts";
import { FRAME_HEADER_LENGTH } from "../../../core/wire/session-frame.ts";
import {
  type Credit,
  decodeAck,
  decodeResume,
  decodeResumed,
  encodeAck,
  encodeNotResumed,
  encodeResume,
  encodeResumed,
  type Resume,
  type Resumed,
} from "../../../core/wire/session-positions.ts";

const SESSION = "AAECAwQFBgcICQoLDA0ODw";
const LARGEST = Number.MAX_SAFE_INTEGER;

const payload = (frame: Uint8Array): Uint8Array => frame.slice(FRAME_HEADER_LENGTH);
const position = fc.oneof(fc.nat(), fc.integer({ min: 0, max: LARGEST }));

test("the layouts are those of the page", () => {
  const hex = (frame: Uint8Array): string => frame.toHex();
  const spaceless = (text: string): string => text.replaceAll(" ", "");
  expect(hex(encodeAck({ received: 1, limit: 2 ** 32 + 2 }))).toBe(
    spaceless("07000010 0000000000000001 0000000100000002"),
  );
  expect(hex(encodeResume({ session: SESSION, epoch: 258, received: 3, limit: 4 }))).toBe(
    spaceless("0a000024 000102030405060708090a0b0c0d0e0f 00000102 0000000000000003 0000000000000004"),
  );
  expect(hex(encodeResumed({ verdict: "accepted", received: 5, limit: 6, from: 7 }))).toBe(
    spaceless("0b000019 00 0000000000000005 0000000000000006 0000000000000007"),
  );
  const verdicts = ["unknown", "stale", "busy", "unsuitable"] as const;
  expect(verdicts.map((verdict) => encodeNotResumed(verdict)[4])).toEqual([1, 2, 3, 4]);
});

test("everything is read as it was written", () => {
  const session = fc
    .uint8Array({ minLength: 16, maxLength: 16 })
    .map((octets) => octets.toBase64({ alphabet: "base64url", omitPadding: true }));
  const verdict = fc.constantFrom("accepted", "unknown", "stale", "busy", "unsuitable");
  fc.assert(
    fc.property(fc.record({ received: position, limit: position }), (credit: Credit) => {
      expect(decodeAck(payload(encodeAck(credit)))).toEqual(credit);
    }),
  );
  const epoch = fc.integer({ min: 0, max: 2 ** 32 - 1 });
  fc.assert(
    fc.property(fc.record({ session, epoch, received: position, limit: position }), (resume: Resume) => {
      expect(decodeResume(payload(encodeResume(resume)))).toEqual(resume);
    }),
  );
  fc.assert(
    fc.property(fc.record({ verdict, received: position, limit: position, from: position }), (resumed) => {
      expect(decodeResumed(payload(encodeResumed(resumed as Resumed)))).toEqual(resumed as Resumed);
    }),
  );
});

describe("no other payload is taken", () => {
  const whole = {
    ACK: [decodeAck, payload(encodeAck({ received: 1, limit: 2 }))],
    RESUME: [decodeResume, payload(encodeResume({ session: SESSION, epoch: 1, received: 2, limit: 3 }))],
    RESUMED: [decodeResumed, payload(encodeNotResumed("stale"))],
  } as const;
  for (const [name, [decode, octets]] of Object.entries(whole)) {
    test(`every truncation of ${name}, and one octet more`, () => {
      for (let length = 0; length < octets.length; length++)
        expect(() => decode(octets.subarray(0, length))).toThrow(`${name} has ${length} octets`);
      expect(() => decode(Uint8Array.of(...octets, 0))).toThrow(P2pdError);
    });

    test(`random octets as ${name} end in protocol or are read`, () => {
      fc.assert(
        fc.property(fc.uint8Array({ minLength: octets.length, maxLength: octets.length }), (random) => {
          try {
            decode(random);
          } catch (thrown) {
            expect((thrown as P2pdError).code).toBe("protocol");
          }
        }),
      );
    });
  }

  test("a position beyond what numbers hold", () => {
    const octets = payload(encodeAck({ received: LARGEST, limit: LARGEST }));
    octets[1] = 0x20;
    expect(() => decodeAck(octets)).toThrow("2^53");
  });

  test("a verdict that nobody knows", () => {
    const octets = payload(encodeNotResumed("stale"));
    octets[0] = 5;
    expect(() => decodeResumed(octets)).toThrow("unknown verdict 5");
  });
});
