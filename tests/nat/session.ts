/**
 * One conversation of an inside endpoint with one remote endpoint, as a router remembers it: the TCP state
 * that decides how long it lives (RFC 5382 section 5), and whether the inside spoke first. Knows no tables.
 */
import type { Endpoint } from "../../core/ip.ts";
import type { Timeouts } from "./settings.ts";

export type NatProtocol = "udp" | "tcp" | "icmp";

/** The flags of a TCP segment that a router looks at. */
export interface TcpFlags {
  readonly syn: boolean;
  readonly ack: boolean;
  readonly fin: boolean;
  readonly rst: boolean;
}

export type SessionState = "open" | "transitory" | "established" | "closing";

export interface Session {
  readonly remote: Endpoint;
  /** Whether anything went from inside to this remote: only that opens a filter. */
  outbound: boolean;
  expiresAt: number;
  state: SessionState;
  /** What TCP has shown so far, bits of SEEN. */
  seen: number;
}

const SEEN = { synOut: 1, synIn: 2, finOut: 4, finIn: 8, reset: 16 } as const;
const BOTH_SYN = SEEN.synOut | SEEN.synIn;
const BOTH_FIN = SEEN.finOut | SEEN.finIn;

export function newSession(remote: Endpoint): Session {
  return { remote, outbound: false, expiresAt: Number.NEGATIVE_INFINITY, state: "open", seen: 0 };
}

/** Notes a packet of the session. `refresh`: whether this packet may prolong its life. */
export function noteSession(
  session: Session,
  protocol: NatProtocol,
  outbound: boolean,
  flags: TcpFlags | undefined,
  now: number,
  refresh: boolean,
  timeouts: Timeouts,
): void {
  if (outbound) session.outbound = true;
  const before = session.state;
  if (protocol === "tcp" && flags !== undefined) noteFlags(session, outbound, flags);
  if (refresh || session.state !== before || session.expiresAt < now) {
    session.expiresAt = now + lifetime(protocol, session.state, timeouts);
  }
}

function noteFlags(session: Session, outbound: boolean, flags: TcpFlags): void {
  if (flags.syn && session.state === "closing") session.seen = 0; // the endpoints are used again
  if (flags.syn) session.seen |= outbound ? SEEN.synOut : SEEN.synIn;
  if (flags.fin) session.seen |= outbound ? SEEN.finOut : SEEN.finIn;
  if (flags.rst) session.seen |= SEEN.reset;
  const { seen } = session;
  if ((seen & SEEN.reset) !== 0 || (seen & BOTH_FIN) === BOTH_FIN) session.state = "closing";
  else session.state = (seen & BOTH_SYN) === BOTH_SYN ? "established" : "transitory";
}

function lifetime(protocol: NatProtocol, state: SessionState, timeouts: Timeouts): number {
  if (protocol === "udp") return timeouts.udpMs;
  if (protocol === "icmp") return timeouts.icmpMs;
  if (state === "established") return timeouts.tcpEstablishedMs;
  return state === "closing" ? timeouts.tcpClosingMs : timeouts.tcpTransitoryMs;
}
