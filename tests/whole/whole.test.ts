/** The program as its users meet it: processes, real sockets, real amounts of data. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildExecutable } from "../build.ts";
import { type Daemon, startDaemon } from "../daemon-process.ts";
import { PIPE_FORMS, transfer } from "./pipe-transfer.ts";

const isLab = process.env["P2PD_LAB"] === "1";
const isLinux = process.platform === "linux";
const MEBIBYTE = 1024 * 1024;

describe("pipes carry real amounts", () => {
  for (const form of Object.keys(PIPE_FORMS) as (keyof typeof PIPE_FORMS)[]) {
    const mebibytes = isLab ? 1024 : 64;
    test(`${mebibytes} MiB through a pipe in the ${form} form to the echo service and back are the same octets`, async () => {
      await using daemon = await startDaemon();
      expect(await daemon.get("/p2p/open/big/self?service=echo")).toMatchObject({ error: 0 });
      const result = await transfer(daemon.port, "big", form, mebibytes * MEBIBYTE);
      expect(result.received).toBe(mebibytes * MEBIBYTE);
      expect(result.receivedHash).toBe(result.sentHash);
      console.log(`${form}: ${((2 * mebibytes) / result.seconds).toFixed(0)} MiB/s there and back`);
    }, 120_000);
  }
});

describe.skipIf(!isLinux)("the daemon's memory and descriptors", () => {
  test("a slow reader against a fast writer costs less than 32 MiB more than a fast reader", async () => {
    await using daemon = await startDaemon();
    await daemon.get("/p2p/open/slow/self?service=echo");
    await daemon.get("/p2p/open/fast/self?service=echo");
    // What is not used any more comes and goes by some 60 MiB, whoever reads: the heights are compared.
    const before = await highestDuring(daemon, transfer(daemon.port, "fast", "plain", 256 * MEBIBYTE));
    const reading = readSlowly(daemon, "slow", isLab ? 60 : 5);
    const highest = await highestDuring(daemon, reading);
    const received = await reading;
    expect(received).toBeGreaterThan(0);
    expect(highest - before).toBeLessThan(32 * MEBIBYTE);
    const heights = [before, highest].map((octets) => (octets / MEBIBYTE).toFixed(0));
    console.log(`resident MiB at the height with a fast reader and with a slow one: ${heights.join(", ")}`);
  }, 120_000);

  test("1,000 connections at once are opened, used and closed, and nothing of them stays", async () => {
    await using daemon = await startDaemon();
    const use = async (names: readonly string[]): Promise<void> => {
      const opened = await Promise.all(names.map((name) => daemon.get(`/p2p/open/${name}/self`)));
      expect(opened.filter(({ error }) => error !== 0)).toEqual([]);
      const answers = await Promise.all(
        names.map(async (name) => {
          await daemon.get(`/p2p/send/${name}/ECHO%20${name}`);
          return daemon.get(`/p2p/recv/${name}?timeout=30`);
        }),
      );
      expect(answers.map(({ data }) => data)).toEqual([...names]);
      const closed = await Promise.all(names.map((name) => daemon.get(`/p2p/close/${name}`)));
      expect(closed.filter(({ error }) => error !== 0)).toEqual([]);
    };
    // A hundred one after the other load what is loaded at first use; they never need much at once.
    for (let i = 0; i < 100; i++) await use([`first${i}`]);
    const [memory, descriptors] = [await settledBytes(daemon), await settledDescriptors(daemon)];
    await use(Array.from({ length: 1000 }, (_, i) => `many${i}`));
    const highest = residentBytes(daemon);
    expect(await daemon.get("/p2p/cons")).toMatchObject({ error: 0, cons: [] });
    expect(await settledDescriptors(daemon)).toBeLessThanOrEqual(descriptors);
    // The allocator gives memory back in its own time, some fifteen seconds later.
    for (let second = 0; second < 40 && residentBytes(daemon) > memory * 1.2; second++) await Bun.sleep(1000);
    const after = residentBytes(daemon);
    const mebibytes = [memory, highest, after].map((bytes) => Math.round(bytes / MEBIBYTE));
    console.log(`resident MiB before, at the end, and some seconds later: ${mebibytes.join(", ")}`);
    expect(after).toBeLessThan(memory * 1.2);
  }, 120_000);
});

describe.skipIf(!isLab)("on a machine that has only lo", () => {
  const namespace = `p2pd-lo-${process.pid}`;
  let directory = "";
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "p2pd-built-"));
    shell("ip", "netns", "add", namespace);
    shell("ip", "-n", namespace, "link", "set", "lo", "up");
  });
  afterAll(() => {
    shell("ip", "netns", "del", namespace);
    rmSync(directory, { recursive: true, force: true });
  });

  test("the program from source answers within 600 ms and serves a session with curl, and a demo", () => {
    const command = [process.execPath, join(import.meta.dir, "../../index.ts")];
    const { medianStartMs } = session(...command);
    expect(medianStartMs).toBeLessThan(600);
    demo(...command);
  }, 120_000);

  test("the executable answers within 300 ms and serves the same session and demo", async () => {
    const executable = await buildExecutable(join(directory, "p2pd"));
    const { medianStartMs } = session(executable);
    expect(medianStartMs).toBeLessThan(300);
    demo(executable);
  }, 180_000);

  function demo(...command: string[]): void {
    const told = shell("ip", "netns", "exec", namespace, ...command, "demo")
      .trim()
      .split("\n");
    console.log(told.at(-1)?.trim());
    expect(told.at(-1)).toEndWith("Nodes and servers are closed, and their files are removed.");
  }

  function session(...command: string[]): { medianStartMs: number } {
    const program = join(import.meta.dir, "only-loopback.ts");
    const printed = shell("ip", "netns", "exec", namespace, process.execPath, program, ...command);
    console.log(printed.trim());
    return JSON.parse(printed) as { medianStartMs: number };
  }
});

function shell(...words: string[]): string {
  const run = Bun.spawnSync(words, { stderr: "pipe" });
  if (run.exitCode !== 0)
    throw new Error(`${words.join(" ")}: ${run.stderr.toString()}${run.stdout.toString()}`);
  return run.stdout.toString();
}

function residentBytes(daemon: Daemon): number {
  return Number(/VmRSS:\s+([0-9]+) kB/.exec(readFileSync(`/proc/${daemon.pid}/status`, "utf8"))?.[1]) * 1024;
}

/** The most resident memory until `work` is done. */
async function highestDuring(daemon: Daemon, work: Promise<unknown>): Promise<number> {
  let highest = residentBytes(daemon);
  const timer = setInterval(() => (highest = Math.max(highest, residentBytes(daemon))), 20);
  await work.finally(() => clearInterval(timer));
  return highest;
}

