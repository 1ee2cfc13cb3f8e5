/** Reads a body of JSON, of bounded length. */
import { P2pdError } from "../core/errors.ts";
import { badArgument } from "./errors.ts";

const MAXIMUM_OCTETS = 65_536;

/** Rejects with `too-large` or `bad-argument`. */
export async function readJson(request: Request): Promise<unknown> {
  const tooLarge = new P2pdError("too-large", `the body is longer than ${MAXIMUM_OCTETS} octets`);
  if (Number(request.headers.get("content-length") ?? 0) > MAXIMUM_OCTETS) throw tooLarge;
  const pieces: Uint8Array[] = [];
  let length = 0;
  const reader = request.body?.getReader();
  for (;;) {
    const piece = await reader?.read();
    if (piece?.value === undefined) break;
    length += piece.value.length;
    if (length > MAXIMUM_OCTETS) {
      await reader?.cancel();
      throw tooLarge;
    }
    pieces.push(piece.value);
  }
  const octets = Buffer.concat(pieces);
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(octets));
  } catch (thrown) {
    throw badArgument(
      "the body",
      octets.toString("utf8"),
      `JSON (${thrown instanceof Error ? thrown.message : String(thrown)})`,
    );
  }
}
