/**
 * The sending half of a simulated TCP connection: what waits, what is on its way, when it is sent again. SYN and
 * FIN are pieces like data. RTO as in RFC 6298; with selective acknowledgements a piece is lost when three later ones
 * have arrived (RFC 6675). There is no congestion window, the peer's window alone bounds what is on its way.
 */
import type { Timer } from "../../core/net/world.ts";
import type { Scheduler } from "./scheduler.ts";

/** What one segment carries and has to be acknowledged. */
export interface TcpPiece {
  readonly sequence: number;
  readonly bytes: Uint8Array;
  readonly syn: boolean;
  readonly fin: boolean;
}

export interface TcpSender {
  /** The number after the last one sent. */
  readonly next: number;
  /** Smoothed, in milliseconds; undefined before the first measurement. */
  readonly roundTripMs: number | undefined;
  /** Octets not yet acknowledged, sent or not. */
  readonly held: number;
  /** Whether the FIN went out; whether it arrived. */
  readonly finSent: boolean;
  readonly finAcknowledged: boolean;
  /** Sends the SYN. */
  open(): void;
  write(bytes: Uint8Array): void;
  /** A FIN follows the last octet. */
  finish(): void;
  /** The peer has everything before `upTo`, and the pieces that begin at the selective numbers. */
  acknowledged(upTo: number, window: number, selective?: readonly number[]): void;
  /** Sends the oldest piece again now. */
  resend(): void;
  stop(): void;
}

export interface TcpSenderHooks {
  transmit(piece: TcpPiece): void;
  /** The window is closed: ask how it is now. */
  probe(): void;
  /** Octets were acknowledged. */
  freed(): void;
  /** Nobody answers any more. */
  lost(): void;
  /** How often a piece is sent again before that. */
  tries(): number;
}

export const SEGMENT_SIZE = 1400;
const FIRST_RTO_MS = 1000;
const LEAST_RTO_MS = 200;
const LONGEST_RTO_MS = 120_000;
const NOTHING: Uint8Array = new Uint8Array(0);

interface Sent extends TcpPiece {
  readonly end: number;
  sentAtMs: number;
  arrived: boolean;
}

