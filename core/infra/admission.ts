/** How many connections there may be, in all and from one address, so that nobody takes every place. */

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
      const here = held.get(ip) ?? 0;
      if (count >= places || here >= perIp) return false;
      held.set(ip, here + 1);
      count++;
      return true;
    },
    leave(ip) {
      const here = held.get(ip) ?? 0;
      if (here === 0) return;
      if (here === 1) held.delete(ip);
      else held.set(ip, here - 1);
      count--;
    },
    get count() {
      return count;
    },
  };
}
