/**
 * Virtual time: a heap of things to happen, and a clock that jumps from one to the next. Times are whole
 * microseconds, so that no rounding can make two runs differ; things of one time happen in the order they
 * were asked for. Draining microtasks between them is `run-sim.ts`'s part.
 */
import type { Timer } from "../../core/net/world.ts";
import { createTimeHeap } from "../nat/time-heap.ts";

export interface Scheduler {
  /** Virtual milliseconds since the simulation began, with three decimals. */
  readonly nowMs: number;
  /** Things that will happen, cancelled ones not counted. */
  readonly pending: number;
  /** Things that have happened. */
  readonly happened: number;
  /** Has `fire` called after this many milliseconds; anything above 0 is at least one microsecond. */
  after(delayMs: number, fire: () => void): Timer;
  /** Goes to the next thing and lets it happen; false if there is none up to `limitMs`. */
  step(limitMs: number): boolean;
}

interface Waiting {
  /** Microseconds. */
  readonly at: number;
  fire: (() => void) | undefined;
}

/** Longest delay in milliseconds; a longer one is cut to it. */
const LONGEST_MS = 1e11;

export function createScheduler(): Scheduler {
  const heap = createTimeHeap<Waiting>();
  let nowUs = 0;
  let pending = 0;
  let happened = 0;

  return {
    get nowMs() {
      return nowUs / 1000;
    },
    get pending() {
      return pending;
    },
    get happened() {
      return happened;
    },
    after(delayMs, fire) {
      const delayUs = delayMs > 0 ? Math.ceil(Math.min(delayMs, LONGEST_MS) * 1000 - 1e-6) : 0;
      const item: Waiting = { at: nowUs + Math.max(delayMs > 0 ? 1 : 0, delayUs), fire };
      heap.push(item);
      pending++;
      return {
        cancel() {
          if (item.fire !== undefined) pending--;
          item.fire = undefined;
        },
      };
    },
    step(limitMs) {
      for (;;) {
        const next = heap.first;
        if (next === undefined) return false;
        if (next.fire !== undefined && next.at > limitMs * 1000) return false;
        heap.pop();
        const { fire } = next;
        if (fire === undefined) continue; // cancelled: time does not go there
        next.fire = undefined;
        pending--;
        happened++;
        nowUs = next.at;
        fire();
        return true;
      }
    },
  };
}
