/**
 * The side of a relayed path that has the allocation: lets the peer in and waits for it at the relayed address. Over a
 * TCP allocation the peer comes by TCP and TLS runs end to end; over a UDP allocation QUIC does, through a bridge. The
 * server sees neither.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, type Family, familyOf, formatEndpoint } from "../ip.ts";
import type { Credentials, QuicPath, SecureStream, World } from "../net/world.ts";
import type { OpenTurn } from "../turn/open-turn.ts";
import { ownPath } from "./owned-path.ts";
import type { Note } from "./race.ts";
import { RelayBridge } from "./relay-bridge.ts";

export interface RelayedPath {
  readonly stream: SecureStream;
  readonly transport: "tcp" | "udp";
  /** About one round trip, in milliseconds. */
  readonly rttMs: number;
}

/** Our allocations, from whichever servers are configured. */
export interface RelaySource {
  readonly isAny: boolean;
  /** Rejects with the reasons of all servers. */
  open(relayed: "tcp" | "udp", family: Family): Promise<OpenTurn>;
}

export interface HoldOptions {
  readonly transport: "tcp" | "udp";
  readonly credentials: Credentials;
  /** Compressed key that the peer must prove. */
  readonly peerKey: Uint8Array;
  readonly note: Note;
}

export interface HeldRelay {
  /** The relayed address. */
  readonly at: Endpoint;
  /** Resolves with the path of the peer, which owns the allocation from then on; rejects when the allocation ends. */
  readonly arrived: Promise<RelayedPath>;
  /** Lets the peer in from these addresses. */
  permit(ips: readonly string[]): void;
  /** Gives the allocation back, unless a path has it. */
  close(): void;
}

/** Peers that connect to a TCP allocation at a time, before one of them has proved its key. */
const MAX_STRANGERS = 4;
const HANDSHAKE_TIMEOUT_MS = 10_000;
const LOOPBACK = "127.0.0.1";

/** Takes over `turn`. Rejects as `World.openQuic` does. */
export async function holdRelay(world: World, turn: OpenTurn, options: HoldOptions): Promise<HeldRelay> {
  const { note, transport } = options;
  const [at] = turn.relayed as [Endpoint];
  const { promise: arrived, resolve, reject } = Promise.withResolvers<RelayedPath>();
  arrived.catch(() => undefined);
  const stopping = new AbortController();
  let isTaken = false;
  const take = (path: RelayedPath): void => {
    if (isTaken || stopping.signal.aborted) {
      path.stream.abort(new P2pdError("aborted", "another path was faster"));
      return;
    }
    isTaken = true;
    resolve(path);
  };
  const fail = (error: P2pdError): void => {
    stopping.abort();
    reject(error);
  };
  const setting = { world, turn, options, take, fail, signal: stopping.signal };
  const below = transport === "tcp" ? holdTcp(setting) : await holdUdp(setting);
  const asked = new Set<string>();
  return {
    at,
    arrived,
    permit(ips) {
      for (const ip of ips) {
        if (asked.has(ip) || familyOf(ip) !== familyOf(at.ip) || asked.size >= MAX_PERMITTED) continue;
        asked.add(ip);
        turn.permit([ip]).catch((thrown: unknown) => {
          if (!stopping.signal.aborted) note("not let in", `${ip}: ${toP2pdError(thrown).message}`);
        });
      }
    },
    close() {
      if (isTaken) return;
      fail(new P2pdError("aborted", "opening was given up"));
      below.close();
    },
  };
}

/** Addresses that are let in. */
const MAX_PERMITTED = 24;

interface Setting {
  readonly world: World;
  readonly turn: OpenTurn;
  readonly options: HoldOptions;
  readonly take: (path: RelayedPath) => void;
  readonly fail: (error: P2pdError) => void;
  readonly signal: AbortSignal;
}

function holdTcp({ world, turn, options, take, fail, signal }: Setting): { close(): void } {
  const { credentials, peerKey, note } = options;
  let strangers = 0;
  let standing: SecureStream | undefined;
  const below = { close: (): void => void turn.close() };
  const receive = async (id: number, peer: Endpoint): Promise<void> => {
    const began = world.time.now();
    const raw = await turn.accept(id, peer);
    note("connected", `from ${formatEndpoint(peer)}`);
    const limits = { timeoutMs: HANDSHAKE_TIMEOUT_MS, signal };
    const secured = await world.secure(raw, { role: "server", credentials, expectedKey: peerKey, ...limits });
    const stream = ownPath(world.time, secured, below, { local: turn.link.local });
    standing ??= secured;
    take({ stream, transport: "tcp", rttMs: world.time.now() - began });
  };
  turn.attach({
    message: () => undefined,
    attempt(id, peer) {
      if (strangers >= MAX_STRANGERS || signal.aborted || standing !== undefined) return;
      strangers++;
      receive(id, peer)
        .catch((thrown: unknown) => {
          if (!signal.aborted) note("turned away", `${formatEndpoint(peer)}: ${toP2pdError(thrown).message}`);
        })
        .finally(() => strangers--);
    },
    closed(error) {
      standing?.abort(error);
      fail(error);
    },
  });
  return below;
}

async function holdUdp({ world, turn, options, take, fail }: Setting): Promise<{ close(): void }> {
  const { credentials, peerKey, note } = options;
  let standing: QuicPath | undefined;
  let beganAt: number | undefined;
  if (world.openQuic === undefined) throw new P2pdError("unsupported", "this node has no QUIC");
  const endpoint = await world.openQuic({
    local: { ip: LOOPBACK, port: 0 },
    credentials,
    accept(path) {
      if (Buffer.compare(path.peerKey, peerKey) !== 0) {
        note("turned away", "whoever came to the relay proved another key");
        path.abort(new P2pdError("peer-key", "not the peer that was asked"));
        return;
      }
      if (standing !== undefined) return path.abort(new P2pdError("aborted", "another path was faster"));
      standing = path;
      const remote = bridge.peerAt(path.remote) ?? path.remote;
      const stream = ownPath(world.time, path, below, { local: turn.link.local, remote });
      take({ stream, transport: "udp", rttMs: world.time.now() - (beganAt ?? world.time.now()) });
    },
  });
  const bridge = new RelayBridge(
    world,
    turn,
    () => {
      beganAt ??= world.time.now();
      return endpoint.local;
    },
    (error) => {
      standing?.abort(error);
      fail(error);
    },
  );
  const below = {
    close(): void {
      bridge.close();
      void endpoint.close();
      void turn.close();
    },
  };
  return below;
}
