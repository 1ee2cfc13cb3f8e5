/** What is told of a connection: where it came from, and by which NIC and route its path goes. */
import { noCost, packetsOf, type PunchCost } from "../connect/punch-cost.ts";
import type { Strategy } from "../connect/race.ts";
import { familyOf, scopeOf } from "../ip.ts";
import type { World } from "../net/world.ts";
import type { Network } from "./network.ts";
import type { Connection, TimelineEntry } from "./node-api.ts";
import type { Pipe } from "./pipe.ts";
import type { Peers } from "./peers.ts";
import type { Session } from "./session.ts";
import type { Signals } from "./signals.ts";

/** What a session brings with it to become a connection. */
export interface Origin {
  readonly name: string;
  readonly session: Session;
  readonly direction: "out" | "in";
  readonly strategy: Strategy;
  readonly transport: "tcp" | "udp";
  /** As `Path.via`. */
  readonly via?: string;
  readonly peerId: string;
  readonly cipher: string;
  /** Of the handshake, in milliseconds. */
  readonly rttMs: number;
  /** When opening it began, as `Time.now()` told it. */
  readonly beganAt: number;
  readonly timeline: readonly TimelineEntry[];
  /** Of the punches that opening took; absent where there was none. */
  readonly cost?: PunchCost | undefined;
  readonly service?: string;
}

export interface ConnectionContext {
  readonly world: World;
  readonly network: Network;
  readonly signals: Signals;
  readonly peers: Peers;
}

export function describeConnection(
  { world, network, signals, peers }: ConnectionContext,
  pipe: Pipe,
  origin: Origin,
): Connection {
  const { name, session, direction, peerId, cipher, rttMs, timeline, service, cost = noCost() } = origin;
  const { ip } = pipe.local;
  const family = familyOf(ip);
  const nics = world.nics();
  const own = nics.findIndex(({ addresses }) => addresses.some((address) => address.ip === ip));
  const loopback = nics.findIndex(({ kind }) => kind === "loopback");
  const offset = own < 0 && scopeOf(ip) === "loopback" ? loopback : own;
  return {
    name,
    direction,
    get peer() {
      const known = peers.nameOf(peerId);
      return { id: peerId, ...(known === undefined ? {} : { name: known }) };
    },
    ...(service === undefined ? {} : { service }),
    strategy: origin.strategy,
    path: `${origin.strategy}/${origin.via ?? origin.transport}`,
    transport: origin.transport,
    cipher,
    openedMs: Math.round((world.time.now() - origin.beganAt) * 10) / 10,
    timeline,
    get cost() {
      return { packets: packetsOf(cost), ...cost };
    },
    route: { af: family === 4 ? 2 : 10, nic_ips: [ip], ext_ips: network.externalOf(ip, family) },
    nic: { name: nics[offset]?.name ?? "", offset: Math.max(0, offset) },
    get rttMs() {
      return Math.min(session.rttMs ?? rttMs, rttMs);
    },
    get clock() {
      const clock = signals.clockOffset(peerId);
      return clock === undefined ? undefined : { offsetMs: clock.offsetMs, rttMs: clock.rttMs };
    },
    pipe,
  };
}