/** Resident memory once it has stopped falling: the collector runs in its own time. */
async function settledBytes(daemon: Daemon): Promise<number> {
  let lowest = Number.POSITIVE_INFINITY;
  for (let steady = 0; steady < 5; ) {
    await Bun.sleep(400);
    const now = residentBytes(daemon);
    steady = now < lowest - MEBIBYTE ? 0 : steady + 1;
    lowest = Math.min(lowest, now);
  }
  return lowest;
}

/** Open descriptors, when closed connections have had time to leave the kernel's tables. */
async function settledDescriptors(daemon: Daemon): Promise<number> {
  let count = Number.POSITIVE_INFINITY;
  for (;;) {
    const now = readdirSync(`/proc/${daemon.pid}/fd`).length;
    if (now >= count) return count;
    count = now;
    await Bun.sleep(300);
  }
}

/** Reads 1 MiB/s for so many seconds while a writer fills the pipe as fast as it is let. */
async function readSlowly(daemon: Daemon, name: string, seconds: number): Promise<number> {
  const block = new Uint8Array(MEBIBYTE);
  let received = 0;
  let rest: Uint8Array = Buffer.from(PIPE_FORMS.plain.head(name));
  const pump = (socket: Bun.Socket): void => {
    for (;;) {
      rest = rest.subarray(Math.max(socket.write(rest), 0));
      if (rest.length > 0) return;
      rest = block;
    }
  };
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port: daemon.port,
    socket: {
      open: pump,
      drain: pump,
      data(socket, bytes) {
        received += bytes.length;
        if (received > allowed) socket.pause();
      },
    },
  });
  let allowed = 0;
  for (let tick = 0; tick < seconds * 10; tick++) {
    allowed += MEBIBYTE / 10;
    if (received < allowed) socket.resume();
    await Bun.sleep(100);
  }
  socket.terminate();
  return received;
}
