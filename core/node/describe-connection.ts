/** What is told of a connection: where it came from, and by which NIC and route its path goes. */
import { pathName } from "../connect/race.ts";
import { noCost, packetsOf, type PunchCost } from "../connect/punch-cost.ts";
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
  readonly peerId: string;
  /** When opening it began, as `Time.now()` told it. */
  readonly beganAt: number;
  /** Grows with what becomes of the path. */
  readonly timeline: TimelineEntry[];
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
  const { name, session, direction, peerId, timeline, service, cost = noCost() } = origin;
  return {
    name,
    direction,
    get peer() {
      const known = peers.nameOf(peerId);
      return { id: peerId, ...(known === undefined ? {} : { name: known }) };
    },
    ...(service === undefined ? {} : { service }),
    get strategy() {
      return session.path.strategy;
    },
    get path() {
      return pathName(session.path);
    },
    get transport() {
      return session.path.transport;
    },
    get cipher() {
      return session.path.stream.cipher;
    },
    openedMs: Math.round((world.time.now() - origin.beganAt) * 10) / 10,
    timeline,
    get cost() {
      return { packets: packetsOf(cost), ...cost };
    },
    get route() {
      const { ip } = session.local;
      const family = familyOf(ip);
      return { af: family === 4 ? 2 : 10, nic_ips: [ip], ext_ips: network.externalOf(ip, family) } as const;
    },
    get nic() {
      return nicOf(world, session.local.ip);
    },
    get rttMs() {
      return session.rttMs;
    },
    get clock() {
      const clock = signals.clockOffset(peerId);
      return clock === undefined ? undefined : { offsetMs: clock.offsetMs, rttMs: clock.rttMs };
    },
    pipe,
  };
}

function nicOf(world: World, ip: string): Connection["nic"] {
  const nics = world.nics();
  const own = nics.findIndex(({ addresses }) => addresses.some((address) => address.ip === ip));
  const loopback = nics.findIndex(({ kind }) => kind === "loopback");
  const offset = own < 0 && scopeOf(ip) === "loopback" ? loopback : own;
  return { name: nics[offset]?.name ?? "", offset: Math.max(0, offset) };
}
