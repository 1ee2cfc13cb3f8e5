/**
 * `p2pd demo [FILE]`: the servers and two nodes in this process, on loopback alone; a file goes from one node to the
 * other, every step is told, and nothing is left behind. Servers and nodes are set up in `demo-stage.ts`, the file's way
 * is in `demo-file.ts`.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { P2pdError } from "../../core/errors.ts";
import { formatEndpoint } from "../../core/ip.ts";
import { createLog } from "../../core/log.ts";
import type { Connection } from "../../core/node/node-api.ts";
import type { Node } from "../../core/node/node.ts";
import { carryFile, type DemoFile, fileOf, makeFile } from "./demo-file.ts";
import { DemoStage } from "./demo-stage.ts";
import type { Settings } from "./settings.ts";
import { timelineLines } from "./timeline-lines.ts";

const MEBIBYTE = 1024 * 1024;
const FILE_OCTETS = 16 * MEBIBYTE;

/** A line with the time since the start, and below it what belongs to it. */
type Tell = (what: string, ...more: readonly string[]) => void;

/** Rejects with whatever a step failed for, after everything was closed; `aborted` after a signal. */
export async function runDemo({ world, config, terminal }: Settings, path?: string): Promise<number> {
  const began = world.time.now();
  const tell: Tell = (what, ...more) => {
    const seconds = ((world.time.now() - began) / 1000).toFixed(2).padStart(6);
    terminal.print(`${seconds} s  ${what}`);
    for (const line of more) terminal.print(`          ${line}`);
  };
  const given = path === undefined ? undefined : fileOf(path, terminal.cwd);
  const stopping = new AbortController();
  const signals = terminal.signals();
  void signals.received.then((signal) => stopping.abort(new P2pdError("aborted", `stopped by ${signal}`)));
  const directory = mkdtempSync(join(tmpdir(), "p2pd-demo-"));
  try {
    const log = createLog({
      level: config.logLevel === "debug" ? "debug" : "error",
      format: config.logFormat,
      wallMs: () => world.time.wallMs(),
      write: (line) => terminal.complain(line),
    });
    const stage = new DemoStage(world, directory, log, stopping.signal);
    try {
      await play(stage, tell, () => given ?? makeFile(world, join(directory, "file"), FILE_OCTETS));
    } finally {
      await stage.close();
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
    signals.stop();
  }
  tell("Nodes and servers are closed, and their files are removed.");
  return 0;
}

async function play(stage: DemoStage, tell: Tell, file: () => DemoFile): Promise<void> {
  tell("Two nodes and their servers, in this process and on 127.0.0.1 alone; no other machine is asked.");
  const line = await stage.startServers();
  tell(
    "A broker, STUN and TURN are up, as `p2pd infra` runs them. It prints what nodes are started with:",
    line,
  );
  const [a, b] = await stage.startNodes(line);
  tell("Two nodes are up, started with that line. An id is a node's public key:", `A  ${a.id}`, `B  ${b.id}`);
  await stage.untilSignaling();
  tell(
    "Both have left their addresses with the broker, signed. B's, which can also be passed on by hand:",
    b.address(),
  );
  const sample = file();
  const [here, there] = await stage.open(a, b, "direct");
  tell(`A has opened B by its id: ${describe(here)}.`, ...timelineLines(here.timeline));
  await carry(stage, tell, sample, here, there);
  await closeBoth(a, here, there);
  tell(
    "A has closed the connection, and B has heard of it. Now as where no direct way is found, through TURN:",
  );
  const [relayed, arrived] = await stage.open(a, b, "relayed", { strategies: ["relay"], relay: "first" });
  tell(`A has opened B through the relay: ${describe(relayed)}.`, ...timelineLines(relayed.timeline));
  await carry(stage, tell, sample, relayed, arrived);
  await closeBoth(a, relayed, arrived);
  tell("That is closed as well. The relay saw nothing but what A and B had encrypted for each other.");
}

async function carry(
  stage: DemoStage,
  tell: Tell,
  file: DemoFile,
  here: Connection,
  there: Connection,
): Promise<void> {
  tell(`A sends ${file.name}, ${mebibytes(file.octets)}, and B writes what comes to a file of its own.`);
  const copyPath = stage.copyOf(here.name);
  const { sentSha256, copySha256, octets, seconds } = await stage.unlessStopped(
    carryFile(stage.world, file, here.pipe, there.pipe, copyPath),
    [here, there],
  );
  if (copySha256 !== sentSha256) {
    const both = `SHA-256 ${sentSha256} was sent, ${copySha256} has come`;
    throw new P2pdError("protocol", `B's copy of ${file.name} is another file: ${both}`);
  }
  rmSync(copyPath);
  const rate = seconds > 0 ? `, ${(octets / MEBIBYTE / seconds).toFixed(0)} MiB/s` : "";
  tell(
    `B has all of it after ${seconds.toFixed(2)} s${rate}. SHA-256 of what A has read and of B's copy:`,
    sentSha256,
    copySha256,
  );
}

async function closeBoth(a: Node, here: Connection, there: Connection): Promise<void> {
  await a.close(here.name);
  await there.pipe.closed;
}

function describe({ path, openedMs, cipher, pipe }: Connection): string {
  return `${path} to ${formatEndpoint(pipe.remote)} after ${openedMs.toFixed(0)} ms, ${cipher}, both keys proved`;
}

function mebibytes(octets: number): string {
  return `${(octets / MEBIBYTE).toFixed(1)} MiB`;
}
