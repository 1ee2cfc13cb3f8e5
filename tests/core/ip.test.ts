import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  canonicalIp,
  familyOf,
  formatEndpoint,
  formatIp,
  inPrefix,
  parseEndpoint,
  parseIp,
  sameEndpoint,
  scopeOf,
} from "../../core/ip.ts";

const octets4 = fc.uint8Array({ minLength: 4, maxLength: 4 });
const octets16 = fc.uint8Array({ minLength: 16, maxLength: 16 });

describe("addresses as text", () => {
  test("IPv6 is written as RFC 5952 asks", () => {
    const cases: readonly (readonly [given: string, canonical: string])[] = [
      ["2001:0DB8:0:0:0:0:0:1", "2001:db8::1"],
      ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
      ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
      ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
      ["::", "::"],
      ["::1", "::1"],
      ["1::", "1::"],
      ["::ffff:192.0.2.1", "192.0.2.1"],
      ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
    ];
    for (const [given, canonical] of cases) expect(canonicalIp(given)).toBe(canonical);
  });

  test("what is no address is refused", () => {
    const wrong = [
      "",
      "1",
      "1.2.3",
      "1.2.3.4.5",
      "256.1.1.1",
      "01.2.3.4",
      "1.2.3.4 ",
      " 1.2.3.4",
      "a.b.c.d",
      "1.2.3.-4",
      ":",
      ":::",
      "1::2::3",
      "1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:8:9",
      "1:2:3:4:5:6:7::8:9",
      "12345::",
      "g::",
      "fe80::1%eth0",
      "1.2.3.4::",
      "::1.2.3",
      "::1.2.3.4:5",
      "1:2:3:4:5:6:7:8::",
      `${"0".repeat(60)}::`,
    ];
    for (const text of wrong) expect(parseIp(text)).toBeUndefined();
  });

  test("formatting and parsing are inverse", () => {
    fc.assert(
      fc.property(fc.oneof(octets4, octets16), (octets) => {
        const text = formatIp(octets);
        const back = parseIp(text) as Uint8Array;
        expect(formatIp(back)).toBe(text);
        if (familyOf(text) === (octets.length === 4 ? 4 : 6)) expect(back).toEqual(octets);
      }),
    );
  });

  test("no text makes the parser throw, and what it takes has a canonical form", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(..."0123456789abcf:.%/ ") }), (text) => {
        const octets = parseIp(text);
        if (octets !== undefined) expect(canonicalIp(formatIp(octets))).toBe(formatIp(octets));
      }),
    );
  });

  test("only 4 or 16 octets are an address", () => {
    expect(() => formatIp(new Uint8Array(5))).toThrow("not 5");
  });
});

describe("endpoints", () => {
  test("are read back as written", () => {
    fc.assert(
      fc.property(fc.oneof(octets4, octets16), fc.integer({ min: 0, max: 65535 }), (octets, port) => {
        const endpoint = { ip: formatIp(octets), port };
        expect(parseEndpoint(formatEndpoint(endpoint))).toEqual(endpoint);
        expect(sameEndpoint(endpoint, { ...endpoint })).toBe(true);
      }),
    );
  });

  test("malformed ones are refused", () => {
    for (const text of [
      "",
      "1.2.3.4",
      "1.2.3.4:",
      "1.2.3.4:65536",
      "::1:80",
      "[::1]",
      "[1.2.3:80",
      "[::1]:x",
      "host:80",
    ]) {
      expect(parseEndpoint(text)).toBeUndefined();
    }
  });
});

describe("ranges", () => {
  test("prefixes end at any bit", () => {
    expect(inPrefix("10.1.2.3", "10.0.0.0", 8)).toBe(true);
    expect(inPrefix("100.127.255.255", "100.64.0.0", 10)).toBe(true);
    expect(inPrefix("100.128.0.0", "100.64.0.0", 10)).toBe(false);
    expect(inPrefix("10.0.0.1", "::", 0)).toBe(false);
    expect(inPrefix("nonsense", "::", 0)).toBe(false);
  });

  test("each address has the scope of its range", () => {
    const cases = {
      "0.0.0.0": "unspecified",
      "127.0.0.53": "loopback",
      "169.254.1.1": "link-local",
      "10.0.0.1": "private",
      "172.31.255.255": "private",
      "172.32.0.0": "public",
      "192.168.1.1": "private",
      "100.100.1.1": "shared",
      "224.0.0.1": "multicast",
      "255.255.255.255": "multicast",
      "::": "unspecified",
      "::1": "loopback",
      "fe80::1": "link-local",
      "fd00::1": "private",
      "ff02::1": "multicast",
      "2606:4700::1": "public",
      "8.8.8.8": "public",
    } as const;
    for (const [ip, scope] of Object.entries(cases)) expect(scopeOf(ip)).toBe(scope);
  });
});
