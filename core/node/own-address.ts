/** A node's address line, composed of what is known of its NICs at the moment. */
import { type Family, scopeOf } from "../ip.ts";
import type { NatProfile } from "../nat/nat-kind.ts";
import {
  ADDRESS_MAX_NICS,
  type Address,
  type AddressBroker,
  type AddressNic,
  encodeAddress,
} from "../wire/address.ts";
import type { Interface } from "./interface.ts";
import { summarise } from "./nat-report.ts";
import type { ForwardedEndpoint } from "./port-mapping.ts";

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
  /** What is known of the NAT in front of a NIC address. */
  readonly natOf: (ip: string) => NatProfile | undefined;
  /** Ports that routers forward to it. */
  readonly forwarded: readonly ForwardedEndpoint[];
}

/**
 * The line. Link-local addresses are left out, as a peer would not know the NIC they belong to. A forwarded port has
 * an entry of its own before the others, with the external address as the one that is listened on: see docs/address.md.
 */
export function composeAddress({
  id,
  machine,
  port,
  families,
  interfaces,
  brokers,
  natOf,
  forwarded,
}: OwnAddressFacts): string {
  const nics = families.flatMap((family) => interfaces.flatMap((nic) => entriesOf(nic, family, port, natOf)));
  const isListed = ({ external: { ip, port: at } }: ForwardedEndpoint): boolean =>
    nics.some((entry) => entry.address === ip && entry.port === at);
  const open = forwarded
    .filter((endpoint) => !isListed(endpoint))
    .map((endpoint) => entryOfForwarded(endpoint, interfaces));
  return encodeAddress({ id, machine, brokers, nics: [...open, ...nics].slice(0, ADDRESS_MAX_NICS) });
}

/** The address by which a node reaches itself. */
export function loopbackAddress(id: string, machine: string, family: Family, port: number): Address {
  const address = family === 4 ? "127.0.0.1" : "::1";
  const nic = { index: 0, family, address, port, nat: "unknown", delta: "unknown", deltaValue: 0 } as const;
  return { id, machine, brokers: [], nics: [nic] };
}

function entryOfForwarded(
  { nic, family, external: { ip, port }, isOpen }: ForwardedEndpoint,
  interfaces: readonly Interface[],
): AddressNic {
  return {
    index: interfaces.find(({ name }) => name === nic)?.position ?? 0,
    family,
    external: ip,
    address: ip,
    port,
    nat: isOpen ? "open-internet" : "unknown",
    delta: isOpen ? "not-applicable" : "unknown",
    deltaValue: 0,
  };
}

/** One entry for each external address, or for each NIC address while none is known. */
function entriesOf(
  nic: Interface,
  family: Family,
  port: number,
  natOf: OwnAddressFacts["natOf"],
): readonly AddressNic[] {
  return nic
    .routes(family)
    .filter(({ nicIps }) => scopeOf(nicIps[0]?.ip ?? "::") !== "link-local")
    .flatMap(({ nicIps, extIps }) => {
      const address = nicIps[0]?.ip;
      if (address === undefined) return [];
      const profile = natOf(address);
      const external = extIps[0]?.ip ?? profile?.external;
      const known = profile === undefined ? undefined : summarise(profile);
      const entry = {
        index: nic.position,
        family,
        address,
        port,
        nat: known?.type ?? "unknown",
        delta: known?.delta.type ?? "unknown",
        deltaValue: known?.delta.value ?? 0,
      } as const;
      return [external === undefined ? entry : { ...entry, external }];
    });
}
