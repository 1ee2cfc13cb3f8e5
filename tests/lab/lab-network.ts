/**
 * Builds the network of a laboratory out of namespaces, bridges and veth pairs. The internet is one namespace
 * with a bridge; every router is one with a bridge for its LAN; every host is one. What routers do to packets
 * is added by `lab-router.ts`.
 *
 * A router with a NAT box is wired so: the kernel routes what comes from `lan0` into `tun-lan` and what comes
 * from `wan0` into `tun-wan`; what the box writes to either leaves by the main table. Its public addresses are
 * not the kernel's: they are proxies in the neighbour table, so their packets are routed and not delivered.
 */
import { INTERNET } from "../nat/topologies.ts";
import type { LanKind } from "../nat/topologies.ts";
import { lanKindNow } from "../nat/lab-plan.ts";
import type { HostSite, LabPlan, RouterSite } from "../nat/lab-plan.ts";
import { ipBatch, setKernel } from "./shell.ts";

export const LAN_DEVICE = "tun-lan";
export const WAN_DEVICE = "tun-wan";

/** Servers have addresses of number 0 up to here. */
const SERVER_ADDRESSES = 24;
const LAN_TABLE = 100;
const WAN_TABLE = 101;
const PRIVATE = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"];

/** Makes every namespace, link, address and route of the plan. */
export async function buildNetwork(plan: LabPlan): Promise<void> {
  const namespaces = [
    plan.internet,
    ...plan.routers.map(({ namespace }) => namespace),
    ...plan.hosts.map(({ namespace }) => namespace),
  ];
  await ipBatch("", [...namespaces.map((name) => `netns add ${name}`), ...linksOf(plan)]);
  // First the far end of every cable, then bridges with their ports, then addresses: a bridge that comes up with
  // a dead port is silent for up to a second after the port lives.
  await Promise.all([
    ...plan.routers.map(({ namespace }) => ipBatch(namespace, ["link set lo up", "link set wan0 up"])),
    ...plan.hosts.map(({ namespace, nics }) =>
      ipBatch(namespace, ["link set lo up", ...nics.map(({ name }) => `link set ${name} up`)]),
    ),
  ]);
  await Promise.all([
    buildInternet(plan),
    ...plan.routers.map((router) => buildRouter(plan, router)),
    ...plan.hosts.map((host) => buildHost(plan, host)),
  ]);
}

/** Gives a LAN the addresses of another kind: those of hosts that are translated, or not. */
export async function readdressLan(
  plan: LabPlan,
  router: RouterSite,
  from: LanKind,
  to: LanKind,
): Promise<void> {
  const [before, after] = [router.lan(from), router.lan(to)];
  await ipBatch(router.namespace, [
    `addr del ${before.lanIp4}/24 dev lan0`,
    `addr add ${after.lanIp4}/24 dev lan0`,
    "neigh flush dev lan0",
  ]);
  for (const host of plan.hosts) {
    const lines = host.nics
      .filter((nic) => nic.router === router)
      .flatMap((nic) => [
        `addr del ${nic.ip4(from)}/24 dev ${nic.name}`,
        `addr add ${nic.ip4(to)}/24 dev ${nic.name}`,
        `route replace default via ${after.lanIp4} dev ${nic.name} metric ${nic.metric}`,
      ]);
    await ipBatch(host.namespace, lines);
  }
}

/** The port that a router or host NIC has at the bridge above it. */
const portName = (kind: "r" | "h", index: number, nic = 0): string => `${kind}${index}-${nic}`;

function linksOf(plan: LabPlan): string[] {
  const above = (router: RouterSite | undefined): string => router?.namespace ?? plan.internet;
  const veth = (namespace: string, name: string, bridge: string, port: string): string =>
    `link add ${name} netns ${namespace} type veth peer name ${port} netns ${bridge}`;
  return [
    ...plan.routers.map((router) =>
      veth(router.namespace, "wan0", above(router.parent), portName("r", router.index)),
    ),
    ...plan.hosts.flatMap((host, index) =>
      host.nics.map((nic, number) =>
        veth(host.namespace, nic.name, above(nic.router), portName("h", index, number)),
      ),
    ),
  ];
}

/** The bridge of the internet or a LAN with the ports of everything plugged into it. */
function bridge(plan: LabPlan, name: string, at: RouterSite | undefined): string[] {
  const ports = [
    ...plan.routers.filter(({ parent }) => parent === at).map(({ index }) => portName("r", index)),
    ...plan.hosts.flatMap((host, index) =>
      host.nics.flatMap((nic, number) => (nic.router === at ? [portName("h", index, number)] : [])),
    ),
  ];
  return [
    `link add ${name} type bridge mcast_snooping 0 forward_delay 0`,
    ...ports.flatMap((port) => [`link set ${port} up`, `link set ${port} master ${name}`]),
    `link set ${name} up`,
  ];
}

const FORWARDING = {
  "net.ipv4.ip_forward": 1,
  "net.ipv4.conf.all.rp_filter": 0,
  "net.ipv4.conf.default.rp_filter": 0,
  "net.ipv4.conf.all.send_redirects": 0,
  "net.ipv4.conf.default.send_redirects": 0,
  "net.ipv4.icmp_ratelimit": 0,
  "net.ipv6.conf.all.forwarding": 1,
  "net.ipv6.conf.default.accept_dad": 0,
  "net.ipv6.conf.all.accept_dad": 0,
  "net.ipv6.conf.default.addr_gen_mode": 0,
} as const;

