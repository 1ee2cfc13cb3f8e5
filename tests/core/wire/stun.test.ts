/** STUN messages against published vectors and the rules of RFC 8489 on what to ignore and what to refuse. */
import { describe, expect, test } from "bun:test";
import { P2pdError } from "../../../core/errors.ts";
import { opaqueString } from "../../../core/wire/opaque-string.ts";
import * as kinds from "../../../core/wire/stun-attributes.ts";
import { longTermKey, nonceFeatures, shortTermKey, userHash } from "../../../core/wire/stun-integrity.ts";
import * as stun from "../../../core/wire/stun.ts";
import * as vectors from "../../vectors/rfc5769.ts";

const ID = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
const VECTOR_ID = vectors.SAMPLE_REQUEST.subarray(8, 20);

describe("published vectors", () => {
  test("RFC 5769 2.1: the request is read and its integrity verified", () => {
    const message = decoded(vectors.SAMPLE_REQUEST);
    expect([message.class, message.method, message.classic]).toEqual(["request", stun.BINDING, false]);
    expect(stun.readAttribute(message, kinds.SOFTWARE)).toBe("STUN test client");
    expect(stun.readAttribute(message, kinds.USERNAME)).toBe("evtj:h6vY");
    expect(stun.hasAttribute(message, kinds.FINGERPRINT)).toBe(true);
    expect(stun.unknownRequired(message, new Set([0x0006, 0x0008]))).toEqual([0x0024]);
    expect(stun.verifyIntegrity(message, shortTermKey(vectors.PASSWORD), "sha1")).toBe(true);
    expect(stun.verifyIntegrity(message, shortTermKey("wrong"), "sha1")).toBe(false);
    expect(stun.verifyIntegrity(message, shortTermKey(vectors.PASSWORD), "sha256")).toBe(false);
  });

  test.each([
    ["2.2", vectors.IPV4_RESPONSE, "192.0.2.1"],
    ["2.3", vectors.IPV6_RESPONSE, "2001:db8:1234:5678:11:2233:4455:6677"],
  ])("RFC 5769 %s: the response is read and its integrity verified", (_section, bytes, ip) => {
    const message = decoded(bytes);
    expect(message.class).toBe("success");
    expect(message.transactionId).toEqual(VECTOR_ID);
    expect(stun.readAttribute(message, kinds.XOR_MAPPED_ADDRESS)).toEqual({ ip, port: 32_853 });
    expect(stun.readAttribute(message, kinds.SOFTWARE)).toBe("test vector");
    expect(stun.verifyIntegrity(message, shortTermKey(vectors.PASSWORD), "sha1")).toBe(true);
  });

  test("RFC 5769 2.4: the long-term request is read, verified, and written alike octet by octet", () => {
    const message = decoded(vectors.LONG_TERM_REQUEST);
    const key = longTermKey(vectors.MATRIX_USER, "example.org", "TheMatrIX");
    expect(stun.verifyIntegrity(message, key, "sha1")).toBe(true);
    const written = stun.encodeStun({
      class: "request",
      method: stun.BINDING,
      transactionId: message.transactionId,
      attributes: [
        kinds.attribute(kinds.USERNAME, vectors.MATRIX_USER),
        kinds.attribute(kinds.NONCE, "f//499k954d6OL34oL9FSTvy64sA"),
        kinds.attribute(kinds.REALM, "example.org"),
      ],
      integrity: { key, hashes: ["sha1"] },
    });
    expect(written).toEqual(vectors.LONG_TERM_REQUEST);
  });

  test("RFC 8489 B.1 with erratum 6268: USERHASH and SHA-256, written alike octet by octet", () => {
    const message = decoded(vectors.USERHASH_REQUEST);
    const key = longTermKey(vectors.MATRIX_USER, "example.org", "TheMatrIX", kinds.PASSWORD_SHA256);
    expect(stun.verifyIntegrity(message, key, "sha256")).toBe(true);
    const nonce = stun.readAttribute(message, kinds.NONCE) ?? "";
    expect(nonceFeatures(nonce)).toEqual({ passwordAlgorithms: false, usernameAnonymity: false });
    const written = stun.encodeStun({
      class: "request",
      method: stun.BINDING,
      transactionId: message.transactionId,
      attributes: [
        kinds.attribute(kinds.USERHASH, userHash(vectors.MATRIX_USER, "example.org")),
        kinds.attribute(kinds.NONCE, nonce),
        kinds.attribute(kinds.REALM, "example.org"),
        kinds.attribute(kinds.PASSWORD_ALGORITHM, { algorithm: 2, parameters: new Uint8Array() }),
      ],
      integrity: { key, hashes: ["sha256"] },
    });
    expect(written).toEqual(vectors.USERHASH_REQUEST);
  });
});

