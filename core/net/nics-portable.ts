/**
 * NICs where the system has no netlink, from what the runtime knows: NICs that are up and have addresses.
 * macOS and FreeBSD tell their default routes by sysctl. On Windows, and anywhere else, every hardware NIC
 * with an address that reaches beyond its link is taken to have one, with an unknown next hop. The MTU is
 * not told and taken as 1500.
 */
import { networkInterfaces, type NetworkInterfaceInfo } from "node:os";
import { canonicalIp, type Family, scopeOf } from "../ip.ts";
import { interfaceIndex, readRouteTable } from "../../native/route-bsd.ts";
import { type DefaultRoute, decodeDefaultRoutes, ROUTE_MESSAGE_LAYOUTS } from "../wire/route-messages.ts";
import { byPreference } from "./address-order.ts";
import { nicKind } from "./nic-kind.ts";
import type { Nic, NicAddress } from "./world.ts";

const MTU = 1500;

/** The NICs there are now, by index. Never throws. */
export function readPortableNics(): readonly Nic[] {
  const layout = ROUTE_MESSAGE_LAYOUTS[process.platform];
  try {
    const routes = layout === undefined ? undefined : decodeDefaultRoutes(readRouteTable(), layout);
    return composePortableNics(networkInterfaces(), interfaceIndex, routes);
  } catch {
    return []; // a sandbox that tells nothing: the node works on loopback addresses
  }
}

/** As `readPortableNics`, from what was told; `routes` undefined: default routes are guessed. */
export function composePortableNics(
  told: ReturnType<typeof networkInterfaces>,
  indexOf: (name: string) => number,
  routes: readonly DefaultRoute[] | undefined,
): readonly Nic[] {
  const nics = Object.entries(told).map(([name, infos = []], position) => {
    const index = indexOf(name) || (infos.find((info) => info.scopeid)?.scopeid ?? position + 1);
    return composeNic(name, index, infos, routes);
  });
  return nics.sort((a, b) => a.index - b.index);
}

function composeNic(
  name: string,
  index: number,
  infos: readonly NetworkInterfaceInfo[],
  routes: readonly DefaultRoute[] | undefined,
): Nic {
  const kind = nicKind({ name, loopback: infos.some((info) => info.internal) });
  const addresses = infos.flatMap(toAddress).sort(byPreference);
  const gateway: Partial<Record<Family, string>> = {};
  const metric: Partial<Record<Family, number>> = {};
  for (const route of routes ?? guessRoutes(kind, index, addresses)) {
    const known = metric[route.family];
    const own = Number(route.scoped);
    if (route.index !== index || (known !== undefined && known <= own)) continue;
    metric[route.family] = own;
    gateway[route.family] = route.gateway;
  }
  const mac = infos[0]?.mac ?? "00:00:00:00:00:00";
  return { index, name, kind, mac, mtu: MTU, up: true, addresses, gateway, metric };
}

function toAddress(info: NetworkInterfaceInfo): NicAddress[] {
  const ip = canonicalIp(info.address.split("%", 1)[0] as string);
  if (ip === undefined) return [];
  const prefixLength = Number(info.cidr?.split("/")[1] ?? (info.family === "IPv4" ? 32 : 128));
  return [{ ip, family: info.family === "IPv4" ? 4 : 6, prefixLength }];
}

function guessRoutes(kind: Nic["kind"], index: number, addresses: readonly NicAddress[]): DefaultRoute[] {
  if (kind !== "physical") return [];
  return ([4, 6] as const)
    .filter((family) => addresses.some((address) => address.family === family && reachesFar(address.ip)))
    .map((family) => ({ family, index, gateway: "", scoped: false }));
}

function reachesFar(ip: string): boolean {
  return ["public", "shared", "private"].includes(scopeOf(ip));
}
