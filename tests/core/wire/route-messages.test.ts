import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  decodeDefaultRoutes,
  type RouteMessageLayout,
  ROUTE_MESSAGE_LAYOUTS,
} from "../../../core/wire/route-messages.ts";

const LAYOUTS = Object.entries<RouteMessageLayout>(ROUTE_MESSAGE_LAYOUTS);
const [UP, REJECT, IFSCOPE] = [1, 8, 0x1000000];
const ANY4 = [16, 2, 0, 0, ...zeros(12)];
const GATEWAY4 = [16, 2, 0, 0, 192, 0, 2, 1, ...zeros(8)];
const LINK = [20, 18, 4, 0, ...zeros(16)];

describe.each(LAYOUTS)("the routing table of %s", (_name, layout) => {
  const any6 = [28, layout.inet6, ...zeros(26)];
  const gateway6 = [28, layout.inet6, ...zeros(6), 0xfe, 0x80, 0, 4, ...zeros(11), 1, ...zeros(4)];

  test("a default route names NIC and next hop, in both families", () => {
    const table = [
      ...message(layout, { index: 4, flags: UP, addresses: [ANY4, GATEWAY4, []] }),
      ...message(layout, { index: 5, flags: UP | IFSCOPE, addresses: [any6, gateway6, []] }),
    ];
    expect(decode(table, layout)).toEqual([
      { family: 4, index: 4, gateway: "192.0.2.1", scoped: false },
      { family: 6, index: 5, gateway: "fe80::1", scoped: true },
    ]);
  });

  test("halves that a VPN sets count as default, with no next hop on a link", () => {
    const half = [5, 2, 0, 0, 0x80];
    expect(decode(message(layout, { index: 9, flags: UP, addresses: [ANY4, LINK, half] }), layout)).toEqual([
      { family: 4, index: 9, gateway: "", scoped: false },
    ]);
    const mask = [9, layout.inet6, ...zeros(6), 0xe0];
    expect(
      decode(message(layout, { index: 9, flags: UP, addresses: [any6, LINK, mask] }), layout),
    ).toHaveLength(1);
  });

  test("other routes are none: subnets, hosts, rejected ones, those of other families", () => {
    const table = [
      ...message(layout, { index: 1, flags: UP, addresses: [ANY4, GATEWAY4, [5, 2, 0, 0, 0xff]] }),
      ...message(layout, { index: 1, flags: UP, addresses: [ANY4, GATEWAY4, [6, 2, 0, 0, 0x80, 1]] }),
      ...message(layout, { index: 1, flags: UP, addresses: [ANY4, GATEWAY4] }),
      ...message(layout, { index: 1, flags: UP | REJECT, addresses: [ANY4, GATEWAY4, []] }),
      ...message(layout, { index: 1, flags: 0, addresses: [ANY4, GATEWAY4, []] }),
      ...message(layout, { index: 1, flags: UP, addresses: [[16, 99, ...zeros(14)], GATEWAY4, []] }),
      ...message(layout, { index: 1, flags: UP, version: 4, addresses: [ANY4, GATEWAY4, []] }),
    ];
    expect(decode(table, layout)).toEqual([]);
  });

  test("a next hop that is cut short is none", () => {
    const addresses = [ANY4, [6, 2, 0, 0, 192, 0], []];
    expect(decode(message(layout, { index: 1, flags: UP, addresses }), layout)[0]?.gateway).toBe("");
  });

  test("no octets, whole, cut or random, make it throw", () => {
    const sound = message(layout, { index: 4, flags: UP, addresses: [any6, gateway6, []] });
    for (let cut = 0; cut <= sound.length; cut++) decode(sound.slice(0, cut), layout);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), fc.nat(255), (octets, present) => {
        decode([...octets], layout);
        const addresses = [[...octets]];
        decode(message(layout, { index: 1, flags: UP, addresses, present }), layout);
      }),
      { numRuns: 2000 },
    );
  });
});

interface Fields {
  index: number;
  flags: number;
  addresses: readonly (readonly number[])[];
  version?: number;
  present?: number;
}

function message({ headerBytes, alignment }: RouteMessageLayout, fields: Fields): number[] {
  const { index, flags, addresses, version = 5, present = (1 << addresses.length) - 1 } = fields;
  const padded = addresses.flatMap((address) => {
    const size = Math.max(alignment, Math.ceil(address.length / alignment) * alignment);
    return [...address, ...zeros(size - address.length)];
  });
  const bytes = new Uint8Array(headerBytes + padded.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, bytes.length, true);
  view.setUint8(2, version);
  view.setUint16(4, index, true);
  view.setUint32(8, flags, true);
  view.setUint32(12, present, true);
  bytes.set(padded, headerBytes);
  return [...bytes];
}

function decode(
  table: readonly number[],
  layout: RouteMessageLayout,
): ReturnType<typeof decodeDefaultRoutes> {
  return decodeDefaultRoutes(Uint8Array.from(table), layout);
}

function zeros(count: number): number[] {
  return Array.from({ length: count }, () => 0);
}