describe("messages", () => {
  test("every class and method survives the shuffled type bits", () => {
    for (const kind of ["request", "indication", "success", "error"] as const) {
      for (const method of [0, 1, 3, 0x0f, 0x10, 0x7f, 0x80, 0x555, 0xfff]) {
        const message = decoded(stun.encodeStun({ class: kind, method, transactionId: ID }));
        expect([message.class, message.method]).toEqual([kind, method]);
      }
    }
    expect(stun.encodeStun({ class: "success", method: 1, transactionId: ID }).subarray(0, 2)).toEqual(
      new Uint8Array([1, 1]),
    );
  });

  test("attributes behind an integrity attribute are ignored, but for SHA-256 and FINGERPRINT", () => {
    const key = shortTermKey("secret");
    const signed = stun.encodeStun({
      class: "request",
      method: 1,
      transactionId: ID,
      integrity: { key, hashes: ["sha256", "sha1"] },
    });
    const trailing = withAttribute(signed, kinds.attribute(kinds.SOFTWARE, "smuggled"));
    const message = decoded(trailing);
    expect(message.attributes.map(({ type }) => type)).toEqual([0x0008, 0x001c]);
    expect(stun.readAttribute(message, kinds.SOFTWARE)).toBeUndefined();
    // The sums cover what stands before them, so that both still hold.
    expect(stun.verifyIntegrity(message, key, "sha1")).toBe(true);
    expect(stun.verifyIntegrity(message, key, "sha256")).toBe(true);
  });

  test("one flipped bit before it breaks an integrity, and before FINGERPRINT the message", () => {
    const key = shortTermKey("secret");
    const attributes = [kinds.attribute(kinds.USERNAME, "user")];
    const fields = { class: "request", method: 1, transactionId: ID, attributes } as const;
    const signed = stun.encodeStun({ ...fields, integrity: { key, hashes: ["sha256"] } });
    signed[25] = (signed[25] as number) ^ 1;
    expect(stun.verifyIntegrity(decoded(signed), key, "sha256")).toBe(false);
    const printed = stun.encodeStun({ ...fields, fingerprint: true });
    printed[25] = (printed[25] as number) ^ 1;
    expect(stun.decodeStun(printed)).toBe("wrong-fingerprint");
  });

  test("FINGERPRINT that is not last is refused", () => {
    const printed = stun.encodeStun({ class: "request", method: 1, transactionId: ID, fingerprint: true });
    expect(stun.decodeStun(withAttribute(printed, kinds.attribute(kinds.SOFTWARE, "x")))).toBe(
      "wrong-fingerprint",
    );
  });

  test("of two attributes of a type the first counts", () => {
    const attributes = [kinds.attribute(kinds.SOFTWARE, "first"), kinds.attribute(kinds.SOFTWARE, "second")];
    const message = decoded(stun.encodeStun({ class: "success", method: 1, transactionId: ID, attributes }));
    expect(stun.readAttribute(message, kinds.SOFTWARE)).toBe("first");
  });

  test("a message without cookie is taken only where RFC 3489 is allowed, with 16 octets of id", () => {
    const id = new Uint8Array(16).fill(7);
    const bytes = stun.encodeStun({ class: "request", method: 1, transactionId: id });
    expect(stun.decodeStun(bytes)).toBe("no-cookie");
    expect(stun.looksLikeStun(bytes)).toBe(false);
    const message = stun.decodeStun(bytes, { classic: true });
    expect(message).toMatchObject({ classic: true, transactionId: id });
  });

  test("what is no message is refused with its reason", () => {
    const fine = stun.encodeStun({ class: "request", method: 1, transactionId: ID });
    const attributes = Array.from({ length: 65 }, () => kinds.attribute(kinds.SOFTWARE, ""));
    const crowded = stun.encodeStun({ class: "request", method: 1, transactionId: ID, attributes });
    const overrun = withAttribute(fine, kinds.attribute(kinds.SOFTWARE, "abc"));
    overrun[23] = 9;
    expect(stun.decodeStun(new Uint8Array())).toBe("too-short");
    expect(stun.decodeStun(new Uint8Array(20).fill(0xff))).toBe("not-stun");
    expect(stun.decodeStun(new Uint8Array([...fine, 0]))).toBe("wrong-length");
    expect(stun.decodeStun(crowded)).toBe("too-many-attributes");
    expect(stun.decodeStun(overrun)).toBe("broken-attribute");
    expect(stun.looksLikeStun(fine)).toBe(true);
    expect(stun.looksLikeStun(new Uint8Array(8))).toBe(false);
  });

  test("values that a section forbids are not written, and the error says which", () => {
    expect(() => kinds.attribute(kinds.USERNAME, "x".repeat(509))).toThrow(
      "USERNAME has at most 508 octets, not 509",
    );
    expect(() => kinds.attribute(kinds.NONCE, "x".repeat(764))).toThrow("NONCE has at most 763 octets");
    expect(() => kinds.attribute(kinds.NONCE, "\u0100")).toThrow("above U+00FF");
    expect(() => kinds.attribute(kinds.ERROR_CODE, { code: 700, reason: "" })).toThrow("300 to 699, not 700");
    expect(() => kinds.attribute(kinds.ERROR_CODE, { code: 400, reason: "x".repeat(800) })).toThrow(
      "at most 763",
    );
    expect(() => kinds.attribute(kinds.MAPPED_ADDRESS, { ip: "nonsense", port: 1 })).toThrow(
      'not "nonsense"',
    );
    expect(() => kinds.attribute(kinds.MAPPED_ADDRESS, { ip: "192.0.2.1", port: 65_536 })).toThrow(
      "not 65536",
    );
    expect(() => kinds.attribute(kinds.USERHASH, new Uint8Array(3))).toThrow("32 to 32 octets, not 3");
    expect(() => kinds.attribute(kinds.RESPONSE_PORT, 65_536)).toThrow("whole number of 2 octets");
    const fields = { class: "request", method: 1, transactionId: ID } as const;
    expect(() => stun.encodeStun({ ...fields, transactionId: new Uint8Array(5) })).toThrow(
      "12 or 16 octets, not 5",
    );
    expect(() => stun.encodeStun({ ...fields, method: 4096 })).toThrow("0 to 4095, not 4096");
    const padding = [kinds.attribute(kinds.PADDING, new Uint8Array(65_532))];
    expect(() => stun.encodeStun({ ...fields, attributes: padding })).toThrow("at most 65552 octets");
  });

  test("a flag attribute is there or not", () => {
    const flag = kinds.flagKind(0x001a, "DONT-FRAGMENT");
    const attributes = [kinds.attribute(flag, true)];
    const message = decoded(stun.encodeStun({ class: "request", method: 3, transactionId: ID, attributes }));
    expect(stun.readAttribute(message, flag)).toBe(true);
  });
});

