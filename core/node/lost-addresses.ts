/** Which connections go by an address that this machine has no more: packets to it will never come again. */
import { P2pdError } from "../errors.ts";
import { scopeOf } from "../ip.ts";
import type { Nic } from "../net/world.ts";
import type { Connection } from "./node-api.ts";

/** Ends each of them with the reason. */
export function endOnLostAddresses(connections: readonly Connection[], nics: readonly Nic[]): void {
  const here = new Set(nics.filter(({ up }) => up).flatMap(({ addresses }) => addresses.map(({ ip }) => ip)));
  for (const { pipe, nic } of connections) {
    const { ip } = pipe.local;
    const scope = scopeOf(ip);
    if (here.has(ip) || scope === "loopback" || scope === "unspecified") continue;
    const where = nic.name === "" ? "" : ` of ${nic.name}`;
    void pipe.close(
      new P2pdError(
        "unreachable",
        `the network changed: the address ${ip}${where} is gone from this machine`,
      ),
    );
  }
}
