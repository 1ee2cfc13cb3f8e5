/**
 * A TURN and STUN server without sockets (RFC 8656, RFC 6062, RFC 8489): messages and the time go in, answers and data
 * go out through the gates of `turn-parts.ts`. It decides who is served and what is relayed; allocations are kept in
 * `turn-allocations.ts`, data is carried by `relaying.ts`.
 */
import { type Endpoint, type Family, formatEndpoint } from "../ip.ts";
import type { Log } from "../log.ts";
import { createTokenBucket } from "../signal/token-bucket.ts";
import * as kinds from "../wire/stun-attributes.ts";
import {
  BINDING,
  decodeStun,
  hasAttribute,
  readAttribute,
  type StunMessage,
  unknownRequired,
} from "../wire/stun.ts";
import * as turn from "../wire/turn.ts";
import { createAnswerBudget } from "./answer-budget.ts";
import { answerBinding, type StunListener } from "./binding.ts";
import { createNonces } from "./nonces.ts";
import type { PeerVerdict } from "./peer-policy.ts";
import { createRelaying } from "./relaying.ts";
import { type AllocationLimits, type Allocations, createAllocations } from "./turn-allocations.ts";
import { createAuthentication, isRefusal } from "./turn-authentication.ts";
import { type Connections, createConnections } from "./turn-connections.ts";
import type { TurnCredentials } from "./turn-credentials.ts";
import type { Allocation, ClientPath, Relay, TurnCounts } from "./turn-parts.ts";
import { serveOnAllocation } from "./turn-permissions.ts";
import { errorOf, successOf, type TurnRequest } from "./turn-request.ts";

/** A UDP port on which clients are heard. */
export interface DatagramListener extends StunListener {
  send(bytes: Uint8Array, to: Endpoint): void;
  /** Clients with an allocation, by address and port. */
  readonly paths: Map<string, Map<number, ClientPath>>;
}

export interface TurnServerOptions {
  /** Absent: STUN only. */
  readonly turn?: {
    readonly realm: string;
    readonly credentials: TurnCredentials;
    readonly limits: AllocationLimits;
    readonly relayIps: ReadonlyMap<Family, string>;
    readonly judgePeer: (ip: string) => PeerVerdict;
    /** Binds a relay's address; `relayOpened` or `relayFailed` follows, not before this returns. */
    readonly openRelay: (relay: Relay) => void;
    /** Whether relays can forbid fragments (DONT-FRAGMENT). */
    readonly dontFragment: () => boolean;
    readonly nonceLifetimeMs?: number;
  };
  /** Whether Binding requests are answered. */
  readonly stun: boolean;
  /** Answers that strangers of one network get per second; 0: any number. */
  readonly answersPerSecond: number;
  /** Unpredictable octets. */
  readonly random: (count: number) => Uint8Array;
  /** Milliseconds since 1970. */
  readonly wallMs: () => number;
  readonly log: Log;
}

/** Times are monotonic milliseconds. Octets that go in are the caller's again when the call returns. */
export interface TurnServer {
  datagram(listener: DatagramListener, bytes: Uint8Array, from: Endpoint, nowMs: number): void;
  /** A STUN message, of a connection; false: it is none. */
  message(path: ClientPath, bytes: Uint8Array, nowMs: number): boolean;
  channelData(path: ClientPath, bytes: Uint8Array, nowMs: number): void;
  pathClosed(path: ClientPath): void;
  readonly allocations: Pick<Allocations, "relayOpened" | "relayFailed" | "all">;
  readonly connections: Pick<
    Connections,
    "peerConnected" | "peerFailed" | "peerAccepted" | "linkClosed" | "count"
  >;
  fromPeer(relay: Relay, bytes: Uint8Array, from: Endpoint, nowMs: number): void;
  /** Ends what has expired; to be called about once a second. */
  sweep(nowMs: number): void;
  /** Ends every allocation. */
  close(): void;
  readonly counts: TurnCounts;
}

const NONCE_LIFETIME_MS = 600_000;
const WARNINGS_PER_SECOND = 1;
const WARNINGS_BURST = 20;

const UNDERSTOOD: ReadonlySet<number> = new Set(
  [
    kinds.USERNAME,
    kinds.USERHASH,
    kinds.REALM,
    kinds.NONCE,
    kinds.MESSAGE_INTEGRITY,
    kinds.MESSAGE_INTEGRITY_SHA256,
    kinds.PASSWORD_ALGORITHM,
    turn.CHANNEL_NUMBER,
    turn.LIFETIME,
    turn.XOR_PEER_ADDRESS,
    turn.DATA,
    turn.REQUESTED_ADDRESS_FAMILY,
    turn.EVEN_PORT,
    turn.REQUESTED_TRANSPORT,
    turn.RESERVATION_TOKEN,
    turn.CONNECTION_ID,
  ].map(({ type }) => type),
);

const UNDERSTOOD_WITH_FRAGMENTS: ReadonlySet<number> = new Set([...UNDERSTOOD, turn.DONT_FRAGMENT.type]);

