import { describe, expect, test } from "bun:test";
import type { NetworkInterfaceInfo } from "node:os";
import { nicKind } from "../../../core/net/nic-kind.ts";
import { composeNics } from "../../../core/net/nics-linux.ts";
import { composePortableNics, readPortableNics } from "../../../core/net/nics-portable.ts";
import { readNics } from "../../../core/net/nics.ts";
import type {
  NetlinkAddress,
  NetlinkLink,
  NetlinkMessage,
  NetlinkRoute,
} from "../../../core/wire/netlink.ts";

const UP = 0x41; // IFF_UP, IFF_RUNNING

describe("NICs of Linux, from what the kernel tells", () => {
  test("a NIC has its addresses, next hops and metrics; one without addresses is shown too", () => {
    const nics = composeNics({
      messages: [
        link({ index: 3, name: "eth1", flags: 1 }),
        link({ index: 2, name: "eth0" }),
        address({ index: 2, ip: "192.0.2.5" }),
        address({ index: 2, ip: "2001:db8::5", family: 6, prefixLength: 64 }),
        route({ metric: 100, hops: [{ index: 2, gateway: "192.0.2.1" }] }),
        route({ family: 6, metric: 1024, hops: [{ index: 2, gateway: "fe80::1" }] }),
      ],
      preferred: { 4: 2, 6: 2 },
    });
    expect(nics).toEqual([
      {
        index: 2,
        name: "eth0",
        kind: "physical",
        mac: "02:00:00:00:00:01",
        mtu: 1500,
        up: true,
        addresses: [
          { ip: "192.0.2.5", family: 4, prefixLength: 24 },
          { ip: "2001:db8::5", family: 6, prefixLength: 64 },
        ],
        gateway: { 4: "192.0.2.1", 6: "fe80::1" },
        metric: { 4: 100, 6: 1024 },
      },
      expect.objectContaining({ name: "eth1", up: false, addresses: [], gateway: {}, metric: {} }),
    ]);
  });

  test("IPv6 addresses that are deprecated, tentative or duplicate are left out, temporary ones come later", () => {
    const of = (ip: string, flags: number): NetlinkAddress =>
      address({ ip, flags, family: 6, prefixLength: 64 });
    const messages = [
      link(),
      of("fe80::1", 0x80),
      of("2001:db8::a", 0x01),
      of("2001:db8::b", 0x20),
      of("2001:db8::c", 0x40),
      of("2001:db8::d", 0x08),
      of("2001:db8::e", 0x44), // optimistic: may be used while it is checked
      of("2001:db8::f", 0),
    ];
    expect(composeNics({ messages, preferred: {} })[0]?.addresses).toEqual([
      { ip: "2001:db8::e", family: 6, prefixLength: 64 },
      { ip: "2001:db8::f", family: 6, prefixLength: 64 },
      { ip: "2001:db8::a", family: 6, prefixLength: 64, temporary: true },
      { ip: "fe80::1", family: 6, prefixLength: 64 },
    ]);
  });

  test("a second IPv4 address of a subnet is not taken for a temporary one", () => {
    const messages = [link(), address({ ip: "192.0.2.5" }), address({ ip: "192.0.2.6", flags: 1 })];
    expect(composeNics({ messages, preferred: {} })[0]?.addresses).toEqual([
      { ip: "192.0.2.5", family: 4, prefixLength: 24 },
      { ip: "192.0.2.6", family: 4, prefixLength: 24 },
    ]);
  });

  test("of several default routes by one NIC the one with the lowest metric counts", () => {
    const messages = [
      link(),
      route({ metric: 300, hops: [{ index: 2, gateway: "192.0.2.3" }] }),
      route({ metric: 100, hops: [{ index: 2, gateway: "192.0.2.1" }] }),
      route({ metric: 200, hops: [{ index: 2, gateway: "192.0.2.2" }] }),
    ];
    expect(composeNics({ messages, preferred: {} })[0]).toMatchObject({
      gateway: { 4: "192.0.2.1" },
      metric: { 4: 100 },
    });
  });

  test("unreachable routes and subnets are no default routes", () => {
    const messages = [
      link(),
      route({ type: 7 }),
      route({ prefixLength: 24 }),
      route({ family: 6, prefixLength: 7 }),
    ];
    expect(composeNics({ messages, preferred: {} })[0]?.metric).toEqual({});
  });

  test("a VPN that takes everything, by a table of its own or by halves, is the system's default", () => {
    const eth = route({ metric: 0, hops: [{ index: 2, gateway: "192.0.2.1" }] });
    const table = route({ table: 51820, hops: [{ index: 3, gateway: "" }] });
    const half = route({ prefixLength: 1, metric: 50, hops: [{ index: 3, gateway: "10.8.0.1" }] });
    for (const vpn of [table, half]) {
      const messages = [link(), link({ index: 3, name: "wg0", kind: "wireguard" }), eth, vpn];
      const [first, second] = composeNics({ messages, preferred: { 4: 3 } });
      expect(first?.metric[4]).toBe(0);
      expect(second?.metric[4]).toBeLessThan(0);
    }
  });

  test("a table of its own that the kernel does not prefer stays behind the main one", () => {
    const messages = [
      link(),
      link({ index: 3, name: "eth1" }),
      route({ metric: 5000, hops: [{ index: 2, gateway: "192.0.2.1" }] }),
      route({ table: 100, hops: [{ index: 3, gateway: "198.51.100.1" }] }),
    ];
    const [first, second] = composeNics({ messages, preferred: { 4: 2 } });
    expect(second?.metric[4]).toBeGreaterThan(first?.metric[4] ?? Infinity);
  });
});

