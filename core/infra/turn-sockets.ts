/**
 * The TURN and STUN server on real sockets: listens on UDP, TCP and TLS, binds relayed addresses, and carries octets
 * between them and the server of `turn-server.ts`, which decides. With two addresses of a family it listens on two ports
 * of each, as RFC 5780 wants.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, type Family, familyOf, formatEndpoint } from "../ip.ts";
import type { Log } from "../log.ts";
import type { ByteStream, TcpListener, Timer, UdpSocket, World } from "../net/world.ts";
import { createPeerPolicy, type IpPrefix } from "./peer-policy.ts";
import type { AllocationLimits } from "./turn-allocations.ts";
import type { TurnCredentials } from "./turn-credentials.ts";
import type { ClientPath, Connection, Relay, RelaySocket } from "./turn-parts.ts";
import { createTurnServer, type DatagramListener, type TurnServer } from "./turn-server.ts";
import { type ClientStreams, createClientStreams, peerLink } from "./turn-streams.ts";

/** An address of this machine, and how clients see it: another where a 1:1 NAT is in front. */
export interface HostAddress {
  readonly ip: string;
  readonly shown: string;
}

export interface TurnSocketsOptions {
  /** One or two of each family. */
  readonly hosts: readonly HostAddress[];
  readonly port: number;
  /** The second port that RFC 5780 wants where a family has two addresses. */
  readonly otherPort: number;
  readonly tls?: { readonly port: number; readonly certificatePem: string; readonly privateKeyPem: string };
  readonly stun: boolean;
  readonly turn?: {
    readonly realm: string;
    readonly credentials: TurnCredentials;
    readonly limits: AllocationLimits;
    readonly allowedPeers: readonly IpPrefix[];
  };
  readonly answersPerSecond: number;
  readonly log: Log;
}

export interface TurnSockets {
  readonly server: TurnServer;
  /** What is listened on, as clients know it. */
  readonly listening: readonly { readonly transport: "udp" | "tcp" | "tls"; readonly endpoint: Endpoint }[];
  readonly streams: Pick<ClientStreams, "count">;
  close(): void;
}

/** What may come while this process is busy: of every client on a port of the server, of the peers of one relay. */
const LISTENER_BUFFER = 4 * 1024 * 1024;
const RELAY_BUFFER = 2 * 1024 * 1024;
const SWEEP_MS = 1000;
const TLS_TIMEOUT_MS = 10_000;
const PORT_TRIES = 16;
const CONNECT_TIMEOUT_MS = 30_000;
/** Connections beyond one per allocation: for requests of strangers, and those joined with peers. */
const SPARE_STREAMS = 1024;

/** Rejects with `address-in-use` or `unreachable` where an address cannot be had; nothing is left open then. */
export async function openTurnSockets(world: World, options: TurnSocketsOptions): Promise<TurnSockets> {
  for (let tries = 1; ; tries++) {
    try {
      return await openOnce(world, options);
    } catch (thrown) {
      // A port that is free for UDP need not be free for TCP; another one may.
      const isChance = options.port === 0 && toP2pdError(thrown).code === "address-in-use";
      if (!isChance || tries === PORT_TRIES) throw thrown;
    }
  }
}

