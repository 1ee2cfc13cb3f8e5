import { describe, expect, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import fc from "fast-check";
import { decodeRecord, encodeRecord, RECORD_MAX_LENGTH } from "../../../core/wire/signal-record.ts";
import { makeIdentity } from "../signal/signaling-nodes.ts";

const owner = makeIdentity();
const key = createPrivateKey(owner.credentials.privateKeyPem);
const nonce = new Uint8Array(12).fill(9);
const record = { line: "p2pd1~here", signedMs: 1_700_000_000_000, lifetimeSeconds: 3600 };
const bytes = encodeRecord(record, owner.publicKey, key, nonce);

describe("an address record", () => {
  test("comes out as it went in, for whoever knows the id", () => {
    expect(decodeRecord(bytes, owner.publicKey)).toEqual(record);
    const longest = { ...record, line: "x".repeat(4096) };
    const sealed = encodeRecord(longest, owner.publicKey, key, nonce);
    expect(sealed.length).toBe(RECORD_MAX_LENGTH);
    expect(decodeRecord(sealed, owner.publicKey)).toEqual(longest);
  });

  test("shows nothing to whoever does not know the id", () => {
    expect(Buffer.from(bytes).includes("p2pd1~here")).toBe(false);
    expect(decodeRecord(bytes, makeIdentity().publicKey)).toBe("forged");
  });

  test("that somebody else signed is forged, though it is encrypted rightly", () => {
    const other = createPrivateKey(makeIdentity().credentials.privateKeyPem);
    expect(decodeRecord(encodeRecord(record, owner.publicKey, other, nonce), owner.publicKey)).toBe("forged");
  });

  test("for an id that is no point of the curve is forged", () => {
    const noPoint = new Uint8Array(33).fill(255).with(0, 2);
    expect(decodeRecord(encodeRecord(record, noPoint, key, nonce), noPoint)).toBe("forged");
  });

  test("that is cut anywhere, has a bit turned, is too long or of another version is refused", () => {
    for (let length = 0; length < bytes.length; length++) {
      expect(decodeRecord(bytes.subarray(0, length), owner.publicKey)).toBeString();
    }
    fc.assert(
      fc.property(fc.nat(bytes.length * 8 - 1), (bit) => {
        const turned = bytes.slice();
        turned[bit >> 3] = (turned[bit >> 3] as number) ^ (1 << (bit & 7));
        expect(decodeRecord(turned, owner.publicKey)).toBeString();
      }),
    );
    expect(decodeRecord(new Uint8Array(RECORD_MAX_LENGTH + 1), owner.publicKey)).toBe("oversized");
    expect(decodeRecord(bytes.with(0, 2), owner.publicKey)).toBe("unknown-version");
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (random) => {
        expect(decodeRecord(random, owner.publicKey)).toBeString();
      }),
    );
  });

  test("of a line that no address can be is refused by either side", () => {
    expect(() => encodeRecord({ ...record, line: "x".repeat(4097) }, owner.publicKey, key, nonce)).toThrow(
      "4096",
    );
    const strange = encodeRecord({ ...record, line: "two lines\n" }, owner.publicKey, key, nonce);
    expect(decodeRecord(strange, owner.publicKey)).toBe("malformed");
  });
});