describe("the kind of a NIC", () => {
  const cases: [string, Parameters<typeof nicKind>[0], ReturnType<typeof nicKind>][] = [
    ["lo", traits("lo", { loopback: true, driver: "", hardware: 772 }), "loopback"],
    ["an Ethernet card", traits("enp3s0", { driver: "" }), "physical"],
    ["a modem with raw IP", traits("wwan0", { driver: "", hardware: 519 }), "physical"],
    ["Docker's bridge", traits("docker0", { driver: "bridge" }), "container"],
    ["a Docker network's bridge", traits("br-0123456789ab", { driver: "bridge" }), "container"],
    ["a bridge of virtual machines", traits("virbr0", { driver: "bridge" }), "bridge"],
    ["a home router's bridge", traits("br-lan", { driver: "bridge", hasDefault: true }), "bridge"],
    ["a container's end on the host", traits("veth12ab", { driver: "veth", enslaved: true }), "container"],
    ["Calico's end on the host", traits("cali1234", { driver: "veth" }), "container"],
    ["a container's own way out", traits("eth0", { driver: "veth", hasDefault: true }), "virtual"],
    ["Flannel's overlay", traits("flannel.1", { driver: "vxlan" }), "container"],
    ["WireGuard", traits("office", { driver: "wireguard", hardware: 65534 }), "tunnel"],
    ["a TUN device", traits("tailscale0", { driver: "tun" }), "tunnel"],
    ["a virtual machine's TAP", traits("tap0", { driver: "tun", enslaved: true }), "virtual"],
    ["PPP without a driver kind", traits("dsl", { driver: "", hardware: 512 }), "tunnel"],
    ["a VLAN", traits("eth0.7", { driver: "vlan" }), "virtual"],
    ["utun of macOS", traits("utun3", {}), "tunnel"],
    ["bridge0 of macOS", traits("bridge0", {}), "bridge"],
    ["awdl0 of macOS", traits("awdl0", {}), "virtual"],
    ["Wi-Fi of Windows", traits("Wi-Fi", {}), "physical"],
    ["Hyper-V's switch", traits("vEthernet (Default Switch)", {}), "bridge"],
    ["Docker without a driver told", traits("docker0", {}), "container"],
  ];
  test.each(cases)("%s", (_what, given, kind) => {
    expect(nicKind(given)).toBe(kind);
  });
});

