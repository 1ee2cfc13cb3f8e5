import { expect, test } from "bun:test";
import { MAX_DIRECT_ENDPOINTS, planDirect } from "../../../core/connect/plan.ts";
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

test("the same private network at another home is tried last: its external address is not ours", () => {
  const nics = [nic("192.168.1.5", { external: "198.51.100.7" })];
  expect(tried(peer(nics), ["203.0.113.9"])).toEqual([
    "198.51.100.7:9 external address",
    "192.168.1.5:9 NIC address",
  ]);
});

test("behind our own external address the private address goes first, in whatever subnet it is", () => {
  const nics = [nic("192.168.77.5", { external: "198.51.100.7" })];
  expect(tried(peer(nics), ["198.51.100.7"])).toEqual([
    "192.168.77.5:9 behind the same external address",
    "198.51.100.7:9 external address",
  ]);
});

test("a forwarded port goes before other external endpoints, and after the private address behind the same router", () => {
  const external = "198.51.100.7";
  const forwarded = { ...nic(external, { external }), port: 777 };
  const nics = [forwarded, nic("192.168.77.5", { external })];
  expect(tried(peer(nics), ["203.0.113.9"]).slice(0, 2)).toEqual([
    `${external}:777 external address`,
    `${external}:9 external address`,
  ]);
  expect(tried(peer(nics), [external]).slice(0, 2)).toEqual([
    "192.168.77.5:9 behind the same external address",
    `${external}:777 external address`,
  ]);
});

test("IPv6 and IPv4 take turns on the internet", () => {
  const six = { ...nic("2001:db8::5"), family: 6 as const };
  const nics = [nic("10.0.0.1", { external: "198.51.100.7" }), nic("10.0.0.2", { external: "198.51.100.8" })];
  expect(tried(peer([...nics, six]), [], [OWN, OWN_SIX]).slice(0, 3)).toEqual([
    "[2001:db8::5]:9 public address",
    "198.51.100.7:9 external address",
    "198.51.100.8:9 external address",
  ]);
});

test("near, TCP has a head start; far, UDP and TCP start together", () => {
  const nics = [nic("192.168.1.5", { external: "198.51.100.7" })];
  const own = { machine: "here", nics: [OWN], externals: [] };
  const plan = planDirect(peer(nics), own, ["tcp", "udp"]);
  expect(plan.map(({ transport, near, leadMs }) => [transport, near, leadMs])).toEqual([
    ["tcp", true, 40],
    ["udp", true, 40],
    ["udp", false, 0],
    ["tcp", false, 100],
  ]);
  expect(planDirect(peer(nics), own, ["udp"]).map(({ leadMs }) => leadMs)).toEqual([40, 100]);
});

test("who lets nobody in unasked is knocked at 20 ms later, so that an offer goes first, but not behind a chained NAT of ours", () => {
  const waits = (nat: AddressNic["nat"], chained?: boolean): readonly number[] => {
    const nics = [{ ...nic("10.0.0.1", { external: "198.51.100.7" }), nat }];
    const own = {
      machine: "here",
      nics: [OWN],
      externals: [],
      ...(chained === undefined ? {} : { chained }),
    };
    return planDirect(peer(nics), own, ["udp"]).map(({ afterMs }) => afterMs);
  };
  expect(waits("port-restricted")).toEqual([20, 500]);
  expect(waits("port-restricted", true)).toEqual([0, 500]);
  expect(waits("open-internet")).toEqual([0, 500]);
  expect(waits("unknown")).toEqual([0, 500]);
});

test("an endpoint that lets nobody in unasked, or is a guess, is waited for 3 s, any other 8 s", () => {
  const nics = (["port-restricted", "unknown"] as const).map((nat, i) => {
    return { ...nic(`10.0.0.${i}`, { external: `198.51.100.${i}` }), nat };
  });
  const plan = planDirect(peer(nics), { machine: "here", nics: [OWN], externals: [] }, ["udp"]);
  expect(plan.map(({ endpoint, patienceMs }) => [endpoint.ip, patienceMs])).toEqual([
    ["198.51.100.0", 3000],
    ["198.51.100.1", 8000],
    ["10.0.0.0", 3000],
    ["10.0.0.1", 3000],
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
  expect(tried(peer(nics))).toHaveLength(MAX_DIRECT_ENDPOINTS);
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
const OWN_SIX: Nic = { ...OWN, addresses: [{ ip: "2001:db8:1::2", family: 6, prefixLength: 64 }] };

function tried(address: Address, externals: readonly string[] = [], nics = [OWN]): readonly string[] {
  return planDirect(address, { machine: "here", nics, externals }, ["tcp"]).map(
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
