/**
 * When one side of a TCP punch sends which SYN, and which of several connections it takes: a machine without I/O,
 * fed with what happened and asked what is to be done. `punch-tcp.ts` does it.
 *
 * Nobody waits for a meeting time. A SYN that arrives too early is dropped by the other side's NAT, and ours lives on
 * until the other's comes: both are then in SYN-SENT, and the connection stands (RFC 9293 section 3.5). Where an
 * early SYN is refused, by RST or ICMP, the next one leaves at once, so that one is always on its way: whatever
 * moment the other side begins at, the two cross. A SYN that was lost is repeated sooner than the system would.
 *
 * The caller is TLS client and proves keys on one connection at a time; the called one is TLS server on all. So at
 * most one connection ever gets the caller's last handshake message, and both ends take the same one.
 */
import type { ErrorCode } from "../errors.ts";
import { ANY_PORT, type PunchPart, type PunchPlan, type PunchShot, UNKNOWN_PORT } from "../nat/punch-plan.ts";
import { SEARCH_PACE_MS } from "./punch-limits.ts";

export type PunchTcpAction =
  /** Connect as the shot says, and give up after `forMs`. */
  | { readonly kind: "connect"; readonly shot: number; readonly forMs: number }
  /** Prove keys on a connection that stands. */
  | { readonly kind: "secure"; readonly hole: number; readonly forMs: number }
  /** Close a connection: there are too many. */
  | { readonly kind: "drop"; readonly hole: number };

export interface PunchTcpSettings {
  readonly role: "caller" | "called";
  readonly method: PunchPlan["method"];
  readonly shots: readonly TimedShot[];
  /** About one round trip between the two, in milliseconds. */
  readonly rttMs: number;
  /** When all of it ends, on the clock of `now`. */
  readonly deadline: number;
  /** SYNs at most, those that the system repeats left aside. */
  readonly maxSyns: number;
}

/** A shot, and how long after the start it leaves. */
export interface TimedShot extends PunchShot {
  readonly afterMs: number;
}

export interface PunchTcpCounts {
  /** Connection attempts that were begun. */
  readonly attempts: number;
  /** SYNs that left, those counted in that the system repeated of itself, as far as its schedule is known. */
  readonly syns: number;
  /** Answered by RST or ICMP. */
  readonly refused: number;
  /** Given up unanswered. */
  readonly unanswered: number;
}

export interface PunchTcpMachine {
  /** What is to be done now. */
  act(now: number): readonly PunchTcpAction[];
  /** When to ask again if nothing happens; undefined: never. */
  readonly nextAt: number | undefined;
  /** An attempt came to nothing. */
  failed(now: number, shot: number, code: ErrorCode): void;
  /** A connection stands: made by a shot, or one that came in, between the ports of a shot or others. */
  opened(now: number, hole: number, shot?: number): void;
  /** Keys were not proved on a connection, which is closed. */
  unproved(now: number, hole: number, code: ErrorCode): void;
  readonly counts: PunchTcpCounts;
  /** Why nothing can come of it any more; undefined: something may. */
  readonly hopeless: string | undefined;
}

/** Connections that wait for TLS at a time; what comes beyond them is no peer's doing. */
const MAX_HOLES = 16;
/** A port that is searched for keeps its socket so long; the NAT's filter stays open for longer than that. */
const SEARCH_LIFE_MS = 900;
const SEARCH_RETRY_MS = 1000;
/** Of shots that the other side cannot aim at: so many more, some evenly and the rest ever further apart. */
const UNSEEN_SHOTS = 24;
const UNSEEN_EVENLY = 10;
const UNSEEN_PACE_MS = 50;
const UNSEEN_GROWTH = 1.2;
/** Between the first SYN and one after it was refused; refusals from next door come in microseconds. */
const LEAST_GAP_MS = 20;
const GAP_GROWTH = 1.25;
const LONGEST_GAP_MS = 250;
/** Our connection from that port to that port is there already, and comes in by the listener. */
const TAKEN_GAP_MS = 50;
const LEAST_PATIENCE_MS = 300;
const LONGEST_PATIENCE_MS = 4000;
const LEAST_PROOF_MS = 1000;
/** The system repeats a SYN about every second. */
const SYSTEM_REPEATS_MS = 1000;

interface Shot {
  /** When its next SYN is due; undefined while it is connecting, stands, or is over. */
  dueAt: number | undefined;
  startedAt: number;
  tries: number;
  refusals: number;
  isConnecting: boolean;
  hole: number | undefined;
}

/**
 * When each shot of a part leaves. A shot that the other side cannot aim at must come after the other's has opened its
 * filter, whenever that is: more follow from ports of their own, so that none disturbs another.
 */
export function timeShots(
  role: PunchTcpSettings["role"],
  method: PunchPlan["method"],
  { shots, appearsAs }: PunchPart,
  rttMs: number,
): readonly TimedShot[] {
  if (method === "search") return shots.map((shot, i) => ({ ...shot, afterMs: i * SEARCH_PACE_MS }));
  const first = shots.map((shot) => ({ ...shot, afterMs: 0 }));
  const unseen = shots.find((_, i) => appearsAs[i] === UNKNOWN_PORT);
  if (unseen === undefined) return first;
  // The caller begins last, and is hardly ever too early.
  const startMs = role === "called" ? 0 : 2 * rttMs;
  const more: TimedShot[] = [];
  let afterMs = startMs;
  for (let i = 0; i < UNSEEN_SHOTS; i++) {
    afterMs += i < UNSEEN_EVENLY ? UNSEEN_PACE_MS : UNSEEN_PACE_MS * UNSEEN_GROWTH ** (i - UNSEEN_EVENLY + 1);
    more.push({ localPort: ANY_PORT, remotePort: unseen.remotePort, afterMs });
  }
  return [...first, ...more];
}

