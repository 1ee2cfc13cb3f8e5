/** A wait that can be given up. */
import { P2pdError } from "../errors.ts";
import type { World } from "../net/world.ts";

/** Waits; rejects with `aborted` when the signal fires. */
export function pause(world: World, delayMs: number, signal: AbortSignal): Promise<void> {
  if (delayMs === 0) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const timer = world.time.after(delayMs, () => {
      signal.removeEventListener("abort", giveUp);
      resolve();
    });
    const giveUp = (): void => {
      timer.cancel();
      reject(new P2pdError("aborted", "opening was given up"));
    };
    signal.addEventListener("abort", giveUp, { once: true });
    if (signal.aborted) giveUp();
  });
}
