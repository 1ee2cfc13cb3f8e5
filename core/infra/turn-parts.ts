/**
 * What the TURN server is made of, as plain data, and its two gates to the world: the path to a client and the socket of
 * a relayed address. `turn-server.ts` decides about them, `relaying.ts` carries data between them, `turn-sockets.ts`
 * puts real sockets behind them.
 */
import type { Endpoint, Family } from "../ip.ts";
import type { PeerVerdict } from "./peer-policy.ts";

/** One client as the server hears it (a 5-tuple): a source address on a UDP port, or a connection. */
export interface ClientPath {
  readonly transport: "udp" | "tcp" | "tls";
  /** The server's address as clients know it. */
  readonly local: Endpoint;
  /** Of a connection: where the server listens as well, with another address and another port (RFC 5780). */
  readonly other?: Endpoint;
  readonly remote: Endpoint;
  /** Sends a message; over UDP `bytes` are the caller's again when it returns. */
  send(bytes: Uint8Array): void;
  /** Of a connection: joins it with a peer's, and hears of no message any more. */
  join?(peer: PeerLink): void;
  /** Set by the server. */
  allocation: Allocation | undefined;
}

/** A connection with a peer that waits for its client (RFC 6062). */
export interface PeerLink {
  readonly remote: Endpoint;
  abort(): void;
}

/** What is bound to a relayed transport address. */
export interface RelaySocket {
  /** Sends one datagram, which may be fragmented on its way or not; of a TCP relay never called. */
  send(bytes: Uint8Array, to: Endpoint, mayFragment: boolean): void;
  /** Connects to a peer from the relayed address; the outcome goes to `peerConnected` or `peerFailed`. */
  connect?(connection: Connection): void;
  close(): void;
}

export interface Relay {
  readonly allocation: Allocation;
  readonly family: Family;
  readonly transport: "udp" | "tcp";
  port: number;
  /** Address and port as peers see them. */
  readonly ip: string;
  /** Absent until it is bound. */
  socket: RelaySocket | undefined;
}

export interface Permission {
  readonly ip: string;
  readonly verdict: PeerVerdict;
  expiresMs: number;
  /** Channels to this address, by port. */
  readonly channels: Map<number, Channel>;
}

export interface Channel {
  readonly number: number;
  readonly peer: Endpoint;
  readonly permission: Permission;
  readonly relay: Relay;
  expiresMs: number;
}

/** A connection between an allocation and a peer (RFC 6062). */
export interface Connection {
  readonly id: number;
  readonly allocation: Allocation;
  readonly peer: Endpoint;
  /** Of a Connect request; absent where the peer came by itself. */
  readonly request?: { readonly reply: ConnectReply };
  state: "connecting" | "waiting" | "bound";
  deadlineMs: number;
  link: PeerLink | undefined;
}

/** Answers a Connect request once its outcome is known. */
export type ConnectReply = (outcome: { readonly id: number } | { readonly code: number }) => void;

export interface Allocation {
  readonly path: ClientPath;
  readonly username: string;
  readonly account: string;
  /** What the user's requests are signed with. */
  readonly key: Uint8Array;
  readonly passwordHash: 1 | 2;
  readonly transport: "udp" | "tcp";
  readonly createdMs: number;
  expiresMs: number;
  /** By family; one or two. */
  readonly relays: Map<Family, Relay>;
  readonly permissions: Map<string, Permission>;
  readonly channels: Map<number, Channel>;
  readonly connections: Map<number, Connection>;
  /** The Allocate request: its retransmissions get the same answer. */
  readonly transactionId: Uint8Array;
  answer: Uint8Array | undefined;
  /** Octets of data that went each way. */
  toPeers: number;
  toClient: number;
}

/** Why data was not relayed, and other things that are counted. */
export interface TurnCounts {
  packetsToPeers: number;
  packetsToClients: number;
  octetsToPeers: number;
  octetsToClients: number;
  /** From a peer, or to one, for which there is no permission. */
  dropNoPermission: number;
  /** ChannelData on a number that is not bound, or from somebody without an allocation. */
  dropNoChannel: number;
  /** To a port of this server that is no relay's, or to port 0. */
  dropOwnAddress: number;
  /** From a peer to a client over TCP or TLS that does not read as fast as its peers send. */
  dropSlowClient: number;
  /** What is no message. */
  malformed: number;
  /** Requests of strangers beyond their share. */
  limited: number;
  bindings: number;
  allocated: number;
  expired: number;
  /** Errors that were answered, by code. */
  readonly errors: Map<number, number>;
}
