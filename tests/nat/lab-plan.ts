/**
 * A topology with its addresses: which namespace each router and host is, what every NIC is called and which
 * addresses it has. Plain data, computed once; `lab-network.ts` makes it true.
 */
import { P2pdError } from "../../core/errors.ts";
import { INTERNET, lanKindOf, planRouter } from "./topologies.ts";
import type { LanKind, RouterKind, RouterPlan, RouterSpec, Topology } from "./topologies.ts";

export interface RouterSite {
  readonly spec: RouterSpec;
  readonly index: number;
  readonly namespace: string;
  /** Behind which router, or undefined at the internet. */
  readonly parent: RouterSite | undefined;
  /** Whether other routers are plugged into its LAN. */
  readonly feedsRouters: boolean;
  readonly wan: {
    /** The address that its NAT uses. */
    readonly ip4: string;
    /** A second one that reaches it too, for a change of address while it runs. */
    readonly nextIp4: string;
    /** The kernel's own address on that side, so that it can ask for neighbours. */
    readonly kernelIp4: string;
    readonly prefix4: number;
    readonly gateway4: string;
    readonly ip6: string;
    readonly gateway6: string;
  };
  /** The addresses of its LAN while it translates, and while it does not. */
  lan(kind: LanKind): RouterPlan;
}

export interface NicSite {
  readonly name: string;
  readonly router: RouterSite | undefined;
  /** The addresses while the router's LAN is of this kind. */
  readonly ip4: (kind: LanKind) => string;
  readonly ip6: string;
  readonly metric: number;
}

export interface HostSite {
  readonly name: string;
  readonly namespace: string;
  readonly nics: readonly NicSite[];
}

export interface LabPlan {
  readonly id: string;
  /** The namespace of the internet, where servers run. */
  readonly internet: string;
  readonly routers: readonly RouterSite[];
  readonly hosts: readonly HostSite[];
}

/** Throws a P2pdError `bad-argument` where the topology does not hang together. */
export function planLab(id: string, topology: Topology): LabPlan {
  const routers: RouterSite[] = [];
  const names = new Set<string>(["internet"]);
  const claim = (name: string): void => {
    if (!/^[a-z][a-z0-9-]{0,19}$/.test(name) || names.has(name)) {
      throw new P2pdError(
        "bad-argument",
        `"${name}" is no name for a host or router: one of its own, a-z, 0-9 and -`,
      );
    }
    names.add(name);
  };
  const uplinkOf = (uplink: string, whose: string): RouterSite | undefined => {
    if (uplink === "internet") return undefined;
    const site = routers.find(({ spec }) => spec.name === uplink);
    if (site === undefined) {
      throw new P2pdError(
        "bad-argument",
        `${whose} is plugged into "${uplink}"; expected internet or an earlier router`,
      );
    }
    return site;
  };
  topology.routers.forEach((spec, index) => {
    claim(spec.name);
    const parent = uplinkOf(spec.uplink, spec.name);
    const feedsRouters = topology.routers.some(({ uplink }) => uplink === spec.name);
    const lan = (kind: LanKind): RouterPlan => planRouter(index, kind);
    routers.push({
      spec,
      index,
      namespace: `${id}-${spec.name}`,
      parent,
      feedsRouters,
      wan: wanOf(index, parent),
      lan,
    });
  });
  const hosts = topology.hosts.map((spec, number): HostSite => {
    claim(spec.name);
    const nics = spec.nics.map((uplink, nic): NicSite => {
      const router = uplinkOf(uplink, spec.name);
      return {
        name: `eth${nic}`,
        router,
        ip4: (kind) => router?.lan(kind).lanHostIp4(number) ?? INTERNET.hostIp4(number),
        ip6: router?.lan("private").lanHostIp6(number) ?? INTERNET.hostIp6(number),
        metric: 100 * (nic + 1),
      };
    });
    return { name: spec.name, namespace: `${id}-${spec.name}`, nics };
  });
  return { id, internet: `${id}-internet`, routers, hosts };
}

/** What kind of LAN a router has while it is `nat`. */
export function lanKindNow(site: RouterSite, nat: RouterKind): LanKind {
  return lanKindOf(nat, site.feedsRouters);
}

function wanOf(index: number, parent: RouterSite | undefined): RouterSite["wan"] {
  if (parent === undefined) {
    const plan = planRouter(index, "private");
    return {
      ip4: plan.publicIp4,
      nextIp4: plan.nextPublicIp4,
      kernelIp4: `5.44.20.${index + 10}`,
      prefix4: INTERNET.prefix4,
      gateway4: INTERNET.gateway4,
      ip6: plan.publicIp6,
      gateway6: INTERNET.gateway6,
    };
  }
  const above = parent.lan(lanKindOf(parent.spec.nat, true));
  return {
    ip4: above.lanRouterIp4(index),
    nextIp4: above.lanRouterIp4(index + 40),
    kernelIp4: above.lanRouterIp4(index + 20),
    prefix4: 24,
    gateway4: above.lanIp4,
    ip6: above.lanRouterIp6(index),
    gateway6: above.lanIp6,
  };
}
