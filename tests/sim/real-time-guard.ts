/**
 * Catches whoever reaches past the World while a simulation runs: the machine's timers, clocks, chance and
 * sockets throw, and are remembered, so that code which swallows the error fails the run all the same. Packages,
 * which know no World, get stand-ins where there are any.
 */
import type { PackageTime } from "./package-time.ts";

export interface RealTimeGuard {
  /** Puts the traps in place; returns how to take them away. Not twice at once. */
  arm(): () => void;
  /** What was used, in words. */
  readonly offences: readonly string[];
}

type Place = Record<string, unknown>;
type Callable = (...given: unknown[]) => unknown;

const PLACES: readonly (readonly [name: string, place: Place, keys: readonly string[]])[] = [
  ["", globalThis, ["setTimeout", "setInterval", "setImmediate", "fetch", "WebSocket"]],
  ["", globalThis, ["clearTimeout", "clearInterval", "clearImmediate"]],
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

export function createRealTimeGuard(standIns: PackageTime): RealTimeGuard {
  const offences: string[] = [];
  let isArmed = false;

  /** A module that was loaded meanwhile may keep what it found: outside of the simulation that is the real one. */
  function trap(name: string, owner: unknown, real: unknown): Callable {
    const standIn = standIns[name] as Callable | undefined;
    return (...given) => {
      if (!isArmed) return Reflect.apply(real as Callable, owner, given);
      const caller = callerOf();
      if (standIn !== undefined && /[\\/]node_modules[\\/]/.test(caller)) return standIn(...given);
      offences.push(`${name} ${caller}`);
      throw new Error(`${name} was used in a simulation; take it from the World`);
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
          place[key] = trap(`${prefix}${key}`, place, before);
          undo.push(() => {
            if (wasOwn) place[key] = before;
            else Reflect.deleteProperty(place, key);
          });
        }
      }
      const RealDate = Date;
      const nowOf = trap("Date.now", RealDate, RealDate.now) as () => number;
      globalThis.Date = new Proxy(RealDate, {
        construct: (target, given: [], as) =>
          Reflect.construct(target, given.length === 0 ? [nowOf()] : given, as) as Date,
      });
      isArmed = true;
      return () => {
        isArmed = false;
        globalThis.Date = RealDate;
        for (const step of undo.toReversed()) step();
      };
    },
  };
}

/** The nearest frame of the stack that is in a file, this one left out. */
function callerOf(): string {
  const frames = new Error().stack?.split("\n") ?? [];
  const isFile = (frame: string): boolean => /[\s(](?:file:\/\/)?(?:\/|[A-Z]:\\)/.test(frame);
  return frames.find((frame) => isFile(frame) && !frame.includes(import.meta.path))?.trim() ?? "";
}
