/**
 * What happened to every packet, a line each with its virtual time. Two runs of one seed have the same lines;
 * `digest` says so without keeping them all.
 */
import type { Scheduler } from "./scheduler.ts";

export interface Trace {
  add(text: string): void;
  /** The latest lines, oldest first: all of them up to 100,000. */
  readonly lines: readonly string[];
  /** How many lines there were in all. */
  readonly count: number;
  /** Hexadecimal digest of every line so far. */
  readonly digest: string;
}

const KEPT = 100_000;

export function createTrace(scheduler: Scheduler): Trace {
  let lines: string[] = [];
  let count = 0;
  let hash = 0n;
  return {
    add(text) {
      const line = `${scheduler.nowMs.toFixed(3).padStart(12)} ${text}`;
      hash = Bun.hash.wyhash(line, hash);
      count++;
      lines.push(line);
      if (lines.length >= 2 * KEPT) lines = lines.slice(KEPT);
    },
    get lines() {
      return lines.length > KEPT ? lines.slice(-KEPT) : lines;
    },
    get count() {
      return count;
    },
    get digest() {
      return hash.toString(16).padStart(16, "0");
    },
  };
}
