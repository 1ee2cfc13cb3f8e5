/**
 * Connections between clients and peers over TCP allocations (RFC 6062): made by a Connect request or accepted at the
 * relayed address, each waiting a while for the client's own connection that takes it over. Octets are carried by whoever
 * holds the streams.
 */
import type { Endpoint } from "../ip.ts";
import { attribute } from "../wire/stun-attributes.ts";
import { encodeStun } from "../wire/stun.ts";
import { CONNECTION_ATTEMPT, CONNECTION_ID, XOR_PEER_ADDRESS } from "../wire/turn.ts";
import type { Allocation, ClientPath, Connection, ConnectReply, PeerLink, Relay } from "./turn-parts.ts";

/** RFC 6062 sections 5.2 and 5.3: how long a connection waits for its client, and a connect for its peer. */
const WAIT_MS = 30_000;
/** More than this at once, waiting or joined, are refused to one allocation. */
const CONNECTIONS_MAX = 64;

export interface Connections {
  /** Connects to a peer for its client; `reply` hears the id, or an error code. */
  connect(allocation: Allocation, peer: Endpoint, nowMs: number, reply: ConnectReply): void;
  peerConnected(connection: Connection, link: PeerLink, nowMs: number): void;
  peerFailed(connection: Connection): void;
  /** A peer came to a relayed address; false: it is not welcome. */
  peerAccepted(relay: Relay, link: PeerLink, nowMs: number): boolean;
  /** A peer's connection ended before or after it was joined. */
  linkClosed(link: PeerLink): void;
  /** The connection that `path` may take over; undefined if there is none of that id for that user. */
  take(id: number, username: string): Connection | undefined;
  /** Joins it with the client's connection. */
  bind(connection: Connection, path: ClientPath): void;
  /** Ends what belongs to an allocation that is gone. */
  drop(allocation: Allocation): void;
  sweep(nowMs: number): void;
  readonly count: number;
}

export function createConnections(random: (count: number) => Uint8Array): Connections {
  const byId = new Map<number, Connection>();
  const byLink = new Map<PeerLink, Connection>();

  function add(
    allocation: Allocation,
    peer: Endpoint,
    state: Connection["state"],
    nowMs: number,
    reply?: ConnectReply,
  ): Connection {
    let id = 0;
    while (id === 0 || byId.has(id)) id = Buffer.from(random(4)).readUInt32BE();
    const connection: Connection = {
      id,
      allocation,
      peer,
      state,
      deadlineMs: nowMs + WAIT_MS,
      link: undefined,
      ...(reply === undefined ? {} : { request: { reply } }),
    };
    byId.set(id, connection);
    allocation.connections.set(id, connection);
    return connection;
  }

  function forget(connection: Connection): void {
    byId.delete(connection.id);
    connection.allocation.connections.delete(connection.id);
    if (connection.link !== undefined) byLink.delete(connection.link);
  }

  function end(connection: Connection): void {
    forget(connection);
    connection.link?.abort();
    if (connection.state === "connecting") connection.request?.reply({ code: 447 });
  }

  return {
    connect(allocation, peer, nowMs, reply) {
      const relay = [...allocation.relays.values()].find(
        ({ family }) => family === (peer.ip.includes(":") ? 6 : 4),
      );
      if (relay === undefined) return reply({ code: 443 });
      for (const other of allocation.connections.values()) {
        if (other.peer.ip === peer.ip && other.peer.port === peer.port) return reply({ code: 446 });
      }
      if (allocation.connections.size >= CONNECTIONS_MAX) return reply({ code: 508 });
      const connection = add(allocation, peer, "connecting", nowMs, reply);
      if (relay.socket?.connect === undefined) return end(connection);
      relay.socket.connect(connection);
    },
    peerConnected(connection, link, nowMs) {
      if (byId.get(connection.id) !== connection) return link.abort();
      connection.state = "waiting";
      connection.deadlineMs = nowMs + WAIT_MS;
      connection.link = link;
      byLink.set(link, connection);
      connection.request?.reply({ id: connection.id });
    },
    peerFailed(connection) {
      if (byId.get(connection.id) === connection) end(connection);
    },
    peerAccepted({ allocation }, link, nowMs) {
      const permission = allocation.permissions.get(link.remote.ip);
      if (permission === undefined || permission.expiresMs <= nowMs) return false;
      if (allocation.connections.size >= CONNECTIONS_MAX) return false;
      const connection = add(allocation, link.remote, "waiting", nowMs);
      connection.link = link;
      byLink.set(link, connection);
      allocation.path.send(
        encodeStun({
          class: "indication",
          method: CONNECTION_ATTEMPT,
          transactionId: random(12),
          attributes: [attribute(CONNECTION_ID, connection.id), attribute(XOR_PEER_ADDRESS, link.remote)],
        }),
      );
      return true;
    },
    linkClosed(link) {
      const connection = byLink.get(link);
      if (connection !== undefined) forget(connection);
    },
    take(id, username) {
      const connection = byId.get(id);
      if (connection?.state !== "waiting" || connection.allocation.username !== username) return undefined;
      return connection;
    },
    bind(connection, path) {
      connection.state = "bound";
      path.join?.(connection.link as PeerLink);
    },
    drop(allocation) {
      for (const connection of allocation.connections.values()) end(connection);
    },
    sweep(nowMs) {
      for (const connection of byId.values()) {
        if (connection.state !== "bound" && connection.deadlineMs <= nowMs) end(connection);
      }
    },
    get count() {
      return byId.size;
    },
  };
}