async function buildInternet(plan: LabPlan): Promise<void> {
  await setKernel(plan.internet, FORWARDING);
  const addresses = Array.from({ length: SERVER_ADDRESSES }, (_, i) => [
    `addr add ${INTERNET.serverIp4(i)}/${INTERNET.prefix4} dev br0`,
    `addr add ${INTERNET.serverIp6(i)}/${INTERNET.prefix6} dev br0 nodad`,
  ]);
  await ipBatch(plan.internet, [
    "link set lo up",
    ...bridge(plan, "br0", undefined),
    `addr add ${INTERNET.gateway4}/${INTERNET.prefix4} dev br0`,
    `addr add ${INTERNET.gateway6}/${INTERNET.prefix6} dev br0 nodad`,
    ...addresses.flat(),
    ...PRIVATE.map((prefix) => `route add unreachable ${prefix}`),
    ...downstreamRoutes(plan, undefined, "br0"),
  ]);
}

async function buildRouter(plan: LabPlan, router: RouterSite): Promise<void> {
  await setKernel(router.namespace, FORWARDING);
  const { wan, spec } = router;
  const lan = router.lan(lanKindNow(router, spec.nat));
  const isBox = spec.nat.kind === "box";
  await ipBatch(router.namespace, [
    ...bridge(plan, "lan0", router),
    `addr add ${isBox ? wan.kernelIp4 : wan.ip4}/${wan.prefix4} dev wan0`,
    `addr add ${wan.ip6}/64 dev wan0 nodad`,
    `addr add ${lan.lanIp4}/24 dev lan0`,
    `addr add ${lan.lanIp6}/64 dev lan0 nodad`,
    `route add default via ${wan.gateway4}`,
    `route add default via ${wan.gateway6}`,
    ...downstreamRoutes(plan, router, "lan0"),
    ...(isBox ? boxWiring(router) : []),
  ]);
  if (isBox) for (const family of [4, 6] as const) await ipBatch(router.namespace, DETOURS, family);
  if (isBox) await setKernel(router.namespace, { "net.ipv4.neigh.wan0.proxy_delay": 0 });
}

/** What came from outside the router goes to the box. */
const DETOURS = [
  `rule add iif lan0 lookup ${LAN_TABLE} pref ${LAN_TABLE}`,
  `rule add iif wan0 lookup ${WAN_TABLE} pref ${WAN_TABLE}`,
];

function boxWiring({ wan }: RouterSite): string[] {
  const devices = [LAN_DEVICE, WAN_DEVICE].flatMap((name) => [
    `tuntap add dev ${name} mode tun`,
    `link set ${name} addrgenmode none txqueuelen 2000 up`,
  ]);
  const detours = [
    [LAN_TABLE, LAN_DEVICE],
    [WAN_TABLE, WAN_DEVICE],
  ].flatMap(([table, device]) =>
    ["0.0.0.0/0", "::/0"].map((any) => `route add ${any} dev ${device} table ${table}`),
  );
  return [...devices, ...detours, ...[wan.ip4, wan.nextIp4].map((ip) => `neigh add proxy ${ip} dev wan0`)];
}

/** Routes from `at` to the prefixes of every router below it: IPv6, and LANs that are not translated. */
function downstreamRoutes(plan: LabPlan, at: RouterSite | undefined, device: string): string[] {
  return plan.routers.flatMap((router) => {
    let next = router;
    while (next.parent !== at && next.parent !== undefined) next = next.parent;
    if (next.parent !== at) return [];
    const lan = router.lan("public");
    const via4 = next.spec.nat.kind === "box" ? next.wan.kernelIp4 : next.wan.ip4;
    return [
      `route add ${lan.lanPrefix4} via ${via4} dev ${device}`,
      `route add ${lan.lanPrefix6} via ${next.wan.ip6} dev ${device}`,
    ];
  });
}

async function buildHost(plan: LabPlan, host: HostSite): Promise<void> {
  await setKernel(host.namespace, {
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv6.conf.all.accept_ra": 0,
    "net.ipv6.conf.default.accept_ra": 0,
    "net.ipv4.ping_group_range": "'0 2147483647'",
  });
  const kindOf = (router: RouterSite | undefined): LanKind =>
    router === undefined
      ? "public"
      : lanKindNow(router, plan.routers[router.index]?.spec.nat ?? router.spec.nat);
  await ipBatch(
    host.namespace,
    host.nics.flatMap(({ name, router, metric, ip4, ip6 }) => {
      const kind = kindOf(router);
      const gateway4 = router?.lan(kind).lanIp4 ?? INTERNET.gateway4;
      const gateway6 = router?.lan(kind).lanIp6 ?? INTERNET.gateway6;
      return [
        `addr add ${ip4(kind)}/${router === undefined ? INTERNET.prefix4 : 24} dev ${name}`,
        `addr add ${ip6}/64 dev ${name} nodad`,
        `route add default via ${gateway4} dev ${name} metric ${metric}`,
        `route add default via ${gateway6} dev ${name} metric ${metric}`,
      ];
    }),
  );
}
