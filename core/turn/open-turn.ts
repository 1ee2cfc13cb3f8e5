/**
 * From a server's name to an allocation on it: addresses of its name, ALTERNATE-SERVER followed a few times, a new port
 * where the old one is taken (437); and of several servers asked at once, the one that answers first.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, familyOf, formatEndpoint, scopeOf } from "../ip.ts";
import type { ByteStream, Timer, World } from "../net/world.ts";
import { allocate, type AllocateOptions, type TurnAllocation } from "./turn-allocation.ts";
import { bindPeer, connectPeer } from "./turn-connections.ts";
import { turnCodeOf } from "./turn-error.ts";
import { type LinkOptions, type LinkTransport, openTurnLink } from "./turn-link.ts";
import { createTurnLogin, type Signature } from "./turn-login.ts";

/** A server as settings name it. */
export interface TurnServerAddress {
  readonly host: string;
  readonly port: number;
  readonly transport: LinkTransport;
  readonly username: string;
  readonly password: string;
}

export interface OpenTurnOptions extends AllocateOptions {
  /** Address and NIC to leave from. */
  readonly localIp?: string;
  readonly device?: string;
  /** Certificates to trust in place of the system's authorities. */
  readonly authorities?: readonly string[];
  /** What was learnt of each server's realm and nonce: kept, it saves the next allocation a round trip. */
  readonly learnt?: Map<string, Signature>;
}

export interface OpenTurn extends TurnAllocation {
  readonly from: TurnServerAddress;
  /** Of a TCP allocation: lets the server connect to a peer. */
  connect(peer: Endpoint): Promise<ByteStream>;
  /** Of a TCP allocation: takes a connection of which `attempt` told. */
  accept(connectionId: number, peer: Endpoint): Promise<ByteStream>;
}

type TurnWorld = Pick<World, "time" | "randomBytes" | "openUdp" | "connectTcp" | "secureServer" | "lookup">;

const TIMEOUT_MS = 5000;
/** RFC 8656 section 21 warns of loops; more hops than this serve nobody. */
const ALTERNATES_MAX = 3;
const NEW_PORTS_MAX = 2;

/** Rejects with the reason of the last address, as `allocate` and `openTurnLink` do. */
export async function openTurn(
  world: TurnWorld,
  from: TurnServerAddress,
  options: OpenTurnOptions,
): Promise<OpenTurn> {
  const family = options.localIp === undefined ? undefined : familyOf(options.localIp);
  const ips = await world.lookup(from.host, family);
  let last = new P2pdError("unreachable", `${from.host} has no address`);
  for (const ip of ips.slice(0, 4)) {
    try {
      return await openAt(world, from, { ip, port: from.port }, options);
    } catch (thrown) {
      last = toP2pdError(thrown);
      // Who refuses us at one address does so at the other.
      if (turnCodeOf(last) !== undefined || last.code === "aborted") throw last;
    }
  }
  throw last;
}

