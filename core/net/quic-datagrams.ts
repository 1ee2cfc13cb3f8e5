/** Datagrams of a QUIC session (RFC 9221), bounded in both directions. */
import type { QuicSession } from "node:quic";

/** How many may wait in QUIC for their turn. */
const MAX_WAITING = 1024;
/** How many are held until somebody receives them, or until the runtime sends any. */
const MAX_HELD = 64;
/** Fits into the smallest packet that QUIC paths carry (RFC 9000 section 14), with all that stands around it. */
const EARLY_MAX_BYTES = 1100;

export interface QuicDatagrams {
  /** The largest that can be sent now, in octets. */
  maxBytes(): number;
  /** False if it is empty or too large, or so many wait that it was dropped. */
  send(bytes: Uint8Array): boolean;
  attach(message: (bytes: Uint8Array) => void): void;
}

/** Takes over the datagrams of `session`; call it before the first may come. */
export function createQuicDatagrams(session: QuicSession): QuicDatagrams {
  let message: ((bytes: Uint8Array) => void) | undefined;
  let held: Uint8Array[] = [];
  // A client may send when the server's Finished is there; the runtime takes datagrams a round trip later.
  let early: Uint8Array[] | undefined = [];
  let taken = 0n;
  session.maxPendingDatagrams = MAX_WAITING;
  session.ondatagram = (bytes) => {
    if (message !== undefined) message(bytes);
    else if (held.length < MAX_HELD) held.push(bytes.slice());
  };

  const send = (bytes: Uint8Array): boolean => {
    if (session.destroyed || bytes.length === 0 || bytes.length > maxBytes()) return false;
    if (early !== undefined) {
      if (early.length >= MAX_HELD) return false;
      early.push(bytes.slice());
      return true;
    }
    if (taken - session.stats.datagramsSent >= MAX_WAITING) return false;
    taken++;
    session.sendDatagram(bytes).catch(() => undefined);
    return true;
  };

  const maxBytes = (): number => (early === undefined ? session.maxDatagramSize : EARLY_MAX_BYTES);

  session.opened.then(
    () => {
      const waiting = early ?? [];
      early = undefined;
      waiting.forEach(send);
    },
    () => undefined,
  );

  return {
    maxBytes,
    send,
    attach(next) {
      message = next;
      const first = held;
      held = [];
      for (const bytes of first) next(bytes);
    },
  };
}
