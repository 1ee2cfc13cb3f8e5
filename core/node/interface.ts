/**
 * A NIC with what was learnt of it: its routes (NIC addresses -> external addresses) per family. Programs
 * that use the library start here; `GET /p2p/ifs` shows the descriptions.
 */
import type { Nic, NicAddress } from "../net/world.ts";

/** NIC addresses that leave by one external address (or, for a block assigned to the NIC, by themselves). */
export interface RouteDescription {
  readonly af: 2 | 10;
  readonly nic_ips: readonly { readonly ip: string; readonly cidr: number; readonly af: 2 | 10 }[];
  readonly ext_ips: readonly { readonly ip: string; readonly cidr: number; readonly af: 2 | 10 }[];
}

export interface InterfaceDescription {
  readonly id: string;
  readonly name: string;
  readonly mac: string;
  readonly nic_no: number;
  readonly netiface_index: number;
  readonly kind: Nic["kind"];
  readonly mtu: number;
  readonly addresses: readonly NicAddress[];
  readonly is_default: { readonly 2: boolean; readonly 10: boolean };
  readonly rp: { readonly 2: readonly RouteDescription[]; readonly 10: readonly RouteDescription[] };
}
