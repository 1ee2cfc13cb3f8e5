/**
 * What a router does to the packets of one protocol, in the words of RFC 4787 and in P2PD's types and deltas with
 * their numbers. Names alone: how a NAT is recognised is in `classify.ts`, what follows from it in `plan-punch.ts`.
 */

/** With P2PD's numbers. */
export const NAT_TYPE_NUMBERS = {
  "open-internet": 1,
  "symmetric-firewall": 2,
  "full-cone": 3,
  restricted: 4,
  "port-restricted": 5,
  symmetric: 6,
  blocked: 7,
} as const;
export type NatType = keyof typeof NAT_TYPE_NUMBERS;

/** With P2PD's numbers. */
export const DELTA_TYPE_NUMBERS = {
  "not-applicable": 1,
  equal: 2,
  preserving: 3,
  independent: 4,
  dependent: 5,
  random: 6,
} as const;
export type DeltaType = keyof typeof DELTA_TYPE_NUMBERS;

/** How mapping or filtering depends on the remote side (RFC 4787 sections 4.1 and 5). */
export type Behaviour =
  | "endpoint-independent"
  | "address-dependent"
  | "address-and-port-dependent"
  | "unknown";

/** The external port of a new mapping. */
export interface Delta {
  readonly type: DeltaType;
  /**
   * In ports; may be negative. `preserving`: external minus local port. `independent` and `dependent`: from one
   * mapping to the next. 0 where the type has none.
   */
  readonly value: number;
}

/** One protocol of one NIC address. */
export interface NatKind {
  readonly type: NatType;
  readonly mapping: Behaviour;
  readonly filtering: Behaviour;
  readonly delta: Delta;
  /** Lowest and highest external port that mappings get, as far as was seen; absent while unknown. */
  readonly range?: readonly [low: number, high: number];
  /** Whether hosts inside reach each other by their external endpoints; absent while unknown. */
  readonly hairpinning?: boolean;
  /** Whether the external port is the local one where that is free (RFC 4787 section 4.2.1). */
  readonly portPreservation: boolean;
  /** Whether even local ports get even external ones and odd ones odd (RFC 4787 section 4.2.2). */
  readonly portParity: boolean;
  /**
   * What was not measured but taken from the other protocol of the same router: how it filters (no server of RFC 5780
   * can test that of TCP), how it maps and filters, or all, where servers could not be asked so much. Absent: nothing.
   */
  readonly inferred?: "filtering" | "behaviour" | "all";
}

/** What was found of the path from one NIC address to the internet. */
export interface NatProfile {
  /** Address that servers see; absent where none answered. */
  readonly external?: string;
  readonly udp: NatKind;
  readonly tcp: NatKind;
}

/** Of two hosts in one network: what the router does to the world is nothing to them. */
export const UNTRANSLATED: NatKind = {
  type: "open-internet",
  mapping: "endpoint-independent",
  filtering: "endpoint-independent",
  delta: { type: "not-applicable", value: 0 },
  portPreservation: true,
  portParity: true,
};