describe("NICs where there is no netlink", () => {
  const told = {
    en0: [
      info("IPv6", "fe80::1%en0", "fe80::1%en0/64"),
      info("IPv4", "192.0.2.5", "192.0.2.5/24"),
      info("IPv6", "2001:db8::5", "2001:db8::5/64"),
    ],
    lo0: [{ ...info("IPv4", "127.0.0.1", "127.0.0.1/8"), internal: true }],
    en5: [info("IPv4", "198.51.100.5", "198.51.100.5/24")],
  };
  const indexOf = (name: string): number => ["", "lo0", "en0", "en5"].indexOf(name);

  test("default routes told by the system give next hop and order", () => {
    const nics = composePortableNics(told, indexOf, [
      { family: 4, index: 3, gateway: "198.51.100.1", scoped: true },
      { family: 4, index: 2, gateway: "192.0.2.1", scoped: false },
      { family: 4, index: 2, gateway: "192.0.2.9", scoped: true },
    ]);
    expect(nics.map(({ name }) => name)).toEqual(["lo0", "en0", "en5"]);
    expect(nics[0]).toMatchObject({ kind: "loopback", metric: {} });
    expect(nics[1]).toMatchObject({ gateway: { 4: "192.0.2.1" }, metric: { 4: 0 } });
    expect(nics[2]).toMatchObject({ gateway: { 4: "198.51.100.1" }, metric: { 4: 1 } });
    expect(nics[1]?.addresses.map(({ ip }) => ip)).toEqual(["192.0.2.5", "2001:db8::5", "fe80::1"]);
  });

  test("without any told, hardware with an address that reaches beyond its link has one", () => {
    const nics = composePortableNics(
      { ...told, utun0: [info("IPv4", "10.8.0.2", "10.8.0.2/32")] },
      () => 0,
      undefined,
    );
    expect(Object.fromEntries(nics.map(({ name, metric }) => [name, metric]))).toEqual({
      en0: { 4: 0, 6: 0 },
      lo0: {},
      en5: { 4: 0 },
      utun0: {},
    });
  });

  test("what is no address is left out, and an index is taken from the zone where there is one", () => {
    const odd = [info("IPv4", "nonsense", null), { ...info("IPv6", "fe80::2", null), scopeid: 17 }];
    expect(composePortableNics({ odd }, () => 0, [])).toEqual([
      expect.objectContaining({ index: 17, addresses: [{ ip: "fe80::2", family: 6, prefixLength: 128 }] }),
    ]);
  });
});

test("this machine's NICs are read, the same ones by either way", () => {
  const nics = readNics();
  const portable = readPortableNics();
  expect(nics.length).toBeGreaterThan(0);
  for (const nic of portable) {
    const twin = nics.find(({ name }) => name === nic.name);
    expect(twin?.index).toBe(nic.index);
    for (const address of twin?.addresses ?? []) expect(nic.addresses).toContainEqual(address);
  }
});

function link(some: Partial<NetlinkLink> = {}): NetlinkMessage {
  return {
    message: "link",
    index: 2,
    name: "eth0",
    hardware: 1,
    flags: UP,
    mac: "02:00:00:00:00:01",
    mtu: 1500,
    kind: "",
    master: 0,
    ...some,
  };
}

function address(some: Partial<NetlinkAddress>): NetlinkAddress {
  return { message: "address", index: 2, family: 4, ip: "192.0.2.5", prefixLength: 24, flags: 0x80, ...some };
}

function route(some: Partial<NetlinkRoute>): NetlinkMessage {
  const hops = [{ index: 2, gateway: "192.0.2.1" }];
  return { message: "route", family: 4, prefixLength: 0, table: 254, type: 1, metric: 0, hops, ...some };
}

function traits(name: string, some: Partial<Parameters<typeof nicKind>[0]>): Parameters<typeof nicKind>[0] {
  return { name, loopback: false, ...some };
}

function info(family: "IPv4" | "IPv6", ip: string, cidr: string | null): NetworkInterfaceInfo {
  const common = { address: ip, cidr, netmask: "", mac: "02:00:00:00:00:01", internal: false };
  return family === "IPv4" ? { ...common, family } : { ...common, family, scopeid: 0 };
}
