/** What a router was asked for and gave: plain values that every protocol and the record in the data directory share. */
import type { Family } from "../ip.ts";

export const PROTOCOLS = ["pcp", "nat-pmp", "upnp"] as const;
export type Protocol = (typeof PROTOCOLS)[number];
export type Transport = "tcp" | "udp";

/** Seconds that mappings are asked for (RFC 6886 section 3.3). */
export const LIFETIME_SECONDS = 7200;

/** From where a router is asked: one address of one NIC. */
export interface Place {
  readonly nic: string;
  readonly family: Family;
  readonly ip: string;
  /** The subnet of `ip`. */
  readonly prefixLength: number;
  readonly gateway: string;
  /** Set where the address alone does not lead to this NIC. */
  readonly device?: string;
}

export interface Wish {
  readonly transport: Transport;
  readonly internalPort: number;
  /** What would be best; a router may give another. */
  readonly externalPort: number;
}

/** A forwarded port, or a pin hole, as a router granted it. */
export interface Mapping {
  readonly protocol: Protocol;
  readonly gateway: string;
  readonly transport: Transport;
  readonly internalIp: string;
  readonly internalPort: number;
  /** The router's own external address; absent where it did not tell. */
  readonly externalIp?: string;
  readonly externalPort: number;
  /** 0: until it is deleted or the router restarts. */
  readonly lifetimeSeconds: number;
  /** Of PCP: 12 octets in hexadecimal, without which nobody can end it. */
  readonly nonce?: string;
  /** Of a UPnP pin hole. */
  readonly pinhole?: number;
}

/** Whether a router has one entry for both: ending one would end the other. */
export function isSameEntry(a: Mapping, b: Mapping): boolean {
  return (
    a.gateway === b.gateway &&
    a.transport === b.transport &&
    a.internalIp === b.internalIp &&
    a.internalPort === b.internalPort &&
    a.externalPort === b.externalPort &&
    a.pinhole === b.pinhole
  );
}

/** One protocol as a router is spoken to from one place. */
export interface RouterClient {
  readonly protocol: Protocol;
  /** Resolves when the router has shown that it speaks the protocol. Rejects with the reason, at once or in time. */
  reach(signal: AbortSignal): Promise<void>;
  /**
   * Maps or renews. Rejects with `refused` (the router says no), `timeout`, `protocol` or `unreachable`.
   * @param earlier the mapping to renew, or one left over from before
   */
  map(wish: Wish, earlier?: Mapping): Promise<Mapping>;
  /** Ends a mapping. What is no more, or is not ours, is left alone. */
  unmap(mapping: Mapping): Promise<void>;
  /** Whether the router still knows the mappings and has the same external address. */
  isIntact(mappings: readonly Mapping[]): Promise<boolean>;
  /** The router's external address as it is known without a mapping. */
  readonly externalIp: string | undefined;
  /** Whether the router refused because it has no public address itself. */
  readonly lacksAddress: boolean;
  close(): void;
}

/** What was sent and heard, over all protocols. */
export interface PortmapCounters {
  /** Datagrams. */
  sent: number;
  /** HTTP requests, each a TCP connection of its own. */
  requests: number;
  answered: number;
  /** Answers from elsewhere than where the question went, and answers that cannot be read. */
  ignored: number;
}
