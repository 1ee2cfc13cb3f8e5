/** A node's address line, composed of what is known of its NICs at the moment. */
import { type Family, scopeOf } from "../ip.ts";
import { ADDRESS_MAX_NICS, type AddressBroker, type AddressNic, encodeAddress } from "../wire/address.ts";
import type { Interface } from "./interface.ts";

export interface OwnAddressFacts {
  readonly id: string;
  readonly machine: string;
  /** Where the node listens. */
  readonly port: number;
  readonly families: readonly Family[];
  /** The NICs that the node uses. */
  readonly interfaces: readonly Interface[];
  /** Where it listens for signals. */
  readonly brokers: readonly AddressBroker[];
}

/**
 * The line. Link-local addresses are left out, as a peer would not know the NIC they belong to.
 */
export function composeAddress({
  id,
  machine,
  port,
  families,
  interfaces,
  brokers,
}: OwnAddressFacts): string {
  const nics = families.flatMap((family) =>
    interfaces.flatMap((nic) => entriesOf(nic, nic.position, family, port)),
  );
  return encodeAddress({ id, machine, brokers, nics: nics.slice(0, ADDRESS_MAX_NICS) });
}

/** One entry for each external address, or for each NIC address while none is known. */
function entriesOf(nic: Interface, index: number, family: Family, port: number): readonly AddressNic[] {
  return nic
    .routes(family)
    .filter(({ nicIps }) => scopeOf(nicIps[0]?.ip ?? "::") !== "link-local")
    .flatMap(({ nicIps, extIps }) => {
      const [address, external] = [nicIps[0]?.ip, extIps[0]?.ip];
      if (address === undefined) return [];
      const entry = {
        index,
        family,
        address,
        port,
        nat: "unknown",
        delta: "unknown",
        deltaValue: 0,
      } as const;
      return [external === undefined ? entry : { ...entry, external }];
    });
}
