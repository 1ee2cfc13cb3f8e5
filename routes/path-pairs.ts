/** Parameters given as pairs of path segments, `/timeout/5/msg_p/RE`, as P2PD's users write them. */
import { badArgument } from "./errors.ts";

/** The pairs of `rest` (percent-encoded, without a leading slash), whose keys must be among `known`. */
export function readPathPairs(rest: string, known: readonly string[]): Record<string, string> {
  const pairs: Record<string, string> = {};
  const segments = rest.split("/");
  for (let i = 0; i < segments.length; i += 2) {
    const key = segments[i] as string;
    const value = segments[i + 1];
    // A slash behind the last pair.
    if (key === "" && value === undefined) break;
    if (!known.includes(key)) throw badArgument("a parameter in the path", key, `one of ${known.join(", ")}`);
    if (value === undefined) throw badArgument(key, "", `a value behind it, as /${key}/VALUE`);
    pairs[key] = decodeURIComponent(value);
  }
  return pairs;
}

/** Where the first octet is that percent-encoding or UTF-8 does not allow; undefined if all is well. */
export function malformedEncoding(target: string): string | undefined {
  const broken = /%(?![0-9a-fA-F]{2}).{0,2}/.exec(target);
  if (broken !== null) return broken[0];
  for (const run of target.match(/(?:%[0-9a-fA-F]{2})+/g) ?? []) {
    try {
      decodeURIComponent(run);
    } catch {
      return run;
    }
  }
  return undefined;
}