describe("credentials", () => {
  test("SHA-256 sums may be cut to 16 octets and no further", () => {
    const key = shortTermKey("secret");
    for (const [octets, holds] of [
      [16, true],
      [20, true],
      [12, false],
      [18, false],
      [36, false],
    ] as const) {
      const bytes = new Uint8Array(20 + 4 + octets);
      bytes.set(stun.encodeStun({ class: "request", method: 1, transactionId: ID }));
      const padded = (octets + 3) & ~3;
      const whole = new Uint8Array(24 + padded);
      whole.set(bytes);
      whole.set([0, 4 + padded], 2);
      whole.set([0, 0x1c, 0, octets], 20);
      const hmac = new Bun.CryptoHasher("sha256", key).update(whole.subarray(0, 20)).digest();
      whole.set(hmac.subarray(0, octets), 24);
      expect(stun.verifyIntegrity(decoded(whole), key, "sha256")).toBe(holds);
    }
  });

  test("a nonce tells what its server knows", () => {
    expect(nonceFeatures("obMatJos2gAAAxyz")).toEqual({ passwordAlgorithms: true, usernameAnonymity: false });
    expect(nonceFeatures("obMatJos2wAAAxyz")).toEqual({ passwordAlgorithms: true, usernameAnonymity: true });
    expect(nonceFeatures("f//499k954d6")).toBeUndefined();
    expect(nonceFeatures("obMatJos2w")).toBeUndefined();
  });

  test("names and passwords are brought to one form, and control characters refused", () => {
    expect(opaqueString("cafe\u0301\u00a0x", "the name")).toBe("caf\u00e9 x");
    expect(() => opaqueString("a\tb", "the name")).toThrow("the name has the character U+0009");
    expect(() => opaqueString("", "the password")).toThrow(P2pdError);
  });
});

function decoded(bytes: Uint8Array): stun.StunMessage {
  const message = stun.decodeStun(bytes);
  if (typeof message === "string") throw new Error(`refused: ${message}`);
  return message;
}

/** The message with one more attribute at its end, its sums left as they were. */
function withAttribute(bytes: Uint8Array, added: kinds.Attribute): Uint8Array {
  const carrier = stun.encodeStun({ class: "request", method: 1, transactionId: ID, attributes: [added] });
  const longer = new Uint8Array([...bytes, ...carrier.subarray(20)]);
  longer.set([(longer.length - 20) >> 8, (longer.length - 20) & 255], 2);
  return longer;
}