export function createTcpSender(scheduler: Scheduler, first: number, hooks: TcpSenderHooks): TcpSender {
  const flight: Sent[] = [];
  const waiting: Uint8Array[] = [];
  let waitingOctets = 0;
  let oldest = first;
  let next = first;
  let window = SEGMENT_SIZE;
  let finWanted = false;
  let finSent = false;
  let stopped = false;
  let smoothedMs: number | undefined;
  let variationMs = 0;
  let rtoMs = FIRST_RTO_MS;
  let timer: Timer | undefined;
  let tries = 0;
  let recoverTo = first;
  let resentAtMs = Number.NEGATIVE_INFINITY;

  function arm(): void {
    timer?.cancel();
    timer = undefined;
    if (stopped || (flight.length === 0 && waitingOctets === 0)) return;
    timer = scheduler.after(rtoMs, overdue);
  }

  function overdue(): void {
    timer = undefined;
    rtoMs = Math.min(2 * rtoMs, LONGEST_RTO_MS);
    if (flight.length === 0) {
      hooks.probe();
    } else if (tries++ >= hooks.tries()) {
      return hooks.lost();
    } else {
      recoverTo = next;
      resend();
    }
    arm();
  }

  function resend(piece = flight[0]): void {
    if (piece === undefined || stopped) return;
    resentAtMs = piece.sentAtMs = scheduler.nowMs;
    hooks.transmit(piece);
  }

  /** Sends again what must be lost: passed by three others, or the oldest ones after a time-out. */
  function repair(): void {
    const settledBefore = scheduler.nowMs - (smoothedMs ?? FIRST_RTO_MS);
    let passedBy = 0;
    const lost = flight.toReversed().filter((piece) => {
      if (piece.arrived) passedBy++;
      return !piece.arrived && passedBy >= 3 && piece.sentAtMs <= settledBefore;
    });
    const late = flight.filter(({ arrived, end }) => !arrived && end <= recoverTo).slice(0, 2);
    const again = new Set([
      ...late.filter(({ sentAtMs }) => sentAtMs <= settledBefore),
      ...lost.toReversed(),
    ]);
    for (const piece of again) resend(piece);
  }

  function send(bytes: Uint8Array, syn: boolean, fin: boolean): void {
    const end = next + bytes.length + (syn || fin ? 1 : 0);
    const piece: Sent = { sequence: next, bytes, syn, fin, end, sentAtMs: scheduler.nowMs, arrived: false };
    flight.push(piece);
    next = end;
    hooks.transmit(piece);
    if (timer === undefined) arm();
  }

  function take(count: number): Uint8Array {
    const head = waiting[0] as Uint8Array;
    waitingOctets -= count;
    if (head.length > count) {
      waiting[0] = head.subarray(count);
      return head.subarray(0, count);
    }
    if (head.length === count) return waiting.shift() as Uint8Array;
    const bytes = new Uint8Array(count);
    for (let filled = 0; filled < count; ) {
      const chunk = waiting[0] as Uint8Array;
      const part = chunk.subarray(0, count - filled);
      bytes.set(part, filled);
      filled += part.length;
      if (part.length === chunk.length) waiting.shift();
      else waiting[0] = chunk.subarray(part.length);
    }
    return bytes;
  }

  function pump(): void {
    const hasMore = (): boolean => !stopped && waitingOctets > 0;
    while (hasMore()) {
      const room = oldest + window - next;
      const count = Math.min(SEGMENT_SIZE, room, waitingOctets);
      const isSmall = count < SEGMENT_SIZE && count < waitingOctets && flight.length > 0;
      if (count <= 0 || isSmall) {
        if (timer === undefined) arm();
        return;
      }
      send(take(count), false, false);
    }
    if (stopped || !finWanted || finSent) return;
    finSent = true;
    send(NOTHING, false, true);
  }

  function measure(roundTripMs: number): void {
    if (smoothedMs === undefined) {
      smoothedMs = roundTripMs;
      variationMs = roundTripMs / 2;
    } else {
      variationMs = 0.75 * variationMs + 0.25 * Math.abs(smoothedMs - roundTripMs);
      smoothedMs = 0.875 * smoothedMs + 0.125 * roundTripMs;
    }
  }

  return {
    get next() {
      return next;
    },
    get roundTripMs() {
      return smoothedMs;
    },
    get held() {
      return waitingOctets + flight.reduce((sum, { bytes }) => sum + bytes.length, 0);
    },
    get finSent() {
      return finSent;
    },
    get finAcknowledged() {
      return finSent && flight.length === 0;
    },
    open: () => send(NOTHING, true, false),
    write(bytes) {
      if (bytes.length === 0) return;
      waiting.push(bytes);
      waitingOctets += bytes.length;
      pump();
    },
    finish() {
      finWanted = true;
      pump();
    },
    acknowledged(upTo, windowNow, selective = []) {
      if (stopped || upTo > next) return;
      window = windowNow;
      for (const piece of flight) piece.arrived ||= selective.includes(piece.sequence);
      if (upTo > oldest) {
        oldest = upTo;
        tries = 0;
        let latest: Sent | undefined;
        while (flight[0] !== undefined && flight[0].end <= upTo) latest = flight.shift();
        // An answer that a repaired loss held back says nothing of the way.
        if (latest !== undefined && latest.sentAtMs > resentAtMs) measure(scheduler.nowMs - latest.sentAtMs);
        const estimate = smoothedMs === undefined ? FIRST_RTO_MS : smoothedMs + 4 * variationMs;
        rtoMs = Math.min(LONGEST_RTO_MS, Math.max(LEAST_RTO_MS, estimate));
        arm();
      }
      if (selective.length > 0 || oldest < recoverTo) repair();
      pump();
      hooks.freed();
    },
    resend: () => resend(),
    stop() {
      stopped = true;
      timer?.cancel();
      timer = undefined;
    },
  };
}