async function openAt(
  world: TurnWorld,
  from: TurnServerAddress,
  first: Endpoint,
  options: OpenTurnOptions,
): Promise<OpenTurn> {
  const { localIp, device, authorities, signal, learnt, timeoutMs = TIMEOUT_MS } = options;
  const seen = new Set<string>();
  let server = first;
  for (let ports = 0; ; ) {
    seen.add(formatEndpoint(server));
    const how: LinkOptions = {
      transport: from.transport,
      server,
      serverName: from.host,
      timeoutMs,
      ...(localIp === undefined ? {} : { localIp }),
      ...(device === undefined ? {} : { device }),
      ...(authorities === undefined ? {} : { authorities }),
      ...(signal === undefined ? {} : { signal }),
    };
    const link = await openTurnLink(world, how);
    // What one server calls realm and nonce is nothing to another.
    const name = `${formatEndpoint(server)} ${from.username}`;
    const login = createTurnLogin(from.username, from.password, learnt?.get(name));
    try {
      const allocation = await allocate(world, link, login, options);
      const signature = login.sign();
      if (signature !== undefined) learnt?.set(name, signature);
      // It would abort connects that come long after.
      const { signal: _, ...later } = how;
      return Object.assign(allocation, {
        from,
        connect: (peer: Endpoint) => connectPeer(world, allocation, later, login, peer),
        accept: (id: number, peer: Endpoint) => bindPeer(world, allocation, later, login, id, peer),
      });
    } catch (thrown) {
      link.close();
      const error = toP2pdError(thrown);
      const code = turnCodeOf(error);
      // It may be why: the server may have another realm by now.
      if (code === 401 || code === 437 || code === 441) learnt?.delete(name);
      const alternate = error.detail["alternate"] as Endpoint | undefined;
      const isNewPort = code === 437 && ++ports <= NEW_PORTS_MAX;
      if (alternate !== undefined) {
        const loops = seen.has(formatEndpoint(alternate)) || seen.size > ALTERNATES_MAX;
        if (loops || !mayFollow(server, alternate)) throw error;
        server = alternate;
      } else if (!isNewPort) throw error;
    }
  }
}

/** A server outside must not make us knock inside our own network. */
function mayFollow({ ip }: Endpoint, alternate: Endpoint): boolean {
  const leadsInside = scopeOf(ip) === "public" && scopeOf(alternate.ip) !== "public";
  return alternate.port !== 0 && familyOf(alternate.ip) === familyOf(ip) && !leadsInside;
}

/** A server among several. */
export interface TurnTry extends TurnServerAddress {
  /** It is asked this much later than the first, or when one before it has failed; 0 unless given. */
  readonly afterMs?: number;
  /** Address and NIC to leave from, in place of those for all. */
  readonly from?: Pick<OpenTurnOptions, "localIp" | "device">;
}

/**
 * Asks servers beside each other and keeps the allocation that comes first, from the nearest; the others are given
 * back. Rejects when none is left, with every server's reason; the code is the one that they agree on, or `unavailable`.
 * @param told what each server came to
 */
export function openNearestTurn(
  world: TurnWorld,
  servers: readonly TurnTry[],
  options: OpenTurnOptions,
  told: (server: TurnTry, outcome: OpenTurn | P2pdError) => void = () => undefined,
): Promise<OpenTurn> {
  const { promise, resolve, reject } = Promise.withResolvers<OpenTurn>();
  const errors: P2pdError[] = [];
  const waiting = new Map<TurnTry, Timer>();
  let won = false;
  if (servers.length === 0) reject(new P2pdError("unavailable", "there are no TURN servers"));
  const ask = (server: TurnTry): void => {
    waiting.get(server)?.cancel();
    waiting.delete(server);
    openTurn(world, server, { ...options, ...server.from }).then(
      (turn) => {
        told(server, turn);
        // Not called off on its way: the server would keep it for minutes.
        if (won) void turn.close();
        else resolve(turn);
        won = true;
        for (const timer of waiting.values()) timer.cancel();
        waiting.clear();
      },
      (thrown: unknown) => {
        const error = toP2pdError(thrown);
        told(server, error);
        errors.push(error);
        if (won) return;
        if (errors.length === servers.length) reject(allReasons(errors));
        for (const next of [...waiting.keys()].slice(0, 1)) ask(next);
      },
    );
  };
  for (const server of servers) {
    const { afterMs = 0 } = server;
    if (afterMs > 0)
      waiting.set(
        server,
        world.time.after(afterMs, () => ask(server)),
      );
  }
  for (const server of servers) if ((server.afterMs ?? 0) === 0) ask(server);
  return promise;
}

function allReasons(errors: readonly P2pdError[]): P2pdError {
  const [first] = errors as [P2pdError];
  const code = errors.every((error) => error.code === first.code) ? first.code : "unavailable";
  const text = [...new Set(errors.map(({ message }) => message))].join("; ");
  return new P2pdError(code, text, first.detail, { cause: first });
}
