/**
 * One node per data directory: a lock file that names the process which holds it. A lock whose process is gone is
 * taken over; a process is told from a later one with the same number by its start time, where that can be read.
 */
import { linkSync, readFileSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { P2pdError } from "../errors.ts";
import type { World } from "../net/world.ts";

const LOCK_FILE = "node.lock";
/** Directories held by this process: its own number in a lock file may be that of a predecessor. */
const held = new Map<string, () => void>();
process.on("exit", () => {
  for (const release of held.values()) release();
});

/** Takes the lock and returns how to release it. Throws `configuration`, naming the process that holds it. */
export function lockDirectory(directory: string, world: World): () => void {
  const path = join(resolve(directory), LOCK_FILE);
  const unique = (): string => `${path}.${Buffer.from(world.randomBytes(6)).toString("hex")}`;
  const content = `${process.pid} ${startOf(process.pid)}\n`;
  for (let attempt = 0; attempt < 5; attempt++) {
    if (held.has(path)) throw busy(directory, process.pid);
    if (create(path, unique(), content, directory)) {
      const release = (): void => {
        held.delete(path);
        if (read(path) === content) remove(path);
      };
      held.set(path, release);
      return release;
    }
    const found = read(path);
    if (found === undefined) continue;
    const holder = livingHolder(found);
    if (holder !== undefined) throw busy(directory, holder);
    takeAway(path, unique(), found);
  }
  throw new P2pdError(
    "configuration",
    `the lock ${path} changes hands all the time; start one node per dataDir`,
    { path },
  );
}

/** A link either makes the whole file or fails, so nobody ever reads half a lock. */
function create(path: string, draft: string, content: string, directory: string): boolean {
  try {
    writeFileSync(draft, content, { mode: 0o600, flag: "wx" });
    linkSync(draft, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw new P2pdError(
      "configuration",
      `dataDir ${directory} cannot be written to (${(error as Error).message}); name a directory that this user may write to`,
      { directory },
      { cause: error },
    );
  } finally {
    remove(draft);
  }
}

/** Removes a stale lock; one that another process put there meanwhile is put back. */
function takeAway(path: string, aside: string, stale: string): void {
  try {
    renameSync(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  if (read(aside) === stale) remove(aside);
  else renameSync(aside, path);
}

/** Number of the process that holds a lock of this content; undefined if there is none any more. */
function livingHolder(content: string): number | undefined {
  const match = /^([1-9][0-9]{0,9}) ([0-9]+)\n$/.exec(content);
  if (match === null) return undefined;
  const pid = Number(match[1]);
  if (pid === process.pid || !isAlive(pid)) return undefined;
  const start = startOf(pid);
  return start === "0" || match[2] === "0" || start === match[2] ? pid : undefined;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** When a process began, in clock ticks since boot (proc(5), field 22); "0" where that is not to be had. */
function startOf(pid: number): string {
  const stat = read(`/proc/${pid}/stat`);
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "0";
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    // Gone, or of a system without such files: nothing is known.
    return undefined;
  }
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // What is not there, or lies where nothing can be written, needs no removing.
    return;
  }
}

function busy(directory: string, pid: number): P2pdError {
  return new P2pdError(
    "configuration",
    `dataDir ${directory} is in use by the node of process ${pid}; end that, or give this node a directory of its own with dataDir (--data-dir, P2PD_DATA_DIR)`,
    { directory, pid },
  );
}
