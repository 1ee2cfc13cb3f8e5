/**
 * Which NIC a program means that names none, and whether a NIC's address alone decides the way of a packet.
 */
import type { Family } from "../ip.ts";
import type { Nic, NicKind } from "../net/world.ts";
import { routableAddresses } from "./compose-routes.ts";

/** Where no default route tells: what is likely to lead to other machines first. */
const KIND_ORDER: readonly NicKind[] = ["physical", "virtual", "tunnel", "bridge", "container", "loopback"];

/**
 * The NIC whose default route of `family` has the lowest metric; without any default route the first, by
 * kind, that has an address; on a machine with nothing else the loopback NIC. Undefined: no NIC has an address.
 */
export function defaultNic(nics: readonly Nic[], family: Family): Nic | undefined {
  const usable = nics.filter((nic) => routableAddresses(nic, family).length > 0);
  const routed = usable.filter((nic) => nic.metric[family] !== undefined);
  const metric = (nic: Nic): number => nic.metric[family] ?? 0;
  const kind = (nic: Nic): number => KIND_ORDER.indexOf(nic.kind);
  return (
    routed.toSorted((a, b) => metric(a) - metric(b))[0] ?? usable.toSorted((a, b) => kind(a) - kind(b))[0]
  );
}

/** Whether several NICs have a default route of `family`, so that sockets must be tied to theirs. */
export function isContested(nics: readonly Nic[], family: Family): boolean {
  return nics.filter((nic) => nic.up && nic.metric[family] !== undefined).length > 1;
}

/** Whether no NIC but loopback ones has an address, so that the machine is its own internet. */
export function isAlone(nics: readonly Nic[]): boolean {
  return nics.every(
    (nic) =>
      nic.kind === "loopback" ||
      ([4, 6] as const).every((family) => routableAddresses(nic, family).length === 0),
  );
}
