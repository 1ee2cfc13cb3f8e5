/**
 * Patterns that come as text from anybody. Refuses what no engine could run in bounded time.
 */
import { P2pdError } from "../errors.ts";

/** Something that says yes or no to a text. A `RegExp` is one. */
export interface Pattern {
  readonly source: string;
  test(text: string): boolean;
}

/** Throws `bad-argument` with what the engine says of a wrong pattern. */
export function compilePattern(source: string, what: string): Pattern {
  try {
    return new RegExp(source);
  } catch (thrown) {
    const why = thrown instanceof Error ? thrown.message : String(thrown);
    throw new P2pdError("bad-argument", `the ${what} pattern is no regular expression: ${why}`);
  }
}
