import { expect, test } from "bun:test";
import { directCandidates, MAX_DIRECT_CANDIDATES } from "../../../core/connect/direct-candidates.ts";
import { formatEndpoint } from "../../../core/ip.ts";
import type { Nic } from "../../../core/net/world.ts";
import type { Address, AddressNic } from "../../../core/wire/address.ts";

test("a peer on this machine is tried at loopback first", () => {
  expect(tried(peer([nic("192.168.1.5", { external: "198.51.100.7" })], "here"))).toEqual([
    "127.0.0.1:9 this machine",
    "192.168.1.5:9 same network",
    "198.51.100.7:9 external address",
  ]);
});

test("an address of our own network goes before the external one, a foreign private one comes last", () => {
  const nics = [nic("10.9.0.1", { external: "198.51.100.7" }), nic("192.168.1.5")];
  expect(tried(peer(nics))).toEqual([
    "192.168.1.5:9 same network",
    "198.51.100.7:9 external address",
    "10.9.0.1:9 NIC address",
  ]);
});

test("each endpoint is tried once", () => {
  expect(tried(peer([nic("192.168.1.5", { external: "192.168.1.5" }), nic("192.168.1.5")]))).toEqual([
    "192.168.1.5:9 same network",
  ]);
});

test("a stranger's line cannot send us to our own loopback, to link-local addresses, to a multicast group or nowhere", () => {
  const nics = ["127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0"].map((ip) => nic(ip, { external: ip }));
  expect(tried(peer(nics))).toEqual([]);
});

test("a NIC address of a family that we have none of is left out", () => {
  expect(tried(peer([{ ...nic("2001:db8::5"), family: 6 }]))).toEqual([]);
});

test("a line cannot make us knock at more than sixteen doors", () => {
  const nics = Array.from({ length: 32 }, (_, i) => nic(`198.51.100.${i + 1}`));
  expect(tried(peer(nics))).toHaveLength(MAX_DIRECT_CANDIDATES);
});

const OWN: Nic = {
  index: 2,
  name: "eth0",
  kind: "physical",
  mac: "02:00:00:00:00:01",
  mtu: 1500,
  up: true,
  addresses: [{ ip: "192.168.1.2", family: 4, prefixLength: 24 }],
  gateway: {},
  metric: {},
};

function tried(address: Address): readonly string[] {
  return directCandidates(address, { machine: "here", nics: [OWN] }).map(
    ({ endpoint, kind }) => `${formatEndpoint(endpoint)} ${kind}`,
  );
}

function peer(nics: readonly AddressNic[], machine = "elsewhere"): Address {
  return { id: "", machine, brokers: [], nics };
}

function nic(address: string, { external }: { external?: string } = {}): AddressNic {
  const entry = {
    index: 0,
    family: 4,
    address,
    port: 9,
    nat: "unknown",
    delta: "unknown",
    deltaValue: 0,
  } as const;
  return external === undefined ? entry : { ...entry, external };
}
