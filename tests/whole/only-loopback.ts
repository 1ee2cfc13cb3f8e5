/**
 * A session with curl as P2PD's users know it, against a daemon in a machine that has only `lo`. A program, so
 * that it can be run inside a namespace of its own; the words after it start the daemon. Prints what it measured
 * as JSON and ends with 1 at the first answer that is not as it should be.
 */
import { deepStrictEqual, match, strictEqual } from "node:assert";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const STARTS = 10;
const PORT = 12_333;
const command = process.argv.slice(2);
const directory = mkdtempSync(join(tmpdir(), "p2pd-loopback-"));

try {
  const startMs: number[] = [];
  for (let round = 0; round < STARTS; round++) {
    const { daemon, ms } = await start();
    startMs.push(ms);
    if (round === STARTS - 1) session();
    daemon.kill("SIGTERM");
    strictEqual(await daemon.exited, 0);
  }
  startMs.sort((a, b) => a - b);
  console.log(
    JSON.stringify({ medianStartMs: ((startMs[4] as number) + (startMs[5] as number)) / 2, startMs }),
  );
} finally {
  rmSync(directory, { recursive: true, force: true });
}

/** Starts a daemon with the settings it has by itself; milliseconds until `GET /version` was answered. */
async function start(): Promise<{ daemon: Bun.Subprocess; ms: number }> {
  const begun = performance.now();
  const daemon = Bun.spawn([...command], {
    cwd: directory,
    env: { ...process.env, P2PD_DATA_DIR: join(directory, "data") },
    stdio: ["ignore", "ignore", "inherit"],
  });
  for (;;) {
    if (await answers()) return { daemon, ms: performance.now() - begun };
    if (daemon.exitCode !== null) throw new Error(`the daemon ended with ${daemon.exitCode}`);
  }
}

/** Asks once, as soon as a connection is accepted; a refused connect is the only clock of this loop. */
async function answers(): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${PORT}/version`);
    return response.ok;
  } catch {
    await Bun.sleep(1);
    return false;
  }
}

function session(): void {
  const version = curl("/version");
  deepStrictEqual([version["error"], version["title"]], [0, "P2PD"]);
  const nics = curl("/p2p/ifs")["ifs"] as { name: string }[];
  deepStrictEqual(
    nics.map(({ name }) => name),
    ["lo"],
  );
  match(String(curl("/p2p/addr")["addr"]), /^[A-Za-z0-9.:,~_-]+$/);

  const opened = curl("/p2p/open/con/self");
  deepStrictEqual([opened["error"], opened["name"], opened["strategy"]], [0, "con", "direct"]);
  strictEqual(curl("/p2p/open/con/self")["error"], 2);
  strictEqual(curl("/p2p/con/con")["name"], "con");
  strictEqual(curl("/info/none")["error"], 7);
  strictEqual(curl("/p2p/con/none")["error"], 4);

  const sent = curl("/p2p/send/con/ECHO%20hello%20world");
  deepStrictEqual([sent["error"], sent["name"], sent["con_name"], sent["sent"]], [0, "con", "con", 16]);
  const received = curl("/p2p/recv/con/timeout/5");
  deepStrictEqual([received["error"], received["data"]], [0, "hello world"]);
  deepStrictEqual(received["client_tup"], opened["raddr"]);
  strictEqual(curl("/p2p/recv/con?timeout=0")["error"], 6);
  strictEqual(curl("/p2p/recv/con?timeout=0.1")["error"], 5);

  strictEqual(curl("/p2p/sub/con/name/pings/msg_p/%5Eping/addr_p/.*")["error"], 0);
  strictEqual(curl("/p2p/sub/con/name/pings/msg_p/%5Eping/addr_p/.*")["error"], 9);
  strictEqual(curl("/p2p/sub/con/name/all/msg_p/x/addr_p/y")["error"], 10);
  curl("/p2p/send/con/ECHO%20ping%201");
  strictEqual(curl("/p2p/recv/con?sub=pings&timeout=5")["data"], "ping 1");
  strictEqual(curl("/p2p/sub/con/name/pings", "-X", "DELETE")["error"], 0);
  curl("/p2p/recv/con?timeout=5");

  const octets = Buffer.from([0x45, 0x43, 0x48, 0x4f, 0x20, 0, 1, 254, 255]);
  const posted = curlRaw("/p2p/binary/con", ["-X", "POST", "--data-binary", "@-"], octets);
  strictEqual((JSON.parse(posted.toString()) as { sent: number }).sent, octets.length);
  deepStrictEqual(curlRaw("/p2p/binary/con?timeout=5", []), octets.subarray(5));

  strictEqual((curl("/p2p/cons")["cons"] as unknown[]).length, 1);
  strictEqual(curl("/p2p/close/con")["closed"], "con");
  strictEqual(curl("/p2p/close/con")["error"], 4);
  strictEqual(curl("/no/such/path")["error"], 1);
}

function curl(path: string, ...words: string[]): Record<string, unknown> {
  return JSON.parse(curlRaw(path, words).toString()) as Record<string, unknown>;
}

function curlRaw(path: string, words: readonly string[], input?: Buffer): Buffer {
  const run = Bun.spawnSync(["curl", "-sS", "-m", "20", ...words, `http://127.0.0.1:${PORT}${path}`], {
    stdin: input ?? "ignore",
    stderr: "inherit",
  });
  if (run.exitCode !== 0) throw new Error(`curl ended with ${run.exitCode} for ${path}`);
  return run.stdout;
}
