/** How an attempt ended, as a word to compare. */
import { P2pdError } from "../../core/errors.ts";

/** `ok`, the code of the P2pdError it rejected with, or the text of another error. */
export async function codeOf(attempt: Promise<unknown>): Promise<string> {
  return attempt.then(
    () => "ok",
    (thrown: unknown) => (thrown instanceof P2pdError ? thrown.code : String(thrown)),
  );
}
