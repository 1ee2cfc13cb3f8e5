/**
 * Patterns that anybody may have written, run in time linear in the text by RE2's engine, so that no pattern can
 * make a daemon go back and try again until it is deaf.
 */
import type * as Re2 from "re2js";
import { P2pdError } from "../errors.ts";

/** Something that says yes or no to a text. A `RegExp` is one. */
export interface Pattern {
  readonly source: string;
  test(text: string): boolean;
}

/** Characters a pattern may have; what they may grow to is bounded by RE2 (1,000 repetitions of a part in all). */
const MAX_PATTERN = 512;

/**
 * The pattern of `source`, in the notation of RE2 (that of JavaScript without lookaround and backreferences).
 * `test` says whether it occurs anywhere in a latin1 text. Throws `bad-argument`, naming `what` and the cause.
 */
export function compilePattern(source: string, what: string): Pattern {
  if (source.length > MAX_PATTERN) {
    throw new P2pdError(
      "bad-argument",
      `the ${what} pattern has ${source.length} characters; at most ${MAX_PATTERN} are allowed`,
    );
  }
  const { RE2JS } = loadRe2();
  try {
    const compiled = RE2JS.compile(source);
    return { source, test: (text) => compiled.test(text) };
  } catch (thrown) {
    const cause =
      thrown instanceof Error ? thrown.message.replace(/^error parsing regexp: /, "") : String(thrown);
    throw new P2pdError(
      "bad-argument",
      `the ${what} pattern ${JSON.stringify(source)} is not a regular expression: ${cause}`,
      {},
      { cause: thrown },
    );
  }
}

/** Loaded by the first pattern: a daemon that nobody gave one starts without it. */
function loadRe2(): typeof Re2 {
  return require("re2js") as typeof Re2;
}
