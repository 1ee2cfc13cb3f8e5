/**
 * The server's connections: clients over TCP and TLS, whose messages are found in the stream, and a client's connection
 * that was joined with a peer's (RFC 6062). Bounds how many there are, how long one may say nothing, and how much waits to
 * be read by a slow one.
 */
import { formatEndpoint, type Endpoint } from "../ip.ts";
import type { Log } from "../log.ts";
import type { ByteStream, Time } from "../net/world.ts";
import { createStunFrameReader } from "../wire/stun-stream.ts";
import { createAdmission } from "./admission.ts";
import type { Allocation, ClientPath, PeerLink, TurnCounts } from "./turn-parts.ts";
import type { TurnServer } from "./turn-server.ts";

export interface ClientStreams {
  /** Takes a place for a connection from `ip`; false: there is none. */
  admit(ip: string): boolean;
  /** Gives back the place of a connection that did not come to `accept`. */
  leave(ip: string): void;
  /** Takes over a connection that has a place; `transport` says whether TLS is on it, `at` as in its `ClientPath`. */
  accept(stream: ByteStream, transport: "tcp" | "tls", at: Pick<ClientPath, "local" | "other">): void;
  readonly count: number;
  /** Closes what has said nothing for too long. */
  sweep(nowMs: number): void;
  close(): void;
}

export interface StreamOptions {
  readonly server: TurnServer;
  readonly time: Time;
  readonly log: Log;
  readonly max: number;
}

/** A peer's connection, which reads nothing until it is joined. */
export interface StreamLink extends PeerLink {
  readonly stream: ByteStream;
  /** Whose octets they are. */
  readonly allocation: Allocation;
}

/** A connection without an allocation may be silent for so long. */
const IDLE_MS = 30_000;
/** More than this waits to be read by the client, and data from peers is dropped, as datagrams are. */
const BACKLOG_MAX = 1024 * 1024;
/** No message of TURN is longer. */
const MESSAGE_MAX = 65_552;

interface Client {
  readonly stream: ByteStream;
  readonly path: ClientPath;
  heardMs: number;
  isJoined: boolean;
}

export function createClientStreams({ server, time, log, max }: StreamOptions): ClientStreams {
  const clients = new Set<Client>();
  const admission = createAdmission(max);

  function accept(
    stream: ByteStream,
    transport: "tcp" | "tls",
    at: Pick<ClientPath, "local" | "other">,
  ): void {
    const path: ClientPath = {
      transport,
      ...at,
      remote: stream.remote,
      send(bytes) {
        if (stream.pendingBytes < BACKLOG_MAX) stream.write(bytes);
        else server.counts.dropSlowClient++;
      },
      join(peer) {
        client.isJoined = true;
        joinStreams(stream, peer as StreamLink, server.counts, () => {
          clients.delete(client);
          admission.leave(stream.remote.ip);
          server.connections.linkClosed(peer);
        });
      },
      allocation: undefined,
    };
    const client: Client = { stream, path, heardMs: time.now(), isJoined: false };
    clients.add(client);
    // Behind a ConnectionBind nothing may come before its answer (RFC 6062 section 4.3): it would be neither's.
    const unlessJoined = (serve: () => void): void => (client.isJoined ? stream.abort() : serve());
    const reader = createStunFrameReader(
      {
        stun: (bytes) => unlessJoined(() => void server.message(path, bytes, time.now())),
        channelData: (bytes) => unlessJoined(() => server.channelData(path, bytes, time.now())),
      },
      MESSAGE_MAX,
    );
    const leave = (): void => {
      clients.delete(client);
      admission.leave(stream.remote.ip);
      server.pathClosed(path);
    };
    stream.attach({
      data(bytes) {
        client.heardMs = time.now();
        const fault = reader.push(bytes);
        if (client.isJoined && reader.heldBytes > 0) stream.abort();
        if (fault === undefined) return;
        server.counts.malformed++;
        log.debug("connection closed", { client: formatEndpoint(stream.remote), why: fault });
        stream.abort();
      },
      drain() {},
      end: () => stream.end(),
      close: leave,
    });
  }

  return {
    accept,
    admit: (ip) => admission.admit(ip),
    leave: (ip) => admission.leave(ip),
    get count() {
      return admission.count;
    },
    sweep(nowMs) {
      for (const { stream, path, heardMs, isJoined } of clients) {
        if (path.allocation === undefined && !isJoined && nowMs - heardMs > IDLE_MS) stream.abort();
      }
    },
    close() {
      for (const { stream } of clients) stream.abort();
    },
  };
}

export function peerLink(stream: ByteStream, remote: Endpoint, allocation: Allocation): StreamLink {
  return { stream, allocation, remote, abort: () => stream.abort() };
}

function joinStreams(
  client: ByteStream,
  { stream: peer, allocation }: StreamLink,
  counts: TurnCounts,
  ended: () => void,
): void {
  let open = 2;
  const pass = (from: ByteStream, to: ByteStream, count: (octets: number) => void) => ({
    data(bytes: Uint8Array) {
      count(bytes.length);
      if (!to.write(bytes)) from.pause();
    },
    drain: () => to.resume(),
    end: () => to.end(),
    close(error?: Error) {
      if (error !== undefined) to.abort();
      open--;
      if (open === 0) ended();
    },
  });
  client.attach(
    pass(client, peer, (octets) => {
      counts.octetsToPeers += octets;
      allocation.toPeers += octets;
    }),
  );
  peer.attach(
    pass(peer, client, (octets) => {
      counts.octetsToClients += octets;
      allocation.toClient += octets;
    }),
  );
}
