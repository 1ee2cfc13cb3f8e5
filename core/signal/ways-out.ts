/** By which NICs a broker may be tried when the way that the system prefers has gone dead. */
import type { Nic } from "../net/world.ts";

/**
 * Names of NICs to tie the tries to, one after the other; undefined is the system's own choice and comes first.
 * @param names the NICs that may be used; absent: all
 */
export function waysOut(nics: readonly Nic[], names?: readonly string[]): readonly (string | undefined)[] {
  const metricOf = ({ metric }: Nic): number =>
    Math.min(metric[4] ?? Number.POSITIVE_INFINITY, metric[6] ?? Number.POSITIVE_INFINITY);
  const [, ...others] = nics
    .filter((nic) => nic.up && Number.isFinite(metricOf(nic)))
    .toSorted((a, b) => metricOf(a) - metricOf(b));
  const allowed = others.filter(({ name }) => names?.includes(name) ?? true);
  return [undefined, ...allowed.map(({ name }) => name)];
}
