/** NAT-PMP against what miniupnpd answered, and against what no router should. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  decodeNatPmpAnswer,
  encodeNatPmpAddressRequest,
  encodeNatPmpMapRequest,
  natPmpResult,
} from "../../../core/wire/nat-pmp.ts";
import recorded from "../../vectors/miniupnpd.json" with { type: "json" };

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const octets = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "hex"));
const map = { transport: "tcp", internalPort: 20_000, externalPort: 20_000, lifetimeSeconds: 7200 } as const;

/** What is sent for each recorded request, and what its answer says. */
const MEANINGS: Readonly<Record<string, readonly [request: Uint8Array, answer: object]>> = {
  "external address": [
    encodeNatPmpAddressRequest(),
    { kind: "address", result: 0, epochSeconds: 0, externalIp: "5.44.10.10" },
  ],
  "map TCP": [encodeNatPmpMapRequest(map), { kind: "map", result: 0, epochSeconds: 0, ...map }],
  "map UDP": [
    encodeNatPmpMapRequest({ ...map, transport: "udp" }),
    { kind: "map", result: 0, epochSeconds: 0, ...map, transport: "udp" },
  ],
  "delete TCP": [
    encodeNatPmpMapRequest({ ...map, externalPort: 0, lifetimeSeconds: 0 }),
    { kind: "map", result: 0, epochSeconds: 0, ...map, externalPort: 0, lifetimeSeconds: 0 },
  ],
  "map behind a carrier's NAT": [
    encodeNatPmpMapRequest(map),
    { kind: "map", result: 3, epochSeconds: 1, ...map },
  ],
};

test.each(recorded.natPmp.map((vector) => [vector.name, vector] as const))(
  "%s, as miniupnpd was asked and answered",
  (name, vector) => {
    const [request, answer] = MEANINGS[name] as (typeof MEANINGS)[string];
    expect(hex(request)).toBe(vector.request);
    expect(decodeNatPmpAnswer(octets(vector.answer))).toEqual(answer as never);
  },
);

test("an answer that is cut short, too long, of another version or a request is none", () => {
  for (const { answer } of recorded.natPmp) {
    const whole = octets(answer);
    for (let length = 0; length < whole.length; length++) {
      const part = decodeNatPmpAnswer(whole.subarray(0, length));
      // A refusal is believed without its address.
      if (part !== undefined) expect([part.kind, part.result === 0]).toEqual(["address", false]);
    }
    expect(decodeNatPmpAnswer(Uint8Array.of(...whole, 0, 0, 0, 0, 0))).toBeUndefined();
    expect(decodeNatPmpAnswer(Uint8Array.of(2, ...whole.subarray(1)))).toBeUndefined();
  }
  for (const { request } of recorded.natPmp) expect(decodeNatPmpAnswer(octets(request))).toBeUndefined();
  expect(decodeNatPmpAnswer(octets("0080000200000009"))).toMatchObject({ kind: "address", result: 2 });
  expect(decodeNatPmpAnswer(octets("0080000000000009"))).toBeUndefined();
});

test("random octets never throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 24 }), (bytes) => {
      bytes[0] = (bytes[0] ?? 0) & 1;
      decodeNatPmpAnswer(bytes);
    }),
  );
});

test("each result is told in words, unknown ones with their number", () => {
  expect([1, 2, 3, 4, 5].map(natPmpResult).every((text) => text.startsWith("the router"))).toBe(true);
  expect(natPmpResult(77)).toContain("77");
});
