/**
 * Local ports from which a router's way of picking external ones can be told: runs of neighbours, far from each other
 * and not in order, so that every rule shows and none is mistaken for another.
 */
import { P2pdError } from "../errors.ts";
import type { World } from "../net/world.ts";

/** Ports of one run. */
export const RUN_LENGTH = 6;
/** The fifths of the port range that the runs are in, one after the other: up and down, never to the next. */
const FIFTHS = [1, 3, 0, 4, 2];
/** Below are ports that systems and their services keep for themselves. */
const LOWEST = 2048;
const HIGHEST = 65_535;
const TRIES = 8;

/**
 * First ports of five runs within `low` to `high`; fewer distinct ones where the range is narrow.
 */
export function chooseRuns(
  world: Pick<World, "randomBytes">,
  [low, high]: readonly [low: number, high: number] = [LOWEST, HIGHEST],
): readonly number[] {
  const share = (Math.max(high, low) - low + 1) / FIFTHS.length;
  return FIFTHS.map((fifth) => {
    const room = Math.max(1, Math.floor(share) - RUN_LENGTH);
    const [a = 0, b = 0] = world.randomBytes(2);
    return Math.min(HIGHEST - RUN_LENGTH, Math.floor(low + fifth * share) + (((a << 8) | b) % room));
  });
}

/**
 * Opens a run of neighbouring ports, at `first` or, where another program has one of them, a little above. Rejects as
 * `open` does when no place is found.
 */
export async function openRun<T>(
  first: number,
  open: (port: number) => Promise<T>,
  close: (opened: T) => void,
): Promise<readonly T[]> {
  for (let at = first, tries = 1; ; tries++) {
    const opened: T[] = [];
    try {
      for (let port = at; port < at + RUN_LENGTH; port++) opened.push(await open(port));
      return opened;
    } catch (thrown) {
      for (const one of opened) close(one);
      const isTaken = thrown instanceof P2pdError && thrown.code === "address-in-use";
      if (!isTaken || tries === TRIES) throw thrown;
      at += opened.length + 1;
      if (at + RUN_LENGTH > HIGHEST) at = LOWEST;
    }
  }
}
