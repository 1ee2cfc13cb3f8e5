/** The file that `p2pd demo` carries: given or made, read and sent by one node, written and hashed by the other. */
import { closeSync, openSync, statSync, writeSync } from "node:fs";
import { open } from "node:fs/promises";
import { basename, resolve } from "node:path";
import { P2pdError, toP2pdError } from "../../core/errors.ts";
import type { World } from "../../core/net/world.ts";
import type { Pipe } from "../../core/node/pipe.ts";

const BLOCK_OCTETS = 1024 * 1024;

export interface DemoFile {
  readonly path: string;
  /** What it is called when it is told of. */
  readonly name: string;
  readonly octets: number;
}

export interface Carried {
  readonly octets: number;
  /** Of what was read here, in hex. */
  readonly sentSha256: string;
  /** Of the copy, as the other side says. */
  readonly copySha256: string;
  /** From the first octet that was sent to the other side's word that all have come. */
  readonly seconds: number;
}

/** The file that the user named. Throws `bad-argument`. */
export function fileOf(path: string, cwd: string): DemoFile {
  const full = resolve(cwd, path);
  try {
    const { size } = statSync(full);
    // Whether it may be read is found out before anything is started.
    closeSync(openSync(full, "r"));
    if (statSync(full).isFile()) return { path: full, name: basename(full), octets: size };
  } catch (thrown) {
    throw new P2pdError("bad-argument", `FILE ${path} cannot be read: ${(thrown as Error).message}`);
  }
  throw new P2pdError("bad-argument", `FILE ${path} is no file; expected one to carry`);
}

/** Makes a file of random octets, a whole number of MiB. */
export function makeFile(world: World, path: string, octets: number): DemoFile {
  const file = openSync(path, "wx");
  try {
    for (let left = octets; left > 0; left -= BLOCK_OCTETS) writeSync(file, world.randomBytes(BLOCK_OCTETS));
  } finally {
    closeSync(file);
  }
  return { path, name: "a file of random octets", octets };
}

/**
 * Sends the file through `here`; what comes out of `there` is written to `copyPath`, and its hash sent back. Rejects when
 * the file cannot be read, the copy cannot be written, or a pipe breaks.
 */
export async function carryFile(
  { time }: World,
  file: DemoFile,
  here: Pipe,
  there: Pipe,
  copyPath: string,
): Promise<Carried> {
  const began = time.now();
  const all = await Promise.all([send(file, here), here.recv(), receive(there, copyPath)]);
  const [{ octets, sha256 }, answer] = all;
  const copySha256 = new TextDecoder().decode(answer.bytes);
  return { octets, sentSha256: sha256, copySha256, seconds: (time.now() - began) / 1000 };
}

async function send({ path }: DemoFile, pipe: Pipe): Promise<{ octets: number; sha256: string }> {
  const hash = new Bun.CryptoHasher("sha256");
  let octets = 0;
  for await (const piece of Bun.file(path).stream()) {
    hash.update(piece);
    octets += piece.length;
    await pipe.send(piece);
  }
  pipe.end();
  return { octets, sha256: hash.digest("hex") };
}

async function receive(pipe: Pipe, path: string): Promise<void> {
  const hash = new Bun.CryptoHasher("sha256");
  const copy = await open(path, "wx");
  try {
    for await (const { bytes } of pipe) {
      hash.update(bytes);
      await copy.appendFile(bytes).catch((thrown: unknown) => {
        throw toP2pdError(thrown, "unavailable", `B's copy ${path} cannot be written`);
      });
    }
  } finally {
    await copy.close();
  }
  await pipe.send(hash.digest("hex"));
  pipe.end();
}
