/** Whether the broker at the other end of a connection is alive: pings, how long they are waited for, round trips. */
import type { Time, Timer } from "../net/world.ts";
import { patience } from "./broker-pace.ts";

/** Also how long it may take until a node that hears nothing learns that its router has another address. */
const PING_EVERY_MS = 15_000;
export const PING_TIMEOUT_MS = 5000;
/** Where nobody waits for the answer, a broker that is slow for a moment is not worth another connection. */
const IDLE_PATIENCE_MS = 2000;
/** Silent for longer than this, the broker is asked for a sign of life when something is sent. */
const SILENT_MS = 2000;

export interface PulseEvents {
  /** Asks the broker for a sign of life; `answered` is called when it has answered this very question. */
  ping(answered: () => void): void;
  /** A question has not been answered for so many milliseconds. */
  doubted(afterMs: number): void;
  /** No answer within `PING_TIMEOUT_MS`. */
  frozen(): void;
}

export interface Pulse {
  /** A connection stands whose making showed this round trip: it is asked every `PING_EVERY_MS`. */
  start(handshakeMs: number): void;
  stop(): void;
  /** Asks now; `isPrompt`: it matters now, so that the broker is doubted sooner. */
  ask(isPrompt: boolean): void;
  /** Something was sent. */
  sent(): void;
  /** Something came. */
  heard(): void;
  /** Milliseconds of the last question that was answered, until then of the handshake. */
  readonly rttMs: number;
}

export function createPulse(time: Time, events: PulseEvents): Pulse {
  const timers: { next?: Timer | undefined; deadline?: Timer | undefined; patience?: Timer | undefined } = {};
  let doubtAtMs = 0;
  let heardMs = 0;
  let rttMs = 0;

  function askLater(): void {
    const again = (): void => {
      askLater();
      pulse.ask(false);
    };
    timers.next = time.after(PING_EVERY_MS, again, { background: true });
  }

  function settle(): void {
    timers.deadline?.cancel();
    timers.patience?.cancel();
    timers.deadline = undefined;
    timers.patience = undefined;
  }

  const pulse: Pulse = {
    start(handshakeMs) {
      pulse.stop();
      rttMs = handshakeMs;
      heardMs = time.now();
      askLater();
    },
    stop() {
      timers.next?.cancel();
      settle();
    },
    ask(isPrompt) {
      if (timers.deadline === undefined) {
        const askedMs = time.now();
        timers.deadline = time.after(PING_TIMEOUT_MS, () => events.frozen(), { background: true });
        events.ping(() => (rttMs = time.now() - askedMs));
      }
      const afterMs = Math.max(patience(rttMs), isPrompt ? 0 : IDLE_PATIENCE_MS);
      const atMs = time.now() + afterMs;
      if (timers.patience !== undefined && doubtAtMs <= atMs) return;
      doubtAtMs = atMs;
      timers.patience?.cancel();
      timers.patience = time.after(afterMs, () => events.doubted(afterMs), { background: true });
    },
    sent() {
      if (time.now() - heardMs > SILENT_MS) pulse.ask(true);
    },
    heard() {
      heardMs = time.now();
      settle();
    },
    get rttMs() {
      return rttMs;
    },
  };
  return pulse;
}
