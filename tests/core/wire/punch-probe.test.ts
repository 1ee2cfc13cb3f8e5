/** Probes: what is made is read, and nothing else is taken for one. */
import { createHmac } from "node:crypto";
import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  decodeProbe,
  encodeProbe,
  PROBE_LENGTH,
  type PunchProbe,
  probeKey,
} from "../../../core/wire/punch-probe.ts";

const key = probeKey("AAAAAAAAAAAAAAAAAAAAAA", "caller-secret", "called-secret");
const probes = fc.record<PunchProbe>({
  from: fc.constantFrom("caller", "called"),
  kind: fc.constantFrom("probe", "echo"),
  number: fc.nat(0xffff_ffff),
});

test("a probe has the octets that are written down, and its tag is an HMAC over the first eight", () => {
  const bytes = encodeProbe({ from: "called", kind: "probe", number: 0x0102_0304 }, key);
  const head = Uint8Array.of(0x81, 3, 0, 0, 1, 2, 3, 4);
  expect(bytes.subarray(0, 8)).toEqual(head);
  const tag = createHmac("sha256", key).update(head).digest().subarray(0, 16);
  expect(Buffer.from(bytes.subarray(8))).toEqual(tag);
});

test("what was made with a key is read with it, and with no other", () => {
  fc.assert(
    fc.property(probes, (probe) => {
      const bytes = encodeProbe(probe, key);
      expect(bytes).toHaveLength(PROBE_LENGTH);
      expect(decodeProbe(bytes, key)).toEqual(probe);
      for (const other of [
        probeKey("AAAAAAAAAAAAAAAAAAAAAB", "caller-secret", "called-secret"),
        probeKey("AAAAAAAAAAAAAAAAAAAAAA", "called-secret", "caller-secret"),
      ])
        expect(decodeProbe(bytes, other)).toBeUndefined();
    }),
  );
});

test("every truncation, every changed octet and random bytes are no probe", () => {
  const bytes = encodeProbe({ from: "caller", kind: "echo", number: 7 }, key);
  for (let length = 0; length < PROBE_LENGTH; length++)
    expect(decodeProbe(bytes.subarray(0, length), key)).toBeUndefined();
  for (let at = 0; at < PROBE_LENGTH; at++) {
    const changed = bytes.slice();
    changed[at] = (changed[at] as number) ^ 1;
    expect(decodeProbe(changed, key)).toBeUndefined();
  }
  expect(decodeProbe(Uint8Array.of(...bytes, 0), key)).toBeUndefined();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (random) => {
      expect(decodeProbe(random, key)).toBeUndefined();
    }),
  );
});

test("no probe looks like a STUN message or a QUIC packet", () => {
  fc.assert(
    fc.property(probes, (probe) => {
      const [first = 0] = encodeProbe(probe, key);
      expect(first & 0xc0).toBe(0x80);
    }),
  );
});
