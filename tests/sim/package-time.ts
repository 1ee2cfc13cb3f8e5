/**
 * Time and chance for packages that take them from the machine: in a simulation they get virtual time and
 * numbers that follow from the seed. The project's own code has the World for that.
 */
import type { Timer } from "../../core/net/world.ts";
import type { SeededRandom } from "../nat/seeded-random.ts";
import { SIM_EPOCH_MS } from "./clock.ts";
import type { Scheduler } from "./scheduler.ts";

/** Stand-ins by the name of what they replace; what is absent is refused to packages as well. */
export type PackageTime = Readonly<Record<string, (...given: never[]) => unknown>>;

/** A timer as packages know it. */
class PackageTimer {
  constructor(private timer: Timer) {}

  next(timer: Timer): void {
    this.timer = timer;
  }

  cancel(): void {
    this.timer.cancel();
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  hasRef(): boolean {
    return true;
  }
}

export function createPackageTime(scheduler: Scheduler, random: SeededRandom): PackageTime {
  type Callback = (...given: unknown[]) => void;
  const once = (delayMs: number, callback: Callback, given: unknown[]): PackageTimer =>
    new PackageTimer(scheduler.after(delayMs, () => callback(...given)));
  const clear = (timer: unknown): void => {
    if (timer instanceof PackageTimer) timer.cancel();
  };
  return {
    setTimeout: (callback: Callback, delayMs = 0, ...given: unknown[]) =>
      once(Math.max(1, delayMs), callback, given),
    setImmediate: (callback: Callback, ...given: unknown[]) => once(0, callback, given),
    setInterval(callback: Callback, delayMs = 0, ...given: unknown[]) {
      const every = Math.max(1, delayMs);
      const fire = (): void => {
        interval.next(scheduler.after(every, fire));
        callback(...given);
      };
      const interval = new PackageTimer(scheduler.after(every, fire));
      return interval;
    },
    clearTimeout: clear,
    clearInterval: clear,
    clearImmediate: clear,
    "Date.now": () => Math.floor(SIM_EPOCH_MS + scheduler.nowMs),
    "performance.now": () => scheduler.nowMs,
    "Math.random": () => random.next(),
    "crypto.getRandomValues"(array: Uint8Array) {
      const octets = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
      for (let i = 0; i < octets.length; i++) octets[i] = random.between(0, 255);
      return array;
    },
  };
}
