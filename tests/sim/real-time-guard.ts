/**
 * Catches whoever reaches past the World while a simulation runs: the machine's timers, clocks, chance and
 * sockets throw, and are remembered, so that code which swallows the error fails the run all the same.
 */

export interface RealTimeGuard {
  /** Puts the traps in place; returns how to take them away. Not twice at once. */
  arm(): () => void;
  /** What was used, in words. */
  readonly offences: readonly string[];
}

type Place = Record<string, unknown>;

const PLACES: readonly (readonly [name: string, place: Place, keys: readonly string[]])[] = [
  ["", globalThis, ["setTimeout", "setInterval", "setImmediate", "fetch", "WebSocket"]],
  ["Date.", Date as unknown as Place, ["now"]],
  ["Math.", Math as unknown as Place, ["random"]],
  ["performance.", performance as unknown as Place, ["now"]],
  ["crypto.", crypto as unknown as Place, ["getRandomValues", "randomUUID"]],
  ["AbortSignal.", AbortSignal as unknown as Place, ["timeout"]],
  [
    "Bun.",
    Bun,
    ["sleep", "sleepSync", "nanoseconds", "udpSocket", "connect", "listen", "serve", "randomUUIDv7"],
  ],
  ["Bun.dns.", Bun.dns, ["lookup"]],
  ["process.", process as unknown as Place, ["hrtime", "uptime"]],
];

export function createRealTimeGuard(): RealTimeGuard {
  const offences: string[] = [];

  function trap(name: string): () => never {
    return () => {
      const error = new Error(`${name} was used in a simulation; take it from the World`);
      const caller = error.stack
        ?.split("\n")
        .find((line) => line.includes("/core/") || line.includes(".test."));
      offences.push(`${name}${caller === undefined ? "" : ` ${caller.trim()}`}`);
      throw error;
    };
  }

  return {
    offences,
    arm() {
      const undo: (() => void)[] = [];
      for (const [prefix, place, keys] of PLACES) {
        for (const key of keys) {
          const wasOwn = Object.hasOwn(place, key);
          const before = place[key];
          // Bun's own cannot be redefined, only assigned.
          place[key] = trap(`${prefix}${key}`);
          undo.push(() => {
            if (wasOwn) place[key] = before;
            else Reflect.deleteProperty(place, key);
          });
        }
      }
      const RealDate = Date;
      const noDate = trap("new Date()");
      globalThis.Date = new Proxy(RealDate, {
        construct: (target, given: [], as) =>
          given.length === 0 ? noDate() : (Reflect.construct(target, given, as) as Date),
        apply: noDate,
      });
      undo.push(() => {
        globalThis.Date = RealDate;
      });
      return () => {
        for (const step of undo.toReversed()) step();
      };
    },
  };
}