export function createPunchTcpMachine(settings: PunchTcpSettings, now: number): PunchTcpMachine {
  const { role, method, deadline, maxSyns, rttMs } = settings;
  const isSearch = method === "search";
  const targets = new Set(settings.shots.map(({ remotePort }) => remotePort));
  /** Of a search: the side that opens many ports of its own towards one, and waits in them. */
  const isWaiting = isSearch && targets.size === 1;
  const patienceMs = Math.max(LEAST_PATIENCE_MS, 2 * rttMs) * (role === "caller" ? 1 : 1.5);
  const proofMs = Math.max(LEAST_PROOF_MS, 4 * rttMs);
  const shots = settings.shots.map(
    ({ afterMs }): Shot => ({
      dueAt: now + afterMs,
      startedAt: now,
      tries: 0,
      refusals: 0,
      isConnecting: false,
      hole: undefined,
    }),
  );
  const proving = new Set<number>();
  const standing: number[] = [];
  const shotOf = new Map<number, Shot>();
  const counts = { attempts: 0, syns: 0, refused: 0, unanswered: 0 };

  function lifeOf(shot: Shot, at: number): number {
    const left = Math.max(1, deadline - at);
    if (isWaiting) return left;
    if (isSearch) return Math.min(left, SEARCH_LIFE_MS);
    return Math.min(left, patienceMs * 2 ** shot.tries, LONGEST_PATIENCE_MS);
  }

  function act(at: number): readonly PunchTcpAction[] {
    const actions: PunchTcpAction[] = [];
    for (const [i, shot] of shots.entries()) {
      if (shot.dueAt === undefined || shot.dueAt > at || at >= deadline) continue;
      shot.dueAt = undefined;
      if (counts.attempts >= maxSyns) continue;
      actions.push({ kind: "connect", shot: i, forMs: lifeOf(shot, at) });
      counts.attempts++;
      counts.syns++;
      shot.tries++;
      shot.startedAt = at;
      shot.isConnecting = true;
    }
    for (const hole of standing.splice(Math.max(0, MAX_HOLES - proving.size))) {
      const shot = shotOf.get(hole);
      if (shot !== undefined) shot.hole = undefined;
      shotOf.delete(hole);
      actions.push({ kind: "drop", hole });
    }
    const together = role === "called" ? standing.length : 1 - proving.size;
    for (const hole of standing.splice(0, together)) {
      const forMs = role === "called" ? deadline - at : Math.min(proofMs, deadline - at);
      proving.add(hole);
      actions.push({ kind: "secure", hole, forMs: Math.max(1, forMs) });
    }
    return actions;
  }

  function settle(at: number, shot: Shot): void {
    if (!shot.isConnecting) return;
    shot.isConnecting = false;
    counts.syns += Math.floor((at - shot.startedAt) / SYSTEM_REPEATS_MS);
  }

  function refused(at: number, shot: Shot): void {
    counts.refused++;
    if (isSearch) {
      if (isWaiting) shot.dueAt = shot.startedAt + SEARCH_RETRY_MS;
      return;
    }
    const gapMs = Math.min(LONGEST_GAP_MS, LEAST_GAP_MS * GAP_GROWTH ** shot.refusals++);
    // While keys are being proved on another connection, this one is hardly needed any more.
    const isServed = proving.size + standing.length > 0;
    shot.dueAt = isServed ? at + LEAST_PROOF_MS : Math.max(at, shot.startedAt + gapMs);
  }

  return {
    act,
    get nextAt() {
      let next: number | undefined;
      for (const { dueAt } of shots) {
        if (dueAt !== undefined && dueAt < deadline && (next === undefined || dueAt < next)) next = dueAt;
      }
      return counts.attempts < maxSyns ? next : undefined;
    },
    failed(at, i, code) {
      const shot = shots[i] as Shot;
      settle(at, shot);
      if (code === "refused" || code === "unreachable" || code === "closed") return refused(at, shot);
      if (code === "timeout") {
        counts.unanswered++;
        if (!isSearch) shot.dueAt = at;
      } else if (code === "address-in-use") {
        counts.syns--;
        if (!isSearch) shot.dueAt = at + TAKEN_GAP_MS;
      }
    },
    opened(at, hole, i) {
      standing.push(hole);
      if (i === undefined) return;
      const shot = shots[i] as Shot;
      settle(at, shot);
      shot.dueAt = undefined;
      shot.hole = hole;
      shotOf.set(hole, shot);
    },
    unproved(at, hole, code) {
      proving.delete(hole);
      const shot = shotOf.get(hole);
      if (shot === undefined) return;
      shotOf.delete(hole);
      shot.hole = undefined;
      // Whoever has another key, or speaks something else, is still there at the next try.
      if (code !== "peer-key" && code !== "protocol") refused(at, shot);
    },
    counts,
    get hopeless() {
      const isAlive = shots.some(({ dueAt, isConnecting, hole }) => {
        return isConnecting || hole !== undefined || (dueAt !== undefined && counts.attempts < maxSyns);
      });
      if (isAlive || proving.size > 0 || standing.length > 0) return undefined;
      if (counts.attempts >= maxSyns) return `the budget of ${maxSyns} SYNs is spent`;
      return "every pair of ports was tried";
    },
  };
}