export function createTurnServer(options: TurnServerOptions): TurnServer {
  const { random, log } = options;
  const counts: TurnCounts = {
    packetsToPeers: 0,
    packetsToClients: 0,
    octetsToPeers: 0,
    octetsToClients: 0,
    dropNoPermission: 0,
    dropNoChannel: 0,
    dropOwnAddress: 0,
    dropSlowClient: 0,
    malformed: 0,
    limited: 0,
    bindings: 0,
    allocated: 0,
    expired: 0,
    errors: new Map(),
  };
  const budget = createAnswerBudget(options.answersPerSecond, Buffer.from(random(4)).readUInt32BE());
  const warnings = createTokenBucket(WARNINGS_PER_SECOND, WARNINGS_BURST, 0);
  const connections = createConnections(random);
  const allocations = createAllocations({
    limits: options.turn?.limits ?? { allocations: 0, perAccount: 0, portFirst: 1, portLast: 1 },
    relayIps: options.turn?.relayIps ?? new Map(),
    openRelay: options.turn?.openRelay ?? (() => undefined),
    random,
    counts,
    made(allocation) {
      const relays = [...allocation.relays.values()].map(({ ip, port }) => formatEndpoint({ ip, port }));
      const { path, username } = allocation;
      log.info("allocation made", {
        client: formatEndpoint(path.remote),
        over: path.transport,
        user: username,
        relays,
      });
    },
    removed(allocation, why) {
      connections.drop(allocation);
      log.info("allocation ended", { ...describe(allocation), why });
    },
  });
  const relaying = createRelaying(counts, allocations.isRelay, random);
  const authenticate =
    options.turn === undefined
      ? undefined
      : createAuthentication({
          realm: options.turn.realm,
          credentials: options.turn.credentials,
          nonces: createNonces(random(32), options.turn.nonceLifetimeMs ?? NONCE_LIFETIME_MS),
          wallMs: options.wallMs,
        });

  function refuse(
    { message, path, sender }: Pick<TurnRequest, "message" | "path"> & Partial<TurnRequest>,
    code: number,
    more: readonly kinds.Attribute[] = [],
  ): void {
    counts.errors.set(code, (counts.errors.get(code) ?? 0) + 1);
    path.send(errorOf(message, code, more, sender));
  }

  const understood = (): ReadonlySet<number> =>
    options.turn?.dontFragment() === true ? UNDERSTOOD_WITH_FRAGMENTS : UNDERSTOOD;

  function serveTurn(message: StunMessage, path: ClientPath, nowMs: number): void {
    if (authenticate === undefined) return;
    const outcome = authenticate(message, path, nowMs);
    if (isRefusal(outcome)) {
      if (!budget.take(path.remote.ip, nowMs)) {
        counts.limited++;
        return;
      }
      // Strangers must not fill the log.
      if (outcome.why !== undefined && warnings.take(nowMs)) {
        const client = formatEndpoint(path.remote);
        log.warn("request refused", { client, code: outcome.code, why: outcome.why });
      }
      return refuse({ message, path }, outcome.code, outcome.attributes);
    }
    const request: TurnRequest = { message, path, sender: outcome, nowMs };
    const unknown = unknownRequired(message, understood());
    if (unknown.length > 0) {
      return refuse(request, 420, [kinds.attribute(kinds.UNKNOWN_ATTRIBUTES, unknown)]);
    }
    if (message.method === turn.ALLOCATE) return allocations.allocate(request);
    if (message.method === turn.CONNECTION_BIND) return bindConnection(request);
    const { allocation } = path;
    if (allocation === undefined) return refuse(request, 437);
    if (allocation.username !== outcome.username) return refuse(request, 441);
    if (message.method === turn.CONNECT) return connect(request, allocation);
    const judgePeer = options.turn?.judgePeer ?? (() => "denied" as const);
    const answer = serveOnAllocation(request, allocation, allocations, judgePeer);
    if (typeof answer === "number") refuse(request, answer);
    else path.send(answer);
  }

  function connect(request: TurnRequest, allocation: Allocation): void {
    const peer = readAttribute(request.message, turn.XOR_PEER_ADDRESS);
    if (peer === undefined || peer.port === 0 || allocation.transport !== "tcp") return refuse(request, 400);
    const verdict = options.turn?.judgePeer(peer.ip) ?? "denied";
    const isRelay = verdict === "relays" && allocations.isRelay("tcp", peer.ip, peer.port);
    if (verdict !== "allowed" && !isRelay) return refuse(request, 403);
    // The answer comes when the peer does; the message's octets are gone by then.
    const kept = { ...request, message: decodeStun(request.message.bytes.slice()) as StunMessage };
    connections.connect(allocation, peer, request.nowMs, (outcome) => {
      if ("code" in outcome) refuse(kept, outcome.code);
      else request.path.send(successOf(kept, [kinds.attribute(turn.CONNECTION_ID, outcome.id)]));
    });
  }

  function bindConnection(request: TurnRequest): void {
    const { message, path, sender } = request;
    const id = readAttribute(message, turn.CONNECTION_ID);
    if (id === undefined || path.join === undefined || path.allocation !== undefined) {
      return refuse(request, 400);
    }
    const connection = connections.take(id, sender.username);
    if (connection === undefined) return refuse(request, 400);
    path.send(successOf(request, []));
    connections.bind(connection, path);
  }

  function serveBinding(
    message: StunMessage,
    from: Endpoint,
    shown: Endpoint,
    listener: DatagramListener | undefined,
    path: ClientPath | undefined,
    nowMs: number,
  ): void {
    if (!options.stun && path?.allocation === undefined) return;
    if (!budget.take(from.ip, nowMs)) {
      counts.limited++;
      return;
    }
    counts.bindings++;
    const answer = answerBinding(message, from, shown, listener, path?.other);
    if (answer.from === undefined) path?.send(answer.bytes);
    else answer.from.send(answer.bytes, answer.to);
  }

  function indication(message: StunMessage, path: ClientPath | undefined, nowMs: number): void {
    const allocation = path?.allocation;
    if (message.method !== turn.SEND || allocation?.transport !== "udp") return;
    const peer = readAttribute(message, turn.XOR_PEER_ADDRESS);
    const data = readAttribute(message, turn.DATA);
    // An indication with what we do not know is dropped (RFC 8489 section 6.3.2).
    if (peer === undefined || data === undefined || unknownRequired(message, understood()).length > 0) {
      counts.malformed++;
      return;
    }
    relaying.toPeer(allocation, peer, data, !hasAttribute(message, turn.DONT_FRAGMENT), nowMs);
  }

  return {
    datagram(listener, bytes, from, nowMs) {
      const path = listener.paths.get(from.ip)?.get(from.port);
      if (((bytes[0] as number) & 0xc0) === 0x40) {
        if (path?.allocation === undefined || bytes.length < 4) counts.dropNoChannel++;
        else relaying.fromClient(path.allocation, bytes, nowMs);
        return;
      }
      const message = decodeStun(bytes, { classic: true });
      if (typeof message === "string") {
        counts.malformed++;
      } else if (message.class === "indication") {
        indication(message, path, nowMs);
      } else if (message.class === "request") {
        if (message.method === BINDING) {
          serveBinding(message, from, listener.shown, listener, path, nowMs);
        } else if (!message.classic) {
          const client = path ?? pathOf(listener, from);
          serveTurn(message, client, nowMs);
          if (path === undefined && client.allocation !== undefined) remember(listener, client);
        }
      }
    },
    message(path, bytes, nowMs) {
      const message = decodeStun(bytes);
      if (typeof message === "string") {
        counts.malformed++;
        return false;
      }
      if (message.class === "indication") indication(message, path, nowMs);
      else if (message.class === "request") {
        if (message.method === BINDING)
          serveBinding(message, path.remote, path.local, undefined, path, nowMs);
        else serveTurn(message, path, nowMs);
      }
      return true;
    },
    channelData(path, bytes, nowMs) {
      if (path.allocation === undefined) counts.dropNoChannel++;
      else relaying.fromClient(path.allocation, bytes, nowMs);
    },
    pathClosed(path) {
      if (path.allocation !== undefined) allocations.remove(path.allocation, "closed");
    },
    allocations,
    connections,
    fromPeer: relaying.fromPeer,
    sweep(nowMs) {
      allocations.sweep(nowMs);
      connections.sweep(nowMs);
      for (const allocation of allocations.all) sweepPermissions(allocation, nowMs);
    },
    close() {
      for (const allocation of allocations.all) allocations.remove(allocation, "closed");
    },
    counts,
  };
}

