/** How many connections there may be, in all and from one address, so that nobody takes every place. */
import { familyOf, parseIp } from "../ip.ts";

export interface Admission {
  /** Takes a place for `ip`; false if there is none. */
  admit(ip: string): boolean;
  /** Gives a place back. */
  leave(ip: string): void;
  readonly count: number;
}

/** Of all places one address gets this share, and no fewer than `SHARE_MIN`: behind one there may be many. */
const SHARE = 1 / 4;
const SHARE_MIN = 16;

export function createAdmission(places: number): Admission {
  const perIp = Math.max(SHARE_MIN, Math.floor(places * SHARE));
  const held = new Map<string, number>();
  let count = 0;
  return {
    admit(ip) {
      const network = networkOf(ip);
      const here = held.get(network) ?? 0;
      if (count >= places || here >= perIp) return false;
      held.set(network, here + 1);
      count++;
      return true;
    },
    leave(ip) {
      const network = networkOf(ip);
      const here = held.get(network) ?? 0;
      if (here === 0) return;
      if (here === 1) held.delete(network);
      else held.set(network, here - 1);
      count--;
    },
    get count() {
      return count;
    },
  };
}

/** Who counts as one: who has one IPv6 address has all of its /64. */
export function networkOf(ip: string): string {
  const octets = familyOf(ip) === 6 ? parseIp(ip) : undefined;
  return octets === undefined ? ip : octets.subarray(0, 8).toHex();
}
