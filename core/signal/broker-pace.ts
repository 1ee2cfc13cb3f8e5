/**
 * When a broker is tried again. After an ordinary loss at rising intervals; while something suggests that the network
 * has just changed, at short ones, since a router that reboots is away for some seconds and nobody knows for how many.
 */

const FIRST_MS = 1000;
const LAST_MS = 60_000;
/** While no broker is reached it is rather the network that is away: tries do not bother brokers then. */
const CUT_OFF_LAST_MS = 10_000;
const HURRIED_MS: readonly number[] = [250, 500, 1000];
const PATIENCE_MIN_MS = 300;
const PATIENCE_RTTS = 4;

/** How long tries follow each other quickly after a suspicion. */
export const HURRY_MS = 30_000;

/**
 * Milliseconds from a failure to the next try.
 * @param failures how many there were in a row, from 1
 * @param isCutOff no other broker is reached either
 * @param chance from 0 to below 1: nodes that lost a broker together do not come back together
 */
export function patientDelay(failures: number, chance: number, isCutOff: boolean): number {
  return Math.min(isCutOff ? CUT_OFF_LAST_MS : LAST_MS, FIRST_MS * 2 ** (failures - 1)) * (0.5 + chance / 2);
}

/**
 * Milliseconds from the start of one hurried try to that of the next beside it.
 * @param tries how many there were since the hurry began, from 1
 */
export function hurriedDelay(tries: number, chance: number): number {
  const delayMs = HURRIED_MS[Math.min(tries, HURRIED_MS.length) - 1] ?? FIRST_MS;
  return delayMs * (0.75 + chance / 2);
}

/** How long a broker may take to answer a ping before another connection is tried beside the old one. */
export function patience(rttMs: number): number {
  return Math.max(PATIENCE_MIN_MS, PATIENCE_RTTS * rttMs);
}
