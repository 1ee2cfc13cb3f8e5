/**
 * What a node offers to the REST API and to whoever embeds it: the port through which `routes/` sees the
 * core. The node itself is in `node.ts`.
 */
import type { Strategy } from "../connect/race.ts";
import type { Endpoint } from "../ip.ts";
import type { InterfaceDescription } from "./interface.ts";
import type { NatReport, NicNatDescription } from "./nat-report.ts";
import type { Pipe } from "./pipe.ts";
import type { PortMappingReport } from "./port-mapping-report.ts";

export type { Strategy } from "../connect/race.ts";
export type RelayPolicy = "never" | "last" | "first";

export interface OpenOptions {
  /** Name of the peer's service; absent: the peer's accept queue. */
  readonly service?: string;
  readonly transport?: "tcp" | "udp";
  readonly strategies?: readonly Strategy[];
  readonly relay?: RelayPolicy;
  readonly timeoutMs?: number;
  /** How long another path is sought where one is lost, in milliseconds; by default as the node is configured. */
  readonly resumeForMs?: number;
}

export interface TimelineEntry {
  /** Milliseconds since the open was asked for. */
  readonly ms: number;
  readonly strategy: Strategy;
  readonly candidate: string;
  readonly event: string;
  readonly detail: string;
}

/** One open connection under its name. Figures are of the moment they are read. */
export interface Connection {
  readonly name: string;
  readonly direction: "out" | "in";
  readonly peer: { readonly id: string; readonly name?: string };
  readonly service?: string;
  readonly strategy: Strategy;
  /** `direct/tcp`, `punch/udp`, … */
  readonly path: string;
  readonly transport: "tcp" | "udp";
  readonly cipher: string;
  /** Milliseconds that opening took: from the request, or the accepted connection, to the first usable pipe. */
  readonly openedMs: number;
  readonly timeline: readonly TimelineEntry[];
  /** What this side's punches have sent to open it: all, probes over UDP, SYNs, requests to STUN servers. */
  readonly cost: {
    readonly packets: number;
    readonly datagrams: number;
    readonly syns: number;
    readonly stunRequests: number;
  };
  readonly route: {
    readonly af: 2 | 10;
    readonly nic_ips: readonly string[];
    readonly ext_ips: readonly string[];
  };
  readonly nic: { readonly name: string; readonly offset: number };
  readonly rttMs: number;
  /** The peer's wall clock minus ours in milliseconds, right to within half of `rttMs`; where signals measured it. */
  readonly clock?: { readonly offsetMs: number; readonly rttMs: number } | undefined;
  readonly pipe: Pipe;
}

export interface ServiceDescription {
  readonly name: string;
  readonly kind: "echo" | "discard" | "tcp";
  readonly to?: Endpoint;
  /** Ids that may use it; absent: every peer. */
  readonly allow?: readonly string[];
  readonly connections: number;
  readonly bytes: number;
}

/** A name of the address book. */
export interface PeerDescription {
  readonly name: string;
  readonly id: string;
  /** Its address line, where the name stands for one. */
  readonly address?: string;
}

/** Something that `/p2p/events` tells. `data` is plain JSON. */
export interface NodeEvent {
  readonly event: "ready" | "incoming" | "opened" | "moved" | "closed" | "network" | "status";
  readonly data: Readonly<Record<string, unknown>>;
}

/** State of one part of the node, in words. */
export interface StatusPart {
  readonly part: string;
  readonly state: "up" | "starting" | "down" | "off";
  readonly detail: string;
}

export interface NodeApi {
  /** Compressed public key in base64url. */
  readonly id: string;
  readonly version: string;
  /** The node's address line. */
  address(): string;
  /** The NICs, each with what is known of the NAT in front of it. */
  interfaces(): readonly (InterfaceDescription & { readonly nat: NicNatDescription | null })[];
  /** What is known of the NATs in front of the NICs; waits for what is being measured unless `wait` is false. */
  nat(wait?: boolean): Promise<NatReport>;
  /** Measures them again. */
  refreshNat(): Promise<NatReport>;
  status(): readonly StatusPart[];
  /** What routers forward to this node, and what was tried. */
  portMapping(): PortMappingReport;
  /** Asks the routers anew; resolves when they have answered or been given up. */
  refreshPortMapping(): Promise<PortMappingReport>;
  /**
   * Opens a connection and keeps it under `name`. Rejects with `bad-argument`, `reserved-name`, `name-taken`
   * or `connect-failed` (whose `detail` has `attempts` and `timeline`).
   */
  open(name: string, target: string, options?: OpenOptions): Promise<Connection>;
  /** The connection of that name; throws `no-such-connection`. */
  connection(name: string): Connection;
  connections(): readonly Connection[];
  /** Ends both directions and forgets the name; throws `no-such-connection`. */
  close(name: string): Promise<void>;
  /**
   * The next incoming connection that names no service, under a name of its own. Resolves to undefined when
   * `timeoutMs` passes or `signal` fires.
   */
  accept(timeoutMs: number, signal?: AbortSignal): Promise<Connection | undefined>;
  /** Calls `listener` with every event from now on; returns how to stop that. */
  subscribe(listener: (event: NodeEvent) => void): () => void;
  services(): readonly ServiceDescription[];
  /** Offers a local TCP port; replaces a service of that name. Throws `bad-argument`, `reserved-name`. */
  putService(name: string, to: string, allow?: readonly string[]): ServiceDescription;
  /** Throws `no-such-service`, or `reserved-name` for the built-in ones. */
  deleteService(name: string): void;
  /** The address book. */
  peers(): readonly PeerDescription[];
  /** Notes a node by its id or address line; replaces one of that name. Throws `bad-argument`, `reserved-name`. */
  putPeer(name: string, to: string): PeerDescription;
  /** Throws `no-such-peer`. */
  deletePeer(name: string): void;
}
