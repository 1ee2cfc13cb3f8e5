/**
 * The side of a relayed path that has the allocation: lets the peer in and waits for it at the relayed address. Over a
 * TCP allocation the peer comes by TCP and TLS runs end to end; over a UDP allocation QUIC does, through a bridge. The
 * server sees neither.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, type Family, familyOf, formatEndpoint } from "../ip.ts";
import type { Credentials, SecureStream, World } from "../net/world.ts";
import type { OpenTurn } from "../turn/open-turn.ts";
import { ownPath } from "./owned-path.ts";
import type { BarePath, Note } from "./race.ts";
import { RelayBridge } from "./relay-bridge.ts";

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
  /** Receives each path of the peer, which chooses among them; absent: the first is taken, and others are closed. */
  readonly accept?: (path: BarePath) => void;
}

export interface HeldRelay {
  /** The relayed address. */
  readonly at: Endpoint;
  /** Resolves with the first path of the peer; rejects when the allocation ends. The allocation lasts as long as paths. */
  readonly arrived: Promise<BarePath>;
  /** Lets the peer in from these addresses. */
  permit(ips: readonly string[]): void;
  /** Gives the allocation back, unless a path has it. */
  close(): void;
}

/** Paths of the peer at a time, those included that have not proved its key. */
const MAX_PATHS = 4;
/** Addresses that are let in. */
const MAX_PERMITTED = 24;
const HANDSHAKE_TIMEOUT_MS = 10_000;
const LOOPBACK = "127.0.0.1";

/** What both carriers share. */
interface Setting {
  readonly world: World;
  readonly turn: OpenTurn;
  readonly options: HoldOptions;
  /** A path on which the peer has proved its key. */
  readonly take: (stream: SecureStream, transport: "tcp" | "udp", rttMs: number, remote: Endpoint) => void;
  /** Whether there are so many paths that no more are let in. */
  readonly isFull: () => boolean;
  readonly ended: (error: P2pdError) => void;
  readonly signal: AbortSignal;
}

/** Takes over `turn`. Rejects as `World.openQuic` does; the allocation is given back then. */
export async function holdRelay(world: World, turn: OpenTurn, options: HoldOptions): Promise<HeldRelay> {
  const { note, transport, accept } = options;
  const [at] = turn.relayed as [Endpoint];
  const { promise: arrived, resolve, reject } = Promise.withResolvers<BarePath>();
  arrived.catch(() => undefined);
  const stopping = new AbortController();
  const standing = new Set<SecureStream>();
  let isTaken = false;
  let release = (): void => undefined;

  const take: Setting["take"] = (bare, by, rttMs, remote) => {
    if (stopping.signal.aborted || (isTaken && accept === undefined)) {
      bare.abort(new P2pdError("aborted", "another path was faster"));
      return;
    }
    isTaken = true;
    standing.add(bare);
    const below = {
      close(): void {
        standing.delete(bare);
        if (standing.size === 0) release();
      },
    };
    const stream = ownPath(world.time, bare, below, { local: turn.link.local, remote });
    const path = { stream, transport: by, rttMs };
    resolve(path);
    accept?.(path);
  };
  const stop = (error: P2pdError): void => {
    stopping.abort();
    reject(error);
  };
  const setting: Setting = {
    world,
    turn,
    options,
    take,
    isFull: () => standing.size >= (accept === undefined ? 1 : MAX_PATHS),
    ended(error) {
      for (const stream of standing) stream.abort(error);
      stop(error);
    },
    signal: stopping.signal,
  };
  try {
    release = transport === "tcp" ? holdTcp(setting) : await holdUdp(setting);
  } catch (thrown) {
    void turn.close();
    throw thrown;
  }
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
      stop(new P2pdError("aborted", "opening was given up"));
      if (standing.size === 0) release();
    },
  };
}

/** Returns how to end it. */
function holdTcp({ world, turn, options, take, isFull, ended, signal }: Setting): () => void {
  const { credentials, peerKey, note } = options;
  let strangers = 0;
  const receive = async (id: number, peer: Endpoint): Promise<void> => {
    const began = world.time.now();
    const raw = await turn.accept(id, peer);
    note("connected", `from ${formatEndpoint(peer)}`);
    const limits = { timeoutMs: HANDSHAKE_TIMEOUT_MS, signal };
    const secured = await world.secure(raw, { role: "server", credentials, expectedKey: peerKey, ...limits });
    take(secured, "tcp", world.time.now() - began, peer);
  };
  turn.attach({
    message: () => undefined,
    attempt(id, peer) {
      if (strangers >= MAX_PATHS || signal.aborted || isFull()) return;
      strangers++;
      receive(id, peer)
        .catch((thrown: unknown) => {
          if (!signal.aborted) note("turned away", `${formatEndpoint(peer)}: ${toP2pdError(thrown).message}`);
        })
        .finally(() => strangers--);
    },
    closed: ended,
  });
  return () => void turn.close();
}

/** Returns how to end it. */
async function holdUdp({ world, turn, options, take, isFull, ended }: Setting): Promise<() => void> {
  const { credentials, peerKey, note } = options;
  let beganAt: number | undefined;
  if (world.openQuic === undefined) throw new P2pdError("unsupported", "this node has no QUIC");
  const endpoint = await world.openQuic({
    local: { ip: LOOPBACK, port: 0 },
    credentials,
    accept(path) {
      if (Buffer.compare(path.peerKey, peerKey) !== 0) {
        note("turned away", "whoever came to the relay proved another key");
        path.abort(new P2pdError("peer-key", "not the peer that was asked"));
      } else if (isFull()) path.abort(new P2pdError("aborted", "another path was faster"));
      else {
        const now = world.time.now();
        take(path, "udp", now - (beganAt ?? now), bridge.peerAt(path.remote) ?? path.remote);
      }
    },
  });
  const inner = (): Endpoint => {
    beganAt ??= world.time.now();
    return endpoint.local;
  };
  const bridge = new RelayBridge(world, turn, inner, ended);
  return () => {
    bridge.close();
    void endpoint.close();
    void turn.close();
  };
}
