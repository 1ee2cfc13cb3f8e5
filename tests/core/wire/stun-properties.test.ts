/** STUN's decoder under whatever may arrive: round trips, truncation, mutation, and a million hostile datagrams. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { formatIp } from "../../../core/ip.ts";
import * as kinds from "../../../core/wire/stun-attributes.ts";
import * as stun from "../../../core/wire/stun.ts";
import * as vectors from "../../vectors/rfc5769.ts";

const ALL_KINDS = (Object.values(kinds) as readonly unknown[]).filter(isKind);
const VECTORS = [
  vectors.SAMPLE_REQUEST,
  vectors.IPV4_RESPONSE,
  vectors.IPV6_RESPONSE,
  vectors.LONG_TERM_REQUEST,
  vectors.USERHASH_REQUEST,
];

test("every attribute comes back as it was written, in any company and with any id", () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(anyAttribute(), { selector: ([kind]) => kind.type, maxLength: 12 }),
      anyId(),
      fc.boolean(),
      (list, id, fingerprint) => {
        const attributes = list.map(([kind, value]) => kinds.attribute(kind, value));
        const bytes = stun.encodeStun({
          class: "success",
          method: 1,
          transactionId: id,
          attributes,
          fingerprint,
        });
        const message = stun.decodeStun(bytes, { classic: true });
        if (typeof message === "string") throw new Error(message);
        expect(message.attributes.length).toBe(list.length + (fingerprint ? 1 : 0));
        for (const [kind, value] of list) expect(stun.readAttribute<unknown>(message, kind)).toEqual(value);
      },
    ),
    { numRuns: 500 },
  );
});

test("no truncation of a message is taken for one", () => {
  for (const bytes of VECTORS) {
    for (let length = 0; length < bytes.length; length++) {
      expect(typeof stun.decodeStun(bytes.subarray(0, length), { classic: true })).toBe("string");
    }
  }
});

test("a truncated value never reads beyond itself and never throws", () => {
  fc.assert(
    fc.property(anyAttribute(), fc.nat(70), ([kind, value], cut) => {
      const size = kind.size(value);
      const bytes = new Uint8Array(size);
      kind.write(value, bytes, vectors.IPV4_RESPONSE);
      kind.read(bytes.subarray(0, Math.min(cut, size)), vectors.IPV4_RESPONSE);
    }),
    { numRuns: 1000 },
  );
});

test("random values of every kind are read or refused without an exception", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 900 }), (bytes) => {
      for (const kind of ALL_KINDS) kind.read(bytes, vectors.IPV4_RESPONSE);
    }),
    { numRuns: 1000 },
  );
});

test("a million random and mutated datagrams: no exception out of the decoder, no growth", () => {
  const total = 1_000_000;
  const random = xorshift(0x5eed);
  const scratch = new Uint8Array(256);
  const outcomes = new Map<string, number>();
  let values = 0;
  const heap: number[] = [];
  const resident: number[] = [];
  let tookMs = performance.now();
  for (let i = 0; i < total; i++) {
    if (PARTS.includes(i / total)) {
      heap.push(settledHeap());
      resident.push(process.memoryUsage().rss);
    }
    const message = stun.decodeStun(hostile(i, random, scratch), { classic: (i & 4) === 0 });
    const outcome = typeof message === "string" ? message : "message";
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    if (typeof message === "string") continue;
    for (const { type } of message.attributes) {
      const kind = KIND_BY_TYPE.get(type);
      if (kind !== undefined && stun.readAttribute<unknown>(message, kind) !== undefined) values++;
    }
    if ((i & 63) === 0) stun.verifyIntegrity(message, scratch.subarray(0, 16), "sha1");
  }
  tookMs = performance.now() - tookMs;
  heap.push(settledHeap());
  resident.push(process.memoryUsage().rss);
  const [grownBytes, residentBytes] = [leastGrowth(heap), leastGrowth(resident)];
  const figures = [...outcomes].map(([name, count]) => `${name} ${count}`).join(", ");
  console.log(
    `STUN decoder: ${total} datagrams in ${tookMs.toFixed(0)} ms (${((tookMs * 1000) / total).toFixed(2)} us each, made and read), ` +
      `${values} values read, heap ${(grownBytes / 1024).toFixed(0)} KiB, resident ${(residentBytes / 1024).toFixed(0)} KiB; ${figures}`,
  );
  expect(grownBytes).toBeLessThan(1024 * 1024);
  expect(residentBytes).toBeLessThan(16 * 1024 * 1024);
  // The mill must reach every branch, or it proves nothing.
  for (const name of [
    "message",
    "too-short",
    "not-stun",
    "wrong-length",
    "broken-attribute",
    "no-cookie",
    "wrong-fingerprint",
  ]) {
    expect(outcomes.get(name) ?? 0).toBeGreaterThan(1000);
  }
}, 60_000);

const KIND_BY_TYPE = new Map(ALL_KINDS.map((kind) => [kind.type, kind]));

function isKind(value: unknown): value is kinds.AttributeKind<unknown> {
  return typeof value === "object" && value !== null && "type" in value;
}

/** Where growth is measured. The first part warms up: what the runtime compiles and allocates for itself is no leak of ours. */
const PARTS: readonly number[] = [0.1, 0.4, 0.7];

