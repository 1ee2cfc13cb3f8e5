/**
 * Chooses the external port of a new mapping: P2PD's five deltas within a port range. Knows nothing of
 * packets; who asks says which ports are free.
 */
import type { SeededRandom } from "./seeded-random.ts";
import type { Delta } from "./settings.ts";

export interface PortAllocator {
  /**
   * The external port for a new mapping of `localPort` at the inside host `localIp`; undefined when every port
   * of the range is taken.
   */
  allocate(localIp: string, localPort: number, isFree: (port: number) => boolean): number | undefined;
}

/** Inside hosts whose chain of dependent ports is remembered. */
const MAX_CHAINS = 1024;

export function createPortAllocator(
  delta: Delta,
  [low, high]: readonly [low: number, high: number],
  random: SeededRandom,
): PortAllocator {
  const size = high - low + 1;
  const wrap = (port: number): number => low + ((((port - low) % size) + size) % size);

  const anyFree = (isFree: (port: number) => boolean): number | undefined => {
    for (let attempt = 0; attempt < 32; attempt++) {
      const port = random.between(low, high);
      if (isFree(port)) return port;
    }
    const start = random.between(low, high);
    return walk(start, 1, isFree);
  };
  const walk = (start: number, step: number, isFree: (port: number) => boolean): number | undefined => {
    let port = wrap(start);
    for (let i = 0; i < size; i++, port = wrap(port + step)) if (isFree(port)) return port;
    return undefined;
  };

  if (delta.kind === "random") return { allocate: (_ip, _port, isFree) => anyFree(isFree) };

  if (delta.kind === "equal") {
    return {
      allocate: (_ip, local, isFree) =>
        local >= low && local <= high && isFree(local) ? local : anyFree(isFree),
    };
  }

  if (delta.kind === "preserving") {
    let offset: number | undefined;
    return {
      allocate(_ip, local, isFree) {
        if (offset === undefined) {
          const first = anyFree((port) => isFree(port) && (port !== local || size === 1));
          if (first !== undefined) offset = first - local;
          return first;
        }
        const wish = wrap(local + offset);
        return isFree(wish) ? wish : anyFree(isFree);
      },
    };
  }

  if (delta.kind === "independent") {
    let last: number | undefined;
    return {
      allocate(_ip, _local, isFree) {
        const start = last === undefined ? random.between(low, high) : last + delta.step;
        // A step that shares a factor with the size of the range does not visit every port.
        last = walk(start, delta.step, isFree) ?? walk(start, 1, isFree);
        return last;
      },
    };
  }

  const { step } = delta;
  const chains = new Map<string, { local: number; mapped: number }>();
  return {
    allocate(ip, local, isFree) {
      const chain = chains.get(ip);
      const wish = chain !== undefined && local === chain.local + 1 ? wrap(chain.mapped + step) : undefined;
      const mapped = wish !== undefined && isFree(wish) ? wish : anyFree(isFree);
      if (mapped === undefined) return undefined;
      chains.delete(ip);
      chains.set(ip, { local, mapped });
      if (chains.size > MAX_CHAINS) chains.delete(chains.keys().next().value as string);
      return mapped;
    },
  };
}
