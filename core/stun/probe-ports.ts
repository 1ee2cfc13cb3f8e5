/**
 * Local ports from which a router's way of picking external ones can be told: runs of neighbours, far from each other
 * and not in order, so that every rule shows and none is mistaken for another.
 */
import { P2pdError } from "../errors.ts";
import type { World } from "../net/world.ts";

/** Ports of one run. */
export const RUN_LENGTH = 6;
/** Where in the range the runs are, in quarters from its low end, one after the other: up and down, never to the next. */
const PLACES = [1, 3, 0, 4, 2];
/** Share of the range by which each is moved at random, so that no two measurements meet the same ports. */
const JITTER = 0.05;
/** Below are ports that systems and their services keep for themselves. */
const LOWEST = 2048;
const HIGHEST = 65_535;
const TRIES = 8;

/**
 * First ports of five runs from one end of `low` to `high` to the other, in so far as ports may be used there; some may
 * be the same where the range is narrow.
 */
export function chooseRuns(
  world: Pick<World, "randomBytes">,
  [low, high]: readonly [low: number, high: number] = [LOWEST, HIGHEST],
): readonly number[] {
  const first = Math.min(Math.max(low, LOWEST), HIGHEST - RUN_LENGTH + 1);
  const room = Math.max(0, high - RUN_LENGTH + 1 - first);
  const jitter = Math.floor(JITTER * room);
  return PLACES.map((quarter) => {
    const [a = 0, b = 0] = world.randomBytes(2);
    const moved = ((a << 8) | b) % (jitter + 1);
    return first + Math.floor((quarter * (room - jitter)) / 4) + moved;
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
