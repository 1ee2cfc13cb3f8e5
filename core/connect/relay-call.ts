/**
 * The side of a relayed path that comes to the other's relayed address: by itself, and where that does not succeed, from
 * an allocation of its own, which passes where nothing but its TURN server can be reached.
 */
import { type ErrorCode, P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, familyOf, formatEndpoint, inPrefix, scopeOf } from "../ip.ts";
import type { Credentials, QuicEndpoint, SecureStream, World } from "../net/world.ts";
import type { OpenTurn } from "../turn/open-turn.ts";
import type { Address } from "../wire/address.ts";
import { ownPath } from "./owned-path.ts";
import { pause } from "./pause.ts";
import type { OwnNetworks } from "./plan.ts";
import type { BarePath, Note } from "./race.ts";
import { RelayBridge } from "./relay-bridge.ts";
import type { RelaySource } from "./relay-hold.ts";

export interface CallRelayOptions {
  readonly at: Endpoint;
  readonly transport: "tcp" | "udp";
  readonly credentials: Credentials;
  readonly peerKey: Uint8Array;
  /** Where QUIC leaves from; absent where UDP is blocked. */
  readonly quic?: QuicEndpoint | undefined;
  /** Of allocations of our own. */
  readonly source: RelaySource;
  /** Tells the other side from where an allocation of ours comes; called several times. */
  readonly comesFrom: (ips: readonly string[]) => void;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly note: Note;
}

/** So long the plain way has the field. */
const OWN_AFTER_MS = 1000;
/** What the signal by which the other side lets us in takes. */
const LET_IN_MS = 150;
/** That signal is not answered, and lost where no broker has the other side: it goes again after this, and its doubles. */
const TOLD_AGAIN_MS = 500;
const TOLD_TIMES = 4;
/** Connections to a relayed address by TCP, one after another, and what lies between them. */
const TCP_TRIES = 8;
const AGAIN_MS = 200;
const TURNED_AWAY: readonly ErrorCode[] = ["refused", "closed", "unreachable"];
const LOOPBACK = "127.0.0.1";

/**
 * Why a relayed address that a peer names is not connected to: it must be public, or in a network that both are in, so
 * that nobody can use us to knock inside of ours. Undefined: it may be connected to.
 */
export function refuseRelay(at: Endpoint, peer: Address, own: OwnNetworks): string | undefined {
  const scope = scopeOf(at.ip);
  if (scope === "public") return undefined;
  const isHere = own.nics.some(
    ({ up, addresses }) => up && addresses.some(({ ip, prefixLength }) => inPrefix(at.ip, ip, prefixLength)),
  );
  const isShared =
    peer.machine === own.machine ||
    own.nics.some(({ up, addresses }) =>
      addresses.some(
        ({ ip, prefixLength }) =>
          up &&
          inPrefix(at.ip, ip, prefixLength) &&
          peer.nics.some(({ address }) => inPrefix(address, ip, prefixLength)),
      ),
    );
  const isPlain = scope === "private" || scope === "shared" || scope === "loopback";
  return isPlain && isHere && isShared
    ? undefined
    : `the relayed address ${formatEndpoint(at)} is ${scope}, and in no network of both`;
}

/**
 * The ways to the relayed address; each settles with a path on which the peer has proved its key, or with its reason.
 * Who gives up those that are not wanted fires `signal`.
 */
export function callWays(world: World, options: CallRelayOptions): readonly Promise<BarePath>[] {
  const { signal, note, source } = options;
  const failed = new AbortController();
  const attempt = async (what: string, run: () => Promise<BarePath>): Promise<BarePath> => {
    try {
      return await run();
    } catch (thrown) {
      const { code, message, detail } = toP2pdError(thrown, "connect-failed");
      if (code !== "aborted") note("failed", `${what}: ${message}`);
      throw new P2pdError(code, `${what}: ${message}`, detail, { cause: thrown });
    }
  };
  const plain = attempt("to the relayed address", () => callPlainly(world, options));
  plain.catch(() => failed.abort());
  if (!source.isAny) return [plain];
  const own = attempt("from a relay of our own", async () => {
    await pauseUntil(world, failed.signal, signal);
    return callFromOwn(world, options);
  });
  return [plain, own];
}

/** The first path. Rejects with all reasons. */
export async function callRelay(world: World, options: CallRelayOptions): Promise<BarePath> {
  const losing = new AbortController();
  const stop = (): void => losing.abort();
  options.signal.addEventListener("abort", stop, { once: true });
  if (options.signal.aborted) stop();
  const ways = callWays(world, { ...options, signal: losing.signal });
  try {
    return await firstOf(ways, (path) => {
      path.stream.abort(new P2pdError("aborted", "another path was faster"));
    });
  } finally {
    options.signal.removeEventListener("abort", stop);
    stop();
  }
}

/** The first that succeeds; what else comes is given to `rest`. Rejects with all reasons, or with `aborted`. */
export async function firstOf<T>(ways: readonly Promise<T>[], rest: (one: T) => void): Promise<T> {
  try {
    const first = await Promise.any(ways);
    for (const way of ways) {
      way.then(
        (one) => {
          if (one !== first) rest(one);
        },
        () => undefined,
      );
    }
    return first;
  } catch (thrown) {
    const errors = (thrown as AggregateError).errors.map((error: unknown) => toP2pdError(error));
    if (errors.every(({ code }) => code === "aborted"))
      throw new P2pdError("aborted", "opening was given up");
    throw new P2pdError("connect-failed", errors.map(({ message }) => message).join("; "));
  }
}