/** A client that has nothing yet; it is forgotten with the datagram unless an allocation comes of it. */
function pathOf(listener: DatagramListener, remote: Endpoint): ClientPath {
  let allocation: Allocation | undefined;
  const path: ClientPath = {
    transport: "udp",
    local: listener.shown,
    remote,
    send: (bytes) => listener.send(bytes, remote),
    get allocation() {
      return allocation;
    },
    set allocation(next) {
      allocation = next;
      if (next === undefined) forget(listener, path);
    },
  };
  return path;
}

function remember(listener: DatagramListener, path: ClientPath): void {
  const { ip, port } = path.remote;
  const ports = listener.paths.get(ip) ?? new Map<number, ClientPath>();
  listener.paths.set(ip, ports.set(port, path));
}

function forget(listener: DatagramListener, { remote }: ClientPath): void {
  const ports = listener.paths.get(remote.ip);
  ports?.delete(remote.port);
  if (ports?.size === 0) listener.paths.delete(remote.ip);
}

function sweepPermissions(allocation: Allocation, nowMs: number): void {
  for (const [number, channel] of allocation.channels) {
    if (channel.expiresMs > nowMs) continue;
    allocation.channels.delete(number);
    channel.permission.channels.delete(channel.peer.port);
  }
  for (const [ip, permission] of allocation.permissions) {
    if (permission.expiresMs <= nowMs && permission.channels.size === 0) allocation.permissions.delete(ip);
  }
}

function describe({ path, username, toPeers, toClient }: Allocation): Record<string, unknown> {
  const client = formatEndpoint(path.remote);
  return { client, over: path.transport, user: username, toPeers, toClient };
}
