/** Which local addresses this machine has no more: packets to them will never come again. */
import { scopeOf } from "../ip.ts";
import type { Nic } from "../net/world.ts";

/** Of each of `ips`, whether it is gone. */
export function lostAddresses(nics: readonly Nic[]): (ip: string) => boolean {
  const here = new Set(nics.filter(({ up }) => up).flatMap(({ addresses }) => addresses.map(({ ip }) => ip)));
  return (ip) => {
    const scope = scopeOf(ip);
    return !here.has(ip) && scope !== "loopback" && scope !== "unspecified";
  };
}
