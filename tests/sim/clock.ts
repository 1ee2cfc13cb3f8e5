/** A host's clocks on virtual time: monotonic from a start of its own, wall time that may be wrong and may drift. */
import type { Time } from "../../core/net/world.ts";
import type { Scheduler } from "./scheduler.ts";

export interface ClockSettings {
  /** How far the wall clock is ahead of the truth when the simulation begins, in milliseconds. */
  readonly offsetMs?: number;
  /** How much faster than the truth both clocks and the host's timers run, in millionths. */
  readonly driftPpm?: number;
  /** What the monotonic clock shows when the simulation begins. */
  readonly startMs?: number;
}

/** True wall time at the beginning of every simulation: 2026-01-01T00:00:00Z. */
export const SIM_EPOCH_MS = Date.UTC(2026, 0, 1);

export function createClock(scheduler: Scheduler, settings: ClockSettings = {}): Time {
  const { offsetMs = 0, driftPpm = 0, startMs = 0 } = settings;
  const rate = 1 + driftPpm / 1e6;
  return {
    now: () => startMs + scheduler.nowMs * rate,
    wallMs: () => SIM_EPOCH_MS + offsetMs + scheduler.nowMs * rate,
    after: (delayMs, fire) => scheduler.after(delayMs / rate, fire),
  };
}
