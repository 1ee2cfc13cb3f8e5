/**
 * Which laboratories there are on this machine: each is the set of network namespaces whose names begin with
 * its id, and the id names the process that owns it. So two may run side by side, and one whose owner died can
 * be told and removed.
 */
import { readdirSync, readFileSync, readlinkSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { commandNow } from "./shell.ts";

const PREFIX = "p2pdlab";
const NETNS = "/run/netns";
const ID = new RegExp(`^(${PREFIX}-([0-9]+)-([0-9a-z]+)-[0-9a-z]+)-`);

export interface KnownLab {
  readonly id: string;
  readonly ownerPid: number;
  readonly ownerAlive: boolean;
  readonly namespaces: readonly string[];
}

let labsOfThisProcess = 0;

/** A fresh id: `p2pdlab-PID-START-NUMBER`, START being when the process began, since pids are used again. */
export function newLabId(): string {
  const number = (labsOfThisProcess++).toString(36);
  return `${PREFIX}-${process.pid}-${startOf(process.pid) ?? "0"}-${number}`;
}

/** All laboratories whose namespaces exist. */
export function knownLabs(): readonly KnownLab[] {
  const labs = new Map<string, { ownerPid: number; start: string; namespaces: string[] }>();
  for (const namespace of namespaceNames()) {
    const match = ID.exec(namespace);
    if (match === null) continue;
    const [, id = "", pid = "", start = ""] = match;
    const lab = labs.get(id) ?? { ownerPid: Number(pid), start, namespaces: [] };
    lab.namespaces.push(namespace);
    labs.set(id, lab);
  }
  return [...labs].map(([id, { ownerPid, start, namespaces }]) => ({
    id,
    ownerPid,
    ownerAlive: startOf(ownerPid) === start,
    namespaces,
  }));
}

/**
 * Ends every process inside a laboratory's namespaces, and removes those and its directory. At once, so that
 * it may run while the process ends; returns what could not be removed.
 */
export function removeLab(id: string): readonly string[] {
  const namespaces = namespaceNames().filter((name) => name.startsWith(`${id}-`));
  const inodes = new Set(namespaces.map((name) => statSync(`${NETNS}/${name}`).ino));
  for (const pid of processesIn(inodes)) {
    try {
      process.kill(pid, "SIGKILL");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
  if (namespaces.length > 0) {
    commandNow(["ip", "-force", "-batch", "-"], namespaces.map((name) => `netns delete ${name}\n`).join(""));
  }
  rmSync(labDirectory(id), { recursive: true, force: true });
  return namespaceNames().filter((name) => name.startsWith(`${id}-`));
}

/** Where a laboratory keeps configuration files and logs of its servers. */
export function labDirectory(id: string): string {
  return join(tmpdir(), id);
}

function namespaceNames(): string[] {
  try {
    return readdirSync(NETNS);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

function processesIn(inodes: ReadonlySet<number>): number[] {
  const found: number[] = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^[0-9]+$/.test(entry) || Number(entry) === process.pid) continue;
    const inode = /\[([0-9]+)\]/.exec(linkOf(`/proc/${entry}/ns/net`))?.[1];
    if (inode !== undefined && inodes.has(Number(inode))) found.push(Number(entry));
  }
  return found;
}

/** The target of a link; "" when the process behind it has gone meanwhile. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}

/** When a process began, in base 36 clock ticks; undefined if there is none. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : Number(fields[19]).toString(36);
  } catch {
    return undefined;
  }
}
