/** Datagrams of a QUIC session (RFC 9221), bounded in both directions. */
import type { QuicSession } from "node:quic";

/** How many may wait in QUIC for their turn. */
const MAX_WAITING = 1024;
/** How many are held until somebody receives them. */
const MAX_HELD = 64;

export interface QuicDatagrams {
  /** False if it is empty or too large, or so many wait that it was dropped. */
  send(bytes: Uint8Array): boolean;
  attach(message: (bytes: Uint8Array) => void): void;
}

/** Takes over the datagrams of `session`; call it before the first may come. */
export function createQuicDatagrams(session: QuicSession): QuicDatagrams {
  let message: ((bytes: Uint8Array) => void) | undefined;
  let held: Uint8Array[] = [];
  let taken = 0n;
  session.maxPendingDatagrams = MAX_WAITING;
  session.ondatagram = (bytes) => {
    if (message !== undefined) message(bytes);
    else if (held.length < MAX_HELD) held.push(bytes.slice());
  };
  return {
    send(bytes) {
      if (session.destroyed || bytes.length === 0 || bytes.length > session.maxDatagramSize) return false;
      if (taken - session.stats.datagramsSent >= MAX_WAITING) return false;
      taken++;
      session.sendDatagram(bytes).catch(() => undefined);
      return true;
    },
    attach(next) {
      message = next;
      const early = held;
      held = [];
      for (const bytes of early) next(bytes);
    },
  };
}
