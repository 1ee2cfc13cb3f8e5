/** The secret behind the TURN server's passwords, kept in a file of its owner alone so that printed lines stay good. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { P2pdError } from "../errors.ts";

const OCTETS = 32;

/**
 * The secret of a data directory, which is made with it where it is missing. Throws `corrupt-file` for one that is none,
 * and `configuration` where the directory cannot be used.
 */
export function keptSecret(dataDir: string, random: (count: number) => Uint8Array): string {
  const path = join(dataDir, "infra-secret");
  try {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    const fresh = random(OCTETS).toBase64({ alphabet: "base64url", omitPadding: true });
    writeFileSync(path, `${fresh}\n`, { flag: "wx", mode: 0o600 });
    return fresh;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== "EEXIST") throw unusable(path, thrown);
  }
  let text: string;
  try {
    text = readFileSync(path, "utf8").trim();
  } catch (thrown) {
    throw unusable(path, thrown);
  }
  if (/^[A-Za-z0-9_-]{43}$/.test(text)) return text;
  throw new P2pdError(
    "corrupt-file",
    `${path} does not hold a secret; expected 43 characters of base64url. Remove it, and a new one is made`,
    { file: path },
  );
}

function unusable(path: string, thrown: unknown): P2pdError {
  return new P2pdError("configuration", `${path} cannot be used: ${(thrown as Error).message}`, {
    file: path,
  });
}
