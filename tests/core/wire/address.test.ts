import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { P2pdError } from "../../../core/errors.ts";
import { type Family, formatIp } from "../../../core/ip.ts";
import {
  ADDRESS_DELTA_TYPES,
  ADDRESS_MAX_LENGTH,
  ADDRESS_NAT_TYPES,
  type Address,
  addressFields,
  BROKER_SCHEMES,
  decodeAddress,
  encodeAddress,
  isNodeId,
} from "../../../core/wire/address.ts";
import vectors from "../../vectors/address.json" with { type: "json" };

const ID = "AgECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";
const EMPTY = `p2pd1~${ID}~AAECAwQFBgc~-~-`;
const NIC = "0_4_198.51.100.7_192.168.1.5_21862_port-restricted_independent_-1";

describe("the vectors of docs/address.md", () => {
  for (const { name, line, address } of vectors) {
    test(name, () => {
      expect(decodeAddress(line)).toEqual(address as Address);
      expect(encodeAddress(address as Address)).toBe(line);
    });
  }
});

test("what was encoded is decoded to the same, and the line is safe in a URL and a shell", () => {
  fc.assert(
    fc.property(addresses(), (address) => {
      const line = encodeAddress(address);
      expect(line).toMatch(/^[A-Za-z0-9.:,~_-]+$/);
      expect(line.length).toBeLessThanOrEqual(ADDRESS_MAX_LENGTH);
      expect(decodeAddress(line)).toEqual(address);
    }),
  );
});

test("no truncation of a line is taken for a whole one of the same node's NICs", () => {
  const line = `p2pd1~${ID}~AAECAwQFBgc~mqtt_broker.example.org_1883~${NIC},1_6_-_2001:db8::5_21862_unknown_unknown_-12`;
  const whole = decodeAddress(line);
  for (let length = 0; length < line.length; length++) {
    const decoded = attempt(line.slice(0, length));
    if (decoded instanceof P2pdError) expect(decoded.detail["position"]).toBeLessThanOrEqual(length + 1);
    else expect(decoded).not.toEqual(whole);
  }
});

test("random text, and lines with one character changed, end in an error that points into the line", () => {
  const line = `p2pd1~${ID}~AAECAwQFBgc~wss_b.example.org_443_mqtt~${NIC}`;
  const changed = fc.tuple(fc.nat(line.length - 1), fc.string({ minLength: 0, maxLength: 2 }));
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        changed.map(([at, by]) => line.slice(0, at) + by + line.slice(at + 1)),
      ),
      (text) => {
        const decoded = attempt(text);
        if (decoded instanceof P2pdError) {
          const { position, field, expected } = decoded.detail as {
            position: number;
            field: string;
            expected: string;
          };
          expect(position).toBeGreaterThanOrEqual(1);
          expect(position).toBeLessThanOrEqual(text.length + 1);
          expect(field).not.toBe("");
          expect(expected).not.toBe("");
        } else expect(encodeAddress(decoded)).toBe(text);
      },
    ),
  );
});

describe("what is wrong is named, with its place", () => {
  const cases: readonly (readonly [claim: string, line: string, field: string, position: number])[] = [
    ["nothing at all", "", "version", 1],
    ["a later version", EMPTY.replace("p2pd1", "p2pd2"), "version", 1],
    ["an address of something else", "192.0.2.1:80", "version", 1],
    ["a space", `${EMPTY} `, "line", EMPTY.length + 1],
    ["an id that is too short", EMPTY.replace(ID, "Agg"), "id", 7],
    ["a machine id of another length", EMPTY.replace("AAECAwQFBgc", "AAEC"), "machine", 52],
    ["a missing section", `p2pd1~${ID}~AAECAwQFBgc~-`, "nics", 65],
    ["an unknown section", `${EMPTY}~x`, "field 6", EMPTY.length + 2],
    ["an unknown scheme", EMPTY.replace("~-~", "~amqp_b.example_1~"), "broker 1 scheme", 64],
    ["a path after mqtt", EMPTY.replace("~-~", "~mqtt_b.example_1_x~"), "broker 1 path", 81],
    ["a broker's host that is none", EMPTY.replace("~-~", "~mqtt_a..b_1~"), "broker 1 host", 69],
    ["more after a broker's path", EMPTY.replace("~-~", "~ws_b.example_1_x_y~"), "broker 1 field 5", 81],
    ["a port above 65535", EMPTY.replace(/-$/, NIC.replace("21862", "70000")), "nic 1 port", 95],
    ["a family that is none", EMPTY.replace(/-$/, NIC.replace("_4_", "_5_")), "nic 1 family", 68],
    [
      "an IPv6 address as IPv4",
      EMPTY.replace(/-$/, NIC.replace("192.168.1.5", "2001:db8::1")),
      "nic 1 address",
      83,
    ],
    ["an unknown NAT type", EMPTY.replace(/-$/, NIC.replace("port-restricted", "conical")), "nic 1 nat", 101],
    ["an unknown delta", EMPTY.replace(/-$/, NIC.replace("independent", "lunar")), "nic 1 delta", 117],
    ["an unknown field of a NIC", EMPTY.replace(/-$/, `${NIC}_9`), "nic 1 field 9", 132],
    ["a NIC that ends early", EMPTY.replace(/-$/, "0_4_-"), "nic 1 address", 71],
    ["an empty item", EMPTY.replace(/-$/, `${NIC},`), "nic 2", 132],
  ];
  for (const [claim, line, field, position] of cases) {
    test(claim, () => {
      const error = attempt(line) as P2pdError;
      expect(error).toBeInstanceOf(P2pdError);
      expect(error.code).toBe("bad-argument");
      expect([error.detail["field"], error.detail["position"]]).toEqual([field, position]);
      expect(error.message).toContain(`${field} at character ${position}`);
    });
  }
});

