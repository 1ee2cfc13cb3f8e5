/** Which addresses are punched between, and which a peer may not have us send to. */
import { expect, test } from "bun:test";
import {
  choosePairs,
  placeFor,
  type PunchPlace,
  refuseTarget,
  withinSockets,
} from "../../../core/connect/punch-pairs.ts";
import { UNTRANSLATED } from "../../../core/nat/nat-kind.ts";
import type { Address, AddressNic } from "../../../core/wire/address.ts";

const profile = (external: string) => ({ external, udp: UNTRANSLATED, tcp: UNTRANSLATED });
const HOME: PunchPlace = { ip: "192.168.1.5", prefixLength: 24, profile: profile("5.44.0.1") };
const SIX: PunchPlace = { ip: "2a01:5a40::5", prefixLength: 64, profile: profile("2a01:5a40::5") };
const DARK: PunchPlace = { ip: "10.0.0.5", prefixLength: 8 };

const nic = (address: string, external?: string): AddressNic => ({
  index: 0,
  family: address.includes(":") ? 6 : 4,
  address,
  port: 10_001,
  nat: "unknown",
  delta: "unknown",
  deltaValue: 0,
  ...(external === undefined ? {} : { external }),
});
const peer = (...nics: readonly AddressNic[]): Address => ({ id: "A", machine: "B", brokers: [], nics });

test("families take turns, and there are at most four pairs", () => {
  const many = peer(
    ...Array.from({ length: 6 }, (_, i) => nic(`10.9.0.${i + 1}`, "5.44.0.9")),
    nic("2a01:5a40:9::1"),
  );
  const pairs = choosePairs([HOME, SIX], many);
  expect(pairs.map(({ to }) => to)).toEqual(["10.9.0.1", "2a01:5a40:9::1", "10.9.0.2", "10.9.0.3"]);
  expect(pairs.every(({ near }) => !near)).toBe(true);
});

test.each([
  ["in our subnet, behind our router", nic("192.168.1.7", "5.44.0.1"), true],
  ["in a subnet of the same number, behind another router", nic("192.168.1.7", "5.44.0.2"), false],
  ["in our subnet, seen from nowhere", nic("192.168.1.7"), true],
  ["in another subnet behind our router", nic("192.168.2.7", "5.44.0.1"), false],
] as const)("a peer %s is near: %p", (_, at, near) => {
  expect(choosePairs([HOME], peer(at))[0]?.near).toBe(near);
});

test("a place of which nothing is known serves for its own network only", () => {
  expect(choosePairs([DARK], peer(nic("192.168.1.7", "5.44.0.2")))).toEqual([]);
  expect(choosePairs([DARK], peer(nic("10.0.0.6")))).toHaveLength(1);
});

test("the entry of a forwarded port is none to punch from; a host with a public address is one", () => {
  const forwarded = nic("5.44.0.9", "5.44.0.9");
  const behind = peer(forwarded, nic("10.9.0.1", "5.44.0.9"));
  expect(choosePairs([HOME], behind).map(({ to }) => to)).toEqual(["10.9.0.1"]);
  expect(choosePairs([HOME], peer(forwarded)).map(({ to }) => to)).toEqual(["5.44.0.9"]);
});

test("an offer means the NIC it names, or one of its family", () => {
  const side = { kind: UNTRANSLATED, ip: "5.44.0.2", samples: [], spare: [] };
  expect(placeFor([SIX, HOME], { to: HOME.ip, udp: side })).toBe(HOME);
  expect(placeFor([SIX, HOME], { to: "192.168.9.9", udp: side })).toBe(HOME);
  expect(placeFor([SIX], { to: "192.168.9.9", udp: side })).toBeUndefined();
});

test.each([
  ["5.44.0.2", false, undefined],
  ["192.168.1.7", true, undefined],
  ["5.44.0.3", false, "not in the peer's address"],
  ["127.0.0.1", false, "nobody's address"],
  ["224.0.0.1", false, "nobody's address"],
  ["0.0.0.0", false, "nobody's address"],
  ["169.254.1.1", false, "nobody's address"],
  ["2a01:5a40::9", false, "another family"],
  ["5.44.0.2", true, "not in the network"],
] as const)("%s, near %p: %p", (ip, near, expected) => {
  const line = peer(nic("192.168.1.7", "5.44.0.2"), nic("127.0.0.1"), nic("224.0.0.1"));
  const refusal = refuseTarget(ip, near, HOME, line);
  if (expected === undefined) expect(refusal).toBeUndefined();
  else expect(refusal).toContain(expected);
});

test("pairs beyond the sockets that are allowed are left out, the first never, and the others keep their places", () => {
  const counting = { type: "independent", value: 1 } as const;
  const behaviour = "address-and-port-dependent" as const;
  const udp = { ...UNTRANSLATED, type: "symmetric", mapping: behaviour, delta: counting } as const;
  const pair = (near: boolean) => ({ place: { ...HOME, profile: { ...profile("5.44.0.1"), udp } }, near });
  const [far, close] = [pair(false), pair(true)];
  expect(withinSockets([far, far, close, far], 60)).toEqual([far, far, close, undefined]);
  expect(withinSockets([undefined, far, far, close], 27)).toEqual([undefined, far, undefined, close]);
  expect(withinSockets([far, close], 1)).toEqual([far, undefined]);
});
