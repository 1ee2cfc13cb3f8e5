/**
 * How hosts, routers and the internet are joined, as plain descriptions: the laboratory builds them of network
 * namespaces, the simulator of objects. Addresses are ones that programs take for public (no documentation or
 * benchmark ranges), so that nothing under test treats them specially.
 */
import { P2pdError } from "../../core/errors.ts";
import { parseConfiguration } from "./configurations.ts";
import type { NatSettings } from "./settings.ts";

/** A router of our own making with these settings, or the kernel's masquerade with miniupnpd beside it. */
export type RouterKind =
  | { readonly kind: "box"; readonly settings: NatSettings }
  | { readonly kind: "kernel"; readonly ports: KernelPorts };

/** How nftables masquerade picks ports: `masquerade`, `masquerade random`, `masquerade fully-random`. */
export type KernelPorts = "keep" | "random" | "fully-random";

export interface RouterSpec {
  readonly name: string;
  readonly nat: RouterKind;
  /** `internet`, or the router whose LAN it is plugged into (a carrier NAT). */
  readonly uplink: string;
}

export interface HostSpec {
  readonly name: string;
  /** One NIC per entry, each at `internet` or in a router's LAN; the first has the lowest metric. */
  readonly nics: readonly string[];
}

export interface Topology {
  readonly routers: readonly RouterSpec[];
  readonly hosts: readonly HostSpec[];
}

/** What addresses the hosts of a LAN have: translated ones, those of a carrier's network (RFC 6598), public ones. */
export type LanKind = "private" | "shared" | "public";

/** The addresses of a router, of its LAN, and of the hosts in it. */
export interface RouterPlan {
  /** On the internet; a router behind another gets an address of that one's LAN (`lanRouterIp4`). */
  readonly publicIp4: string;
  readonly publicIp6: string;
  /** Where the public address moves to when it changes. */
  readonly nextPublicIp4: string;
  /** The router's own address inside. */
  readonly lanIp4: string;
  readonly lanIp6: string;
  readonly lanPrefix4: string;
  readonly lanPrefix6: string;
  /** Host number `host` (0 to 99) of the LAN. */
  lanHostIp4(host: number): string;
  lanHostIp6(host: number): string;
  /** The outer address of router number `router` (0 to 49) that is plugged into this LAN. */
  lanRouterIp4(router: number): string;
  lanRouterIp6(router: number): string;
}

/** The addresses of the internet itself. */
export const INTERNET = {
  prefix4: 16,
  prefix6: 64,
  gateway4: "5.44.0.1",
  gateway6: "2a01:5a40:0:1::1",
  /** Servers, number 0 to 99. */
  serverIp4: (index: number): string => `5.44.1.${10 + index}`,
  serverIp6: (index: number): string => `2a01:5a40:0:1::1:${(10 + index).toString(16)}`,
  /** Hosts plugged in without a router, number 0 to 99. */
  hostIp4: (index: number): string => `5.44.2.${10 + index}`,
  hostIp6: (index: number): string => `2a01:5a40:0:1::3:${(10 + index).toString(16)}`,
} as const;

/**
 * Addresses of router number `index` (0 to 199) whose LAN is of this kind: `public` behind a firewall or an
 * open router, `shared` behind a carrier NAT, else `private`.
 * @throws P2pdError `bad-argument` for another number.
 */
export function planRouter(index: number, lan: LanKind): RouterPlan {
  if (!Number.isInteger(index) || index < 0 || index > 199) {
    throw new P2pdError("bad-argument", `router number ${index} does not exist; expected 0 to 199`);
  }
  const lan4 = {
    private: `192.168.${index + 10}`,
    shared: `100.64.${index + 10}`,
    public: `5.46.${index + 10}`,
  }[lan];
  const lan6 = `2a01:5a40:${(0x100 + index).toString(16)}:1`;
  return {
    publicIp4: `5.44.10.${index + 10}`,
    publicIp6: `2a01:5a40:0:1::2:${(10 + index).toString(16)}`,
    nextPublicIp4: `5.44.11.${index + 10}`,
    lanIp4: `${lan4}.1`,
    lanIp6: `${lan6}::1`,
    lanPrefix4: `${lan4}.0/24`,
    lanPrefix6: `${lan6}::/64`,
    lanHostIp4: (host) => `${lan4}.${host + 100}`,
    lanHostIp6: (host) => `${lan6}::${(host + 0x100).toString(16)}`,
    lanRouterIp4: (router) => `${lan4}.${router + 10}`,
    lanRouterIp6: (router) => `${lan6}::${(router + 0x10).toString(16)}`,
  };
}

/** The LAN that a router of this kind has; `feedsRouters`: whether other routers are plugged into it. */
export function lanKindOf(nat: RouterKind, feedsRouters: boolean): LanKind {
  if (nat.kind === "box" && nat.settings.mode !== "nat") return "public";
  return feedsRouters ? "shared" : "private";
}

/** A router from the name of a configuration, or `kernel`, `kernel/random`, `kernel/fully-random`. */
export function parseRouterKind(name: string): RouterKind {
  const kernel = /^kernel(?:\/(keep|random|fully-random))?$/.exec(name.trim().toLowerCase());
  if (kernel !== null) return { kind: "kernel", ports: (kernel[1] ?? "keep") as KernelPorts };
  if (/^kernel\b/i.test(name)) {
    throw new P2pdError(
      "bad-argument",
      `"${name}" is no kernel NAT; expected kernel, kernel/random or kernel/fully-random`,
    );
  }
  return { kind: "box", settings: parseConfiguration(name).settings };
}

/** Host `alice` behind router `a`, host `bob` behind router `b`. */
export function twoHosts(a: RouterKind, b: RouterKind): Topology {
  return {
    routers: [
      { name: "a", nat: a, uplink: "internet" },
      { name: "b", nat: b, uplink: "internet" },
    ],
    hosts: [
      { name: "alice", nics: ["a"] },
      { name: "bob", nics: ["b"] },
    ],
  };
}

/** Hosts `alice` and `bob` behind one router `a`. */
export function oneRouter(a: RouterKind): Topology {
  return {
    routers: [{ name: "a", nat: a, uplink: "internet" }],
    hosts: [
      { name: "alice", nics: ["a"] },
      { name: "bob", nics: ["a"] },
    ],
  };
}

/** Host `alice` behind home router `a` behind carrier NAT `carrier`; `bob` behind `b`. */
export function carrierNat(carrier: RouterKind, a: RouterKind, b: RouterKind): Topology {
  return {
    routers: [
      { name: "carrier", nat: carrier, uplink: "internet" },
      { name: "a", nat: a, uplink: "carrier" },
      { name: "b", nat: b, uplink: "internet" },
    ],
    hosts: [
      { name: "alice", nics: ["a"] },
      { name: "bob", nics: ["b"] },
    ],
  };
}

/** Host `alice` with two NICs, behind routers `a` and `a2`; `bob` behind `b`. */
export function twoNics(a: RouterKind, a2: RouterKind, b: RouterKind): Topology {
  return {
    routers: [
      { name: "a", nat: a, uplink: "internet" },
      { name: "a2", nat: a2, uplink: "internet" },
      { name: "b", nat: b, uplink: "internet" },
    ],
    hosts: [
      { name: "alice", nics: ["a", "a2"] },
      { name: "bob", nics: ["b"] },
    ],
  };
}