/** Waits until the plain way has failed, or has had its time. */
async function pauseUntil(world: World, failed: AbortSignal, losing: AbortSignal): Promise<void> {
  const either = AbortSignal.any([failed, losing]);
  await pause(world, OWN_AFTER_MS, either).catch(() => undefined);
  if (losing.aborted) throw new P2pdError("aborted", "opening was given up");
}

async function callPlainly(world: World, options: CallRelayOptions): Promise<BarePath> {
  const { at, transport, peerKey, quic, timeoutMs, signal } = options;
  const began = world.time.now();
  if (transport === "udp") {
    if (quic === undefined) throw new P2pdError("unsupported", "UDP is blocked here, or there is no QUIC");
    const stream = await quic.connect({ remote: at, expectedKey: peerKey, timeoutMs, signal });
    return { stream, transport, rttMs: world.time.now() - began };
  }
  return untilLetIn(world, signal, () => connectOnce(world, options));
}

/** A server turns away whom it has not been told to let in yet: that may be behind the signal, and is tried again. */
async function untilLetIn<T>(world: World, signal: AbortSignal, run: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await run();
    } catch (thrown) {
      const { code } = toP2pdError(thrown);
      if (!TURNED_AWAY.includes(code) || tries === TCP_TRIES) throw thrown;
      await pause(world, AGAIN_MS, signal);
    }
  }
}

async function connectOnce(world: World, options: CallRelayOptions): Promise<BarePath> {
  const { at, credentials, peerKey, timeoutMs, signal } = options;
  const began = world.time.now();
  const raw = await world.connectTcp({ remote: at, timeoutMs, signal });
  const rttMs = world.time.now() - began;
  const limits = { timeoutMs, signal };
  const stream = await world.secure(raw, { role: "client", credentials, expectedKey: peerKey, ...limits });
  return { stream, transport: "tcp", rttMs };
}

async function callFromOwn(world: World, options: CallRelayOptions): Promise<BarePath> {
  const { at, transport, source, signal, comesFrom, note } = options;
  const turn = await source.open(transport, familyOf(at.ip));
  const settled = new AbortController();
  try {
    if (signal.aborted) throw new P2pdError("aborted", "opening was given up");
    const ips = turn.relayed.map(({ ip }) => ip);
    note("allocated", `a relay of our own, ${ips.join(", ")}, to come from`);
    const until = AbortSignal.any([signal, settled.signal]);
    tellAgain(world, () => comesFrom(ips), until).catch(() => undefined);
    // On one server we are let in beforehand; on another not before the signal has told of us.
    if (!ips.includes(at.ip)) await pause(world, LET_IN_MS, signal);
    return await (transport === "tcp" ? callTcp(world, turn, options) : callUdp(world, turn, options));
  } catch (thrown) {
    void turn.close();
    throw thrown;
  } finally {
    settled.abort();
  }
}

/** At once, and again. Rejects with `aborted` when the signal fires before the last time. */
async function tellAgain(world: World, tell: () => void, signal: AbortSignal): Promise<void> {
  tell();
  for (let i = 0; i < TOLD_TIMES - 1; i++) {
    await pause(world, TOLD_AGAIN_MS * 2 ** i, signal);
    tell();
  }
}

async function callTcp(world: World, turn: OpenTurn, options: CallRelayOptions): Promise<BarePath> {
  const { at, credentials, peerKey, timeoutMs, signal } = options;
  const limits = { timeoutMs, signal };
  let began = world.time.now();
  const secured = await untilLetIn(world, signal, async () => {
    const raw = await turn.connect(at);
    began = world.time.now();
    return world.secure(raw, { role: "client", credentials, expectedKey: peerKey, ...limits });
  });
  turn.attach({ message: () => undefined, closed: (error) => secured.abort(error) });
  const ends = { local: turn.link.local };
  const stream = ownPath(world.time, secured, { close: () => turn.close() }, ends);
  return { stream, transport: "tcp", rttMs: world.time.now() - began };
}

async function callUdp(world: World, turn: OpenTurn, options: CallRelayOptions): Promise<BarePath> {
  const { at, credentials, peerKey, timeoutMs, signal } = options;
  if (world.openQuic === undefined) throw new P2pdError("unsupported", "this node has no QUIC");
  const endpoint = await world.openQuic({ local: { ip: LOOPBACK, port: 0 }, credentials });
  let standing: SecureStream | undefined;
  const bridge = new RelayBridge(
    world,
    turn,
    () => endpoint.local,
    (error) => standing?.abort(error),
  );
  const close = (): void => {
    bridge.close();
    void endpoint.close();
  };
  try {
    await turn.permit([at.ip]);
    const began = world.time.now();
    const remote = await bridge.open(at);
    const path = await endpoint.connect({ remote, expectedKey: peerKey, timeoutMs, signal });
    standing = path;
    const below = {
      close(): void {
        close();
        void turn.close();
      },
    };
    const stream = ownPath(world.time, path, below, { local: turn.link.local, remote: at });
    return { stream, transport: "udp", rttMs: world.time.now() - began };
  } catch (thrown) {
    close();
    throw thrown;
  }
}