/** A leak grows in every part; what else the process has on its heap moves in one of them. */
function leastGrowth(sizes: readonly number[]): number {
  return Math.min(...sizes.slice(1).map((size, i) => size - (sizes[i] ?? 0)));
}

function settledHeap(): number {
  Bun.gc(true);
  Bun.gc(true);
  return process.memoryUsage().heapUsed;
}

/** Datagram number `i`: noise, noise with a sound header, or a vector with some octets changed. */
function hostile(i: number, random: () => number, scratch: Uint8Array): Uint8Array {
  const style = i % 4;
  if (style < 2) {
    const length = style === 0 ? random() % 120 : 20 + 4 * (random() % 40);
    for (let at = 0; at < length; at++) scratch[at] = random();
    if (style === 1) scratch.set([random() & 0x3f, random(), 0, length - 20, 0x21, 0x12, 0xa4, 0x42]);
    // Short lengths and known types, so that many attributes fit.
    const end = style === 1 ? length - 4 : 0;
    for (let at = 20; at <= end; at += 8) {
      scratch.set([(random() & 1) << 7, random() & 0x2f, 0, random() & 15], at);
    }
    return scratch.subarray(0, length);
  }
  const vector = VECTORS[random() % VECTORS.length] as Uint8Array;
  scratch.set(vector);
  const from = style === 2 ? 0 : 20;
  for (let n = random() % 4; n >= 0; n--) scratch[from + (random() % (vector.length - from))] = random();
  return scratch.subarray(0, vector.length - ((random() & 7) === 0 ? random() % vector.length : 0));
}

function xorshift(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) >>> 3;
  };
}

function anyId(): fc.Arbitrary<Uint8Array> {
  return fc.oneof(
    fc.uint8Array({ minLength: 12, maxLength: 12 }),
    fc.uint8Array({ minLength: 16, maxLength: 16 }),
  );
}

type Pair = readonly [kind: kinds.AttributeKind<unknown>, value: unknown];

function anyAttribute(): fc.Arbitrary<Pair> {
  const octets = fc.oneof(
    fc.uint8Array({ minLength: 4, maxLength: 4 }),
    fc.uint8Array({ minLength: 16, maxLength: 16 }),
  );
  const endpoint = fc.record({ ip: octets.map(formatIp), port: fc.nat(65_535) });
  const text = fc.string({ unit: "grapheme", maxLength: 40 }).filter((value) => value.isWellFormed());
  const latin1 = fc.uint8Array({ maxLength: 90 }).map((bytes) => Buffer.from(bytes).toString("latin1"));
  const algorithm = fc.record({ algorithm: fc.nat(65_535), parameters: fc.uint8Array({ maxLength: 9 }) });
  const error = fc.record({ code: fc.integer({ min: 300, max: 699 }), reason: text });
  const sets: [readonly kinds.AttributeKind<unknown>[], fc.Arbitrary<unknown>][] = [
    [
      [kinds.MAPPED_ADDRESS, kinds.XOR_MAPPED_ADDRESS, kinds.OLD_XOR_MAPPED_ADDRESS, kinds.ALTERNATE_SERVER],
      endpoint,
    ],
    [
      [
        kinds.RESPONSE_ORIGIN,
        kinds.OTHER_ADDRESS,
        kinds.SOURCE_ADDRESS,
        kinds.CHANGED_ADDRESS,
        kinds.REFLECTED_FROM,
      ],
      endpoint,
    ],
    [[kinds.USERNAME, kinds.REALM, kinds.SOFTWARE, kinds.ALTERNATE_DOMAIN], fc.string({ maxLength: 80 })],
    [[kinds.REALM, kinds.SOFTWARE], text],
    [[kinds.NONCE], latin1],
    [[kinds.USERHASH], fc.uint8Array({ minLength: 32, maxLength: 32 })],
    [[kinds.PADDING], fc.uint8Array({ maxLength: 600 })],
    [[kinds.RESPONSE_PORT], fc.nat(65_535)],
    [[kinds.ERROR_CODE], error],
    [[kinds.UNKNOWN_ATTRIBUTES], fc.array(fc.nat(65_535), { maxLength: 20 })],
    [[kinds.CHANGE_REQUEST], fc.record({ changeIp: fc.boolean(), changePort: fc.boolean() })],
    [[kinds.PASSWORD_ALGORITHM], algorithm],
    [[kinds.PASSWORD_ALGORITHMS], fc.array(algorithm, { maxLength: 5 })],
  ];
  return fc.oneof(
    ...sets.flatMap(([list, value]) => list.map((kind) => value.map((one): Pair => [kind, one]))),
  );
}
