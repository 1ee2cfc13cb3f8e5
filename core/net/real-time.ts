/** Time of the machine we run on: a monotonic clock, the wall clock, and timers of any length. */
import type { Time } from "./world.ts";

/** The longest delay that the runtime's timers take; they fire at once when given more. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export const realTime: Time = {
  now: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, fire, options) {
    const end = performance.now() + delayMs;
    let timer: ReturnType<typeof setTimeout>;
    const start = (restMs: number): void => {
      const isLast = restMs <= LONGEST_TIMER_MS;
      timer = setTimeout(
        () => (isLast ? fire() : start(end - performance.now())),
        Math.min(restMs, LONGEST_TIMER_MS),
      );
      if (options?.background === true) timer.unref();
    };
    start(Math.max(0, delayMs));
    return { cancel: () => clearTimeout(timer) };
  },
};
