/** Names that nobody guesses: of requests, messages and sessions, tokens and secrets. */
import type { World } from "./world.ts";

/** 16 unpredictable octets in base64url. */
export function randomWord(world: Pick<World, "randomBytes">): string {
  return world.randomBytes(16).toBase64({ alphabet: "base64url", omitPadding: true });
}
