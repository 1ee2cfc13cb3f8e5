/**
 * How many answers strangers get per second, by address: what a forged sender can make us send to a victim is
 * bounded, and so is the work. Its memory is a table of fixed size; addresses of one /24 or /48 share a place.
 */
import { familyOf } from "../ip.ts";

export interface AnswerBudget {
  /** Takes one answer for `ip`; false if it has had its share. */
  take(ip: string, nowMs: number): boolean;
}

const PLACES = 16_384;
/** How many seconds' worth may come at once. */
const BURST_SECONDS = 2;

/** @param perSecond 0: no limit; @param seed makes the places unpredictable */
export function createAnswerBudget(perSecond: number, seed: number): AnswerBudget {
  const burst = perSecond * BURST_SECONDS;
  const tokens = new Float32Array(PLACES).fill(burst);
  const last = new Float64Array(PLACES);
  return {
    take(ip, nowMs) {
      if (perSecond === 0) return true;
      const place = placeOf(ip, seed);
      const had = (tokens[place] as number) + ((nowMs - (last[place] as number)) * perSecond) / 1000;
      last[place] = nowMs;
      const has = Math.min(burst, had);
      tokens[place] = has < 1 ? has : has - 1;
      return has >= 1;
    },
  };
}

/** FNV-1a over the network part of the address's text. */
function placeOf(ip: string, seed: number): number {
  const separator = familyOf(ip) === 4 ? "." : ":";
  let hash = (0x811c9dc5 ^ seed) >>> 0;
  let parts = 0;
  for (let i = 0; i < ip.length; i++) {
    if (ip[i] === separator && ++parts === 3) break;
    hash = Math.imul(hash ^ ip.charCodeAt(i), 0x01000193) >>> 0;
  }
  return (hash ^ (hash >>> 15)) & (PLACES - 1);
}
