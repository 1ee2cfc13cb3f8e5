/**
 * What the way through a router costs a packet: delay, jitter, loss. Says when a packet arrives, or that it
 * does not; whoever carries packets (the NAT box, the simulator) keeps the queue.
 */
import type { SeededRandom } from "./seeded-random.ts";
import type { LinkSettings } from "./settings.ts";

export interface Link {
  /** When a packet that enters at `nowMs` leaves at the other end; undefined: it is lost. */
  arrival(nowMs: number): number | undefined;
}

/** One direction of a link. Without jitter packets keep their order. */
export function createLink({ delayMs, jitterMs, loss }: LinkSettings, random: SeededRandom): Link {
  return {
    arrival(nowMs) {
      if (loss > 0 && random.next() < loss) return undefined;
      return nowMs + delayMs + (jitterMs > 0 ? random.next() * jitterMs : 0);
    },
  };
}