async function openOnce(world: World, options: TurnSocketsOptions): Promise<TurnSockets> {
  const { hosts, log } = options;
  const { time } = world;
  const shownIps = hosts.map(({ shown }) => shown);
  const relayHosts = new Map<Family, HostAddress>();
  for (const host of hosts) {
    const family = familyOf(host.ip);
    if (!relayHosts.has(family)) relayHosts.set(family, host);
  }
  // A peer behind our own 1:1 NAT is reached by its inner address.
  const innerOf = new Map(hosts.filter(({ ip, shown }) => ip !== shown).map(({ ip, shown }) => [shown, ip]));
  const shownOf = new Map([...innerOf].map(([shown, ip]) => [ip, shown]));
  const innerFor = (peer: Endpoint): Endpoint => renamed(innerOf, peer);
  const shownAs = (peer: Endpoint): Endpoint => renamed(shownOf, peer);
  let own = ownIps(world, shownIps);
  const closers: (() => void)[] = [world.watchNics(() => (own = ownIps(world, shownIps)))];
  const listening: { transport: "udp" | "tcp" | "tls"; endpoint: Endpoint }[] = [];

  let canForbidFragments = false;
  const server = createTurnServer({
    stun: options.stun,
    answersPerSecond: options.answersPerSecond,
    random: (count) => world.randomBytes(count),
    wallMs: () => time.wallMs(),
    log,
    ...(options.turn === undefined
      ? {}
      : {
          turn: {
            ...options.turn,
            relayIps: new Map([...relayHosts].map(([family, { shown }]) => [family, shown])),
            judgePeer: createPeerPolicy({
              allowed: options.turn.allowedPeers,
              relayIps: [...relayHosts.values()].map(({ shown }) => shown),
              isOwn: (ip) => own.has(ip),
            }),
            openRelay: (relay) => void openRelay(relay),
            dontFragment: () => canForbidFragments,
          },
        }),
  });
  const streams = createClientStreams({
    server,
    time,
    log,
    max: SPARE_STREAMS + 2 * (options.turn?.limits.allocations ?? 0),
  });

  async function openRelay(relay: Relay): Promise<void> {
    const { ip } = relayHosts.get(relay.family) as HostAddress;
    const local = { ip, port: relay.port };
    try {
      const socket = relay.transport === "udp" ? await udpRelay(relay, local) : await tcpRelay(relay, local);
      server.allocations.relayOpened(relay, socket);
    } catch (thrown) {
      const { code, message } = toP2pdError(thrown);
      if (code !== "address-in-use") log.warn("no relayed address", { why: message });
      server.allocations.relayFailed(relay, code === "address-in-use");
    }
  }

  async function udpRelay(relay: Relay, local: Endpoint): Promise<RelaySocket> {
    const socket = await world.openUdp({
      local,
      receiveBufferBytes: RELAY_BUFFER,
      handlers: {
        message(bytes, from) {
          server.fromPeer(relay, bytes, shownAs(from), time.now());
        },
        error: (error) => log.debug("a relayed datagram was not delivered", { why: error.message }),
      },
    });
    let fragments = true;
    socket.allowFragments?.(true);
    return {
      send(bytes, to, mayFragment) {
        // A call to the system, where neighbours differ.
        if (mayFragment !== fragments) socket.allowFragments?.((fragments = mayFragment));
        socket.send(bytes, innerFor(to));
      },
      close: () => socket.close(),
    };
  }

  async function tcpRelay(relay: Relay, local: Endpoint): Promise<RelaySocket> {
    const abort = new AbortController();
    const listener = await world.listenTcp({
      local,
      shared: true,
      accept(stream) {
        const link = peerLink(stream, shownAs(stream.remote), relay.allocation);
        if (!server.connections.peerAccepted(relay, link, time.now())) stream.abort();
      },
    });
    async function connect(connection: Connection): Promise<void> {
      const { signal } = abort;
      const to = { remote: innerFor(connection.peer), local: listener.local, shared: true, signal };
      try {
        const stream = await world.connectTcp({ ...to, timeoutMs: CONNECT_TIMEOUT_MS });
        const link = peerLink(stream, connection.peer, relay.allocation);
        server.connections.peerConnected(connection, link, time.now());
      } catch (thrown) {
        log.debug("no connection with a peer", { why: toP2pdError(thrown).message });
        server.connections.peerFailed(connection);
      }
    }
    return {
      send() {},
      connect: (connection) => void connect(connection),
      close() {
        listener.close();
        abort.abort();
      },
    };
  }

  async function acceptTls(stream: ByteStream, local: Endpoint): Promise<void> {
    const { tls } = options;
    if (tls === undefined || world.acceptTls === undefined) return;
    try {
      streams.accept(await world.acceptTls(stream, { ...tls, timeoutMs: TLS_TIMEOUT_MS }), "tls", { local });
    } catch (thrown) {
      streams.leave(stream.remote.ip);
      log.debug("no TLS", { why: toP2pdError(thrown).message });
    }
  }

  async function listenStreams(
    host: HostAddress,
    port: number,
    transport: "tcp" | "tls",
    other?: Endpoint,
  ): Promise<void> {
    const listener: TcpListener = await world.listenTcp({
      local: { ip: host.ip, port },
      accept(stream) {
        const local = { ip: host.shown, port: listener.local.port };
        if (!streams.admit(stream.remote.ip)) stream.abort();
        else if (transport === "tls") void acceptTls(stream, local);
        else streams.accept(stream, "tcp", { local, ...(other === undefined ? {} : { other }) });
      },
    });
    closers.push(() => listener.close());
    listening.push({ transport, endpoint: { ip: host.shown, port: listener.local.port } });
  }

  try {
    for (const family of [4, 6] as const) {
      const ours = hosts.filter(({ ip }) => familyOf(ip) === family);
      const grid = await listenUdp(world, ours, options, server);
      for (const { listener, socket } of grid) {
        closers.push(() => socket.close());
        canForbidFragments = socket.allowFragments !== undefined;
        listening.push({ transport: "udp", endpoint: listener.shown });
      }
      for (const { listener, host } of grid)
        await listenStreams(host, listener.shown.port, "tcp", listener.others?.both.shown);
      if (options.tls === undefined || options.turn === undefined) continue;
      if (world.acceptTls === undefined) throw new P2pdError("unsupported", "this machine serves no TLS");
      for (const host of ours.slice(0, 1)) await listenStreams(host, options.tls.port, "tls");
    }
  } catch (thrown) {
    for (const close of closers) close();
    throw thrown;
  }

  let timer: Timer;
  const sweep = (): void => {
    server.sweep(time.now());
    streams.sweep(time.now());
    timer = time.after(SWEEP_MS, sweep, { background: true });
  };
  sweep();

  return {
    server,
    listening,
    streams,
    close() {
      timer.cancel();
      server.close();
      streams.close();
      for (const close of closers) close();
    },
  };
}

