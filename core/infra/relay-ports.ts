/**
 * The ports that relays of one family and transport may have: chosen at random (RFC 8656 section 7.2), each given once,
 * and pairs for EVEN-PORT whose second half is kept for a while under a token. Whether the system lets a port be bound is
 * found out by others, who come back for the next.
 */

export interface RelayPorts {
  /** A port nobody has; undefined when all are taken. `parity` even: an even one; pair: and the next is free too. */
  take(parity: "any" | "even" | "pair"): number | undefined;
  /** Takes that one port; false if somebody has it. */
  takeExactly(port: number): boolean;
  give(port: number): void;
  readonly taken: number;
  readonly total: number;
}

/** @param random whole numbers from 0 to below its argument */
export function createRelayPorts(first: number, last: number, random: (below: number) => number): RelayPorts {
  const taken = new Set<number>();
  const total = last - first + 1;
  const fits = (port: number, parity: "any" | "even" | "pair"): boolean =>
    !taken.has(port) &&
    (parity === "any" || (port % 2 === 0 && (parity === "even" || (port < last && !taken.has(port + 1)))));

  return {
    take(parity) {
      if (taken.size === total) return undefined;
      // At random, and where that meets taken ones too often, from a random place onwards.
      for (let tries = 0; tries < 8; tries++) {
        const port = first + random(total);
        if (!fits(port, parity)) continue;
        taken.add(port);
        return port;
      }
      const start = random(total);
      for (let i = 0; i < total; i++) {
        const port = first + ((start + i) % total);
        if (!fits(port, parity)) continue;
        taken.add(port);
        return port;
      }
      return undefined;
    },
    takeExactly(port) {
      if (port < first || port > last || taken.has(port)) return false;
      taken.add(port);
      return true;
    },
    give: (port) => void taken.delete(port),
    get taken() {
      return taken.size;
    },
    total,
  };
}
