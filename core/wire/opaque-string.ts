/**
 * User names, realms and passwords in the one form that both ends hash: the OpaqueString profile of
 * RFC 8265 section 4.2, as RFC 8489 asks for it. Its mapping rules (every non-ASCII space becomes a plain
 * space, then NFC) are applied in full. Of the characters it forbids, those that can be told apart by Unicode
 * general category are refused: controls, formats, surrogates, private use, unassigned. The contextual
 * rules of RFC 5892 (joiners between letters that call for them) are not checked: joiners are refused.
 */
import { P2pdError } from "../errors.ts";

/**
 * The form of `text` that keys are derived from (RFC 8265 section 4.2.2). `what` names it in the error.
 * Throws `bad-argument` when it is empty or has a character that the profile forbids.
 */
export function opaqueString(text: string, what: string): string {
  const mapped = text.replace(/\p{Zs}/gu, " ").normalize("NFC");
  if (mapped === "") throw new P2pdError("bad-argument", `${what} is empty; expected at least one character`);
  const forbidden = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}]/u.exec(mapped);
  if (forbidden !== null) {
    const code = (forbidden[0].codePointAt(0) as number).toString(16).toUpperCase().padStart(4, "0");
    throw new P2pdError(
      "bad-argument",
      `${what} has the character U+${code}, which RFC 8265 does not allow in it`,
    );
  }
  return mapped;
}
