/** PCP against what miniupnpd answered, and against what no router should. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { decodePcpAnswer, encodePcpAnnounce, encodePcpMap, pcpResult } from "../../../core/wire/pcp.ts";
import recorded from "../../vectors/miniupnpd.json" with { type: "json" };

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const octets = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "hex"));
const nonce = Uint8Array.from({ length: 12 }, (_, i) => i + 1);
const clientIp = "192.168.10.100";
const map = {
  clientIp,
  nonce,
  transport: "tcp",
  internalPort: 20_000,
  externalPort: 20_000,
  lifetimeSeconds: 7200,
} as const;
const head = { result: 0, lifetimeSeconds: 7200, epochSeconds: 0 };
const answer = {
  ...head,
  kind: "map",
  nonce,
  transport: "tcp",
  internalPort: 20_000,
  externalPort: 20_000,
  externalIp: "5.44.10.10",
};
const other = { internalPort: 20_001, externalPort: 20_001 };

const MEANINGS: Readonly<Record<string, readonly [request: Uint8Array, answer: object]>> = {
  announce: [encodePcpAnnounce(clientIp), { ...head, lifetimeSeconds: 0, kind: "announce" }],
  "map TCP": [encodePcpMap({ ...map, ...other }), { ...answer, ...other }],
  "delete TCP": [
    encodePcpMap({ ...map, ...other, externalPort: 0, lifetimeSeconds: 0 }),
    { ...answer, ...other, externalPort: 0, lifetimeSeconds: 0 },
  ],
  "map for another address": [
    encodePcpMap({ ...map, clientIp: "192.168.10.77" }),
    { ...answer, result: 12, lifetimeSeconds: 0, externalIp: "0.0.0.0" },
  ],
  "pin hole": [
    encodePcpMap({ ...map, clientIp: "2a01:5a40:100:1::100" }),
    { ...answer, externalIp: "2a01:5a40:100:1::100" },
  ],
  "map behind a carrier's NAT": [
    encodePcpMap({ ...map, clientIp: "192.168.11.100" }),
    { ...answer, result: 8, lifetimeSeconds: 30, epochSeconds: 1, externalIp: "100.64.10.11" },
  ],
};

test.each(recorded.pcp.map((vector) => [vector.name, vector] as const))(
  "%s, as miniupnpd was asked and answered",
  (name, vector) => {
    const [request, meaning] = MEANINGS[name] as (typeof MEANINGS)[string];
    expect(hex(request)).toBe(vector.request);
    expect(decodePcpAnswer(octets(vector.answer))).toEqual(meaning as never);
  },
);

test("an answer that is cut short, too long, of another version or a request is none", () => {
  for (const vector of recorded.pcp) {
    const whole = octets(vector.answer);
    for (let length = 0; length < whole.length; length++)
      expect(decodePcpAnswer(whole.subarray(0, length))).toBeUndefined();
    expect(decodePcpAnswer(Uint8Array.of(...whole, ...new Uint8Array(1100)))).toBeUndefined();
    expect(decodePcpAnswer(Uint8Array.of(1, ...whole.subarray(1)))).toBeUndefined();
    expect(decodePcpAnswer(octets(vector.request))).toBeUndefined();
    // Options, which have whole words, are passed over.
    expect(decodePcpAnswer(Uint8Array.of(...whole, 1, 0, 0, 0))).toEqual(decodePcpAnswer(whole));
  }
});

test("random octets never throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.constantFrom(0x80, 0x81, 0x01), (bytes, opcode) => {
      if (bytes.length > 1) bytes.set([2, opcode]);
      decodePcpAnswer(bytes);
    }),
  );
});

test("what a request cannot carry is refused, and each result is told in words", () => {
  expect(() => encodePcpMap({ ...map, nonce: new Uint8Array(8) })).toThrow("12 octets, not 8");
  expect(() => encodePcpAnnounce("home")).toThrow('"home"');
  expect(pcpResult(12)).toContain("another NAT");
  expect(pcpResult(99)).toContain("99");
});