test("addresses are taken in their canonical spelling only, and the error offers it", () => {
  const error = attempt(EMPTY.replace(/-$/, "0_6_-_2001:DB8:0::1_1_unknown_unknown_0")) as P2pdError;
  expect(error.message).toContain("perhaps 2001:db8::1");
});

test("length and lists have bounds", () => {
  expect((attempt(`${EMPTY}${"x".repeat(ADDRESS_MAX_LENGTH)}`) as P2pdError).message).toContain(
    "at most 4096",
  );
  const many = Array.from({ length: 33 }, () => "0_4_-_192.0.2.1_1_unknown_unknown_0").join(",");
  expect((attempt(EMPTY.replace(/-$/, many)) as P2pdError).detail["field"]).toBe("nic 33");
  const brokers = Array.from({ length: 9 }, () => "ws_b.example_1").join(",");
  expect((attempt(EMPTY.replace("~-~", `~${brokers}~`)) as P2pdError).detail["field"]).toBe("broker 9");
});

test("a value that the line cannot carry is refused by the encoder", () => {
  const address = decodeAddress(EMPTY);
  expect(() => encodeAddress({ ...address, id: "me" })).toThrow("a node id");
  const broker = { scheme: "ws", host: "b.example", port: 1, path: "a?b" } as const;
  expect(() => encodeAddress({ ...address, brokers: [broker] })).toThrow(P2pdError);
});

test("every field is listed with its name, its place and its text", () => {
  const line = `p2pd1~${ID}~AAECAwQFBgc~wss_b.example.org_443_mqtt~${NIC}`;
  const fields = addressFields(line);
  expect(fields.map(({ name }) => name)).toContain("broker 1 path");
  expect(fields.map(({ name }) => name)).toContain("nic 1 value");
  for (const { position, text } of fields) expect(line.slice(position - 1).startsWith(text)).toBe(true);
});

test("a node id is base64url of a compressed key, and nothing else", () => {
  expect(isNodeId(ID)).toBe(true);
  for (const other of [
    "",
    "self",
    `${ID}A`,
    ID.slice(1),
    `B${ID.slice(1)}`,
    `AA${ID.slice(2)}`,
    `Ag+${ID.slice(3)}`,
  ]) {
    expect(isNodeId(other)).toBe(false);
  }
});

function attempt(line: string): Address | P2pdError {
  try {
    return decodeAddress(line);
  } catch (error) {
    expect(error).toBeInstanceOf(P2pdError);
    return error as P2pdError;
  }
}

function addresses(): fc.Arbitrary<Address> {
  const base64url = (octets: fc.Arbitrary<Uint8Array>) =>
    octets.map((bytes) => Buffer.from(bytes).toString("base64url"));
  const id = base64url(
    fc
      .tuple(fc.constantFrom(2, 3), fc.uint8Array({ minLength: 32, maxLength: 32 }))
      .map(([sign, x]) => Uint8Array.of(sign, ...x)),
  );
  const port = fc.integer({ min: 1, max: 65535 });
  const host = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z0-9]{1,5}){0,3}$/);
  const broker = fc
    .record({
      scheme: fc.constantFrom(...BROKER_SCHEMES),
      host,
      port,
      path: fc.stringMatching(/^([a-z0-9.-]{1,5}(\/[a-z]{1,3}){0,2})?$/),
    })
    .map((value) => (value.scheme.startsWith("ws") ? value : { ...value, path: "" }));
  const nic = fc.constantFrom<Family>(4, 6).chain((family) => {
    const length = family === 4 ? 4 : 16;
    const ip = fc
      .uint8Array({ minLength: length, maxLength: length })
      .map((octets) =>
        family === 6 && octets.every((octet, i) => i > 9 || octet === 0)
          ? Uint8Array.of(32, ...octets.subarray(1))
          : octets,
      )
      .map(formatIp);
    return fc.record(
      {
        index: fc.integer({ min: 0, max: 65535 }),
        family: fc.constant(family),
        external: ip,
        address: ip,
        port,
        nat: fc.constantFrom(...ADDRESS_NAT_TYPES),
        delta: fc.constantFrom(...ADDRESS_DELTA_TYPES),
        deltaValue: fc.integer({ min: -65535, max: 65535 }),
      },
      { requiredKeys: ["index", "family", "address", "port", "nat", "delta", "deltaValue"] },
    );
  });
  return fc.record({
    id,
    machine: base64url(fc.uint8Array({ minLength: 8, maxLength: 8 })),
    brokers: fc.array(broker, { maxLength: 8 }),
    nics: fc.array(nic, { maxLength: 16 }),
  });
}
