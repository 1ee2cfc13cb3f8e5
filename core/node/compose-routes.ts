/**
 * Which routes a NIC has, from its addresses and from what servers outside saw of them. Thought only; asking
 * the servers is in `interface.ts`.
 */
import { type Family, inPrefix, scopeOf } from "../ip.ts";
import type { Nic, NicAddress } from "../net/world.ts";
import { type IpRange, isBlock, mergeRanges, singleIp } from "./ip-range.ts";
import { Route } from "./route.ts";

export interface RouteCircumstances {
  /** External address by NIC address, as far as it is known. */
  readonly seen: ReadonlyMap<string, string>;
  /** No other NIC can be used: the machine is its own internet. */
  readonly alone: boolean;
  /** Several NICs have a default route of this family. */
  readonly contested: boolean;
}

/**
 * The routes of `nic` in one family, those with an external address first, else in the order of its addresses:
 * - addresses seen under the same external address are one route;
 * - a public address that is not seen changed is external itself; all such of one subnet are one route, and a
 *   block (an address without host bits) counts whole;
 * - addresses nothing is known of are one route with no external address;
 * - loopback addresses are external where there is nothing else;
 * - IPv6 link-local addresses are in no route: without a zone nobody can dial them.
 */
export function composeRoutes(
  nic: Nic,
  family: Family,
  { seen, alone, contested }: RouteCircumstances,
): readonly Route[] {
  const groups = new Map<string, { nicIps: IpRange[]; extIps: IpRange[] }>();
  for (const address of routableAddresses(nic, family)) {
    const external = seen.get(address.ip);
    const itself = external === undefined ? isOwnExternal(address.ip, alone) : external === address.ip;
    const range = isBlock(address) && scopeOf(address.ip) === "public" ? address : singleIp(address.ip);
    const key = itself ? `subnet of ${subnetOf(address, nic.addresses)}` : `seen ${external ?? "nowhere"}`;
    const group = groups.get(key) ?? { nicIps: [], extIps: [] };
    groups.set(key, group);
    group.nicIps.push({ ip: range.ip, prefixLength: range.prefixLength });
    if (itself) group.extIps = group.nicIps;
    else if (external !== undefined) group.extIps = [singleIp(external)];
  }
  const device = contested && nic.metric[family] !== undefined ? nic.name : undefined;
  return [...groups.values()]
    .sort((a, b) => Number(a.extIps.length === 0) - Number(b.extIps.length === 0))
    .map(({ nicIps, extIps }) => new Route(nic, family, mergeRanges(nicIps), mergeRanges(extIps), device));
}

/** The addresses of a NIC that routes are made of, the preferred one first. */
export function routableAddresses(nic: Nic, family: Family): readonly NicAddress[] {
  if (!nic.up) return [];
  return nic.addresses.filter((address) => {
    const scope = scopeOf(address.ip);
    if (address.family !== family || scope === "unspecified" || scope === "multicast") return false;
    return family === 4 || scope !== "link-local";
  });
}

function isOwnExternal(ip: string, alone: boolean): boolean {
  const scope = scopeOf(ip);
  return scope === "public" || (scope === "loopback" && alone);
}

/** The address that stands for the widest subnet of the NIC that `address` lies in. */
function subnetOf({ ip, prefixLength }: NicAddress, all: readonly NicAddress[]): string {
  let widest = { ip, prefixLength };
  for (const other of all) {
    const wider = other.prefixLength < widest.prefixLength;
    const twin = other.prefixLength === widest.prefixLength && other.ip < widest.ip;
    if ((wider || twin) && inPrefix(ip, other.ip, other.prefixLength)) widest = other;
  }
  return widest.ip;
}
