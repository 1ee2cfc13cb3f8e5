/** The domain name system of a simulation: a table that answers after a while, fails, or stays silent. */
import { P2pdError } from "../../core/errors.ts";
import { canonicalIp, type Family, familyOf } from "../../core/ip.ts";
import type { Scheduler } from "./scheduler.ts";

export interface SimNames {
  /** Gives a host name addresses; `fails` makes it unknown, `silent` answers never within 30 s. */
  set(host: string, answer: readonly string[] | "fails" | "silent", delayMs?: number): void;
  /** As `World.lookup` does it. */
  lookup(host: string, family?: Family): Promise<readonly string[]>;
}

const DELAY_MS = 8;
const GIVE_UP_MS = 30_000;

export function createNames(scheduler: Scheduler): SimNames {
  const table = new Map<string, { answer: readonly string[] | "fails" | "silent"; delayMs: number }>();
  return {
    set(host, answer, delayMs = DELAY_MS) {
      table.set(host.toLowerCase(), { answer, delayMs });
    },
    async lookup(host, family) {
      const literal = canonicalIp(host.startsWith("[") && host.endsWith("]") ? host.slice(1, -1) : host);
      if (literal !== undefined) {
        if (family === undefined || familyOf(literal) === family) return [literal];
        throw new P2pdError("unreachable", `${host} is not an IPv${family} address`);
      }
      const { answer, delayMs } = table.get(host.toLowerCase()) ?? { answer: "fails", delayMs: DELAY_MS };
      const waitMs = answer === "silent" ? GIVE_UP_MS : delayMs;
      await new Promise<void>((resolve) => void scheduler.after(waitMs, resolve));
      const found = typeof answer === "string" ? [] : answer;
      const wanted = found.filter((ip) => family === undefined || familyOf(ip) === family);
      if (wanted.length > 0) return wanted;
      const version = family === undefined ? "" : ` IPv${family}`;
      throw new P2pdError("unreachable", `no${version} address was found for the host "${host}"`);
    },
  };
}
