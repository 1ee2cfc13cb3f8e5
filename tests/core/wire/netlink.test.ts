import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  decodeNetlink,
  encodeDump,
  encodeRouteQuery,
  type NetlinkMessage,
} from "../../../core/wire/netlink.ts";
import { attribute, message, rtnetlink } from "./netlink-bytes.ts";

describe("rtnetlink requests", () => {
  test("a dump asks for everything of one sort, links without their counters", () => {
    expect(Buffer.from(encodeDump("addresses", 7)).toString("hex")).toBe(
      "180000001600010307000000000000000000000000000000",
    );
    expect(Buffer.from(encodeDump("links", 1)).toString("hex")).toBe(
      `28000000120001030100000000000000${"00".repeat(16)}08001d0008000000`,
    );
  });

  test("a route query names one whole address", () => {
    expect(Buffer.from(encodeRouteQuery(Uint8Array.of(198, 41, 0, 4), 2)).toString("hex")).toBe(
      "240000001a000100020000000000000002200000000000000000000008000100c6290004",
    );
    expect(encodeRouteQuery(new Uint8Array(16), 2).subarray(16, 18)).toEqual(Uint8Array.of(10, 128));
  });
});

describe("rtnetlink answers", () => {
  test("a link tells name, kind, address, MTU, flags and master", () => {
    const info = attribute(18 | 0x8000, attribute(1, text("veth")));
    const body = [
      0,
      0,
      1,
      0,
      5,
      0,
      0,
      0,
      0x43,
      0x10,
      1,
      0,
      0,
      0,
      0,
      0,
      ...attribute(3, text("v0")),
      ...attribute(1, [2, 0, 0, 0, 0, 0xff]),
      ...attribute(4, [0xdc, 5, 0, 0]),
      ...attribute(10, [9, 0, 0, 0]),
      ...info,
    ];
    expect(only(message(16, body))).toEqual({
      message: "link",
      index: 5,
      name: "v0",
      hardware: 1,
      flags: 0x11043,
      mac: "02:00:00:00:00:ff",
      mtu: 1500,
      kind: "veth",
      master: 9,
    });
  });

  test("the address of a point-to-point link is the local one, not the peer's", () => {
    const body = [2, 32, 0x80, 0, 3, 0, 0, 0, ...attribute(1, [10, 0, 0, 9]), ...attribute(2, [10, 0, 0, 1])];
    expect(only(message(20, body))).toMatchObject({
      ip: "10.0.0.1",
      prefixLength: 32,
      flags: 0x80,
      index: 3,
    });
  });

  test("address flags beyond eight bits replace the short ones", () => {
    const octets = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const body = [10, 64, 1, 0, 3, 0, 0, 0, ...attribute(1, octets), ...attribute(8, [1, 3, 0, 0])];
    expect(only(message(20, body))).toMatchObject({ ip: "2001:db8::1", family: 6, flags: 0x301 });
  });

  test("a route tells table, metric and next hop; the long table number wins", () => {
    const body = [
      2,
      0,
      0,
      0,
      254,
      3,
      0,
      1,
      0,
      0,
      0,
      0,
      ...attribute(15, [0x6c, 0xca, 0, 0]),
      ...attribute(5, [192, 0, 2, 1]),
      ...attribute(4, [4, 0, 0, 0]),
      ...attribute(6, [100, 0, 0, 0]),
    ];
    expect(only(message(24, body))).toEqual({
      message: "route",
      family: 4,
      prefixLength: 0,
      table: 51820,
      type: 1,
      metric: 100,
      hops: [{ index: 4, gateway: "192.0.2.1" }],
    });
  });

  test("a multipath route has every next hop, also one of the other family", () => {
    const via = attribute(18, [10, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    const gateway = attribute(5, [192, 0, 2, 1]);
    const hops = [
      8 + gateway.length,
      0,
      0,
      0,
      4,
      0,
      0,
      0,
      ...gateway,
      8 + via.length,
      0,
      0,
      0,
      5,
      0,
      0,
      0,
      ...via,
    ];
    const body = [2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0, ...attribute(9, hops)];
    expect(only(message(24, body))).toMatchObject({
      hops: [
        { index: 4, gateway: "192.0.2.1" },
        { index: 5, gateway: "fe80::1" },
      ],
    });
  });

  test("a dump ends with DONE, an error ends it too, and a changed table is told", () => {
    expect(decodeNetlink(rtnetlink(message(3, [0, 0, 0, 0])))).toMatchObject({
      end: "done",
      interrupted: false,
    });
    expect(decodeNetlink(rtnetlink(message(2, [0xff, 0xff, 0xff, 0xff])))).toMatchObject({ end: "error" });
    expect(decodeNetlink(rtnetlink(message(20, [], 0x10)))).toMatchObject({ end: "more", interrupted: true });
  });

  test("other families, other messages and malformed ones are left out, the rest is kept", () => {
    const good = [2, 24, 0, 0, 1, 0, 0, 0, ...attribute(2, [192, 0, 2, 7])];
    const decoded = decodeNetlink(
      rtnetlink(
        message(99, [1, 2, 3, 4]),
        message(16, [1, 2, 3, 4]), // cut short
        message(
          16,
          Array.from({ length: 16 }, () => 0),
        ), // without a name
        message(20, [2]),
        message(20, [2, 33, 0, 0, 1, 0, 0, 0, ...attribute(2, [192, 0, 2, 7])]), // prefix too long
        message(20, [2, 24, 0, 0, 1, 0, 0, 0, ...attribute(2, [192, 0, 2])]),
        message(20, [7, 24, 0, 0, 1, 0, 0, 0]),
        message(24, [2, 0]),
        message(24, [128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        message(20, good),
      ),
    );
    expect(decoded.messages).toEqual([
      { message: "address", index: 1, family: 4, ip: "192.0.2.7", prefixLength: 24, flags: 0 },
    ]);
  });

  test("no octets, whole, cut or random, make it throw", () => {
    const octets = fc.uint8Array({ maxLength: 80 });
    const body = fc
      .tuple(fc.constantFrom(16, 20, 24, 2, 3), octets)
      .map(([type, bytes]) => message(type, [...bytes]));
    fc.assert(
      fc.property(fc.array(body, { maxLength: 4 }), octets, fc.nat(400), (bodies, tail, cut) => {
        const bytes = Uint8Array.from([...rtnetlink(...bodies), ...tail]);
        decodeNetlink(bytes.subarray(0, cut));
        decodeNetlink(tail);
      }),
      { numRuns: 2000 },
    );
  });

  test("random attributes behind a sound head make it throw nothing", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(16, 20, 24),
        fc.constantFrom(2, 10),
        fc.uint8Array({ maxLength: 120 }),
        (type, family, tail) => {
          decodeNetlink(
            rtnetlink(message(type, [family, 24, ...Array.from({ length: 14 }, () => 0), ...tail])),
          );
        },
      ),
      { numRuns: 2000 },
    );
  });
});

function only(bytes: readonly number[]): NetlinkMessage | undefined {
  return decodeNetlink(rtnetlink(bytes)).messages[0];
}

function text(value: string): number[] {
  return [...new TextEncoder().encode(value), 0];
}