function renamed(names: ReadonlyMap<string, string>, endpoint: Endpoint): Endpoint {
  const ip = names.size === 0 ? undefined : names.get(endpoint.ip);
  return ip === undefined ? endpoint : { ip, port: endpoint.port };
}

function ownIps(world: World, shown: readonly string[]): Set<string> {
  return new Set([...shown, ...world.nics().flatMap(({ addresses }) => addresses.map(({ ip }) => ip))]);
}

interface OpenListener {
  readonly listener: DatagramListener;
  readonly socket: UdpSocket;
  readonly host: HostAddress;
}

/** Opens the UDP ports of one family: one, or the four of two addresses. */
async function listenUdp(
  world: World,
  hosts: readonly HostAddress[],
  { port, otherPort, log }: TurnSocketsOptions,
  server: TurnServer,
): Promise<OpenListener[]> {
  const open: OpenListener[] = [];
  const ports = hosts.length < 2 ? [port] : [port, otherPort];
  try {
    for (const wanted of ports) {
      for (const host of hosts) {
        const socket = await world.openUdp({
          local: { ip: host.ip, port: wanted },
          receiveBufferBytes: LISTENER_BUFFER,
        });
        const listener: DatagramListener = {
          shown: { ip: host.shown, port: socket.local.port },
          send: (bytes, to) => void socket.send(bytes, to),
          paths: new Map<string, Map<number, ClientPath>>(),
        };
        open.push({ listener, socket, host });
      }
    }
  } catch (thrown) {
    for (const { socket } of open) socket.close();
    throw thrown;
  }
  // In the order of opening: both addresses with the first port, both with the second.
  if (open.length === 4) {
    open.forEach(({ listener }, i) => {
      const at = (place: number): DatagramListener => (open[place] as OpenListener).listener;
      Object.assign(listener, { others: { ip: at(i ^ 1), port: at(i ^ 2), both: at(i ^ 3) } });
    });
  }
  for (const { listener, socket } of open) {
    socket.attach({
      message: (bytes, from) => server.datagram(listener, bytes, from, world.time.now()),
      error: (error) =>
        log.debug("an answer was not delivered", {
          from: formatEndpoint(listener.shown),
          why: error.message,
        }),
    });
  }
  return open;
}
