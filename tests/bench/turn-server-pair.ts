/** `p2pd infra` and coturn for benchmarks, both on the first core; whoever asks for them is put on the second. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRealWorld } from "../../core/net/real-world.ts";
import { freePort } from "../core/signal/brokers.ts";

/** Of `/proc/PID/stat`, per second. */
const TICKS = 100;
const world = createRealWorld();

/** STUN and TURN over UDP and TCP on loopback; its user is `user` with the password `pass`. */
export interface BenchServer {
  readonly port: number;
  /** Seconds of processor time so far. */
  cpu(): number;
  /** Resident memory in KiB, and open descriptors. */
  use(): { readonly residentKib: number; readonly descriptors: number };
  close(): Promise<void>;
}

export async function withBothServers(
  use: (servers: { readonly ours: BenchServer; readonly theirs: BenchServer }) => Promise<void>,
): Promise<void> {
  Bun.spawnSync(["taskset", "-pc", "1", String(process.pid)], { stdout: "ignore" });
  const directory = mkdtempSync(join(tmpdir(), "p2pd-bench-turn-"));
  const servers = { ours: await startOurs(directory), theirs: await startCoturn(directory) };
  try {
    await use(servers);
  } finally {
    await servers.ours.close();
    await servers.theirs.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

async function startOurs(directory: string): Promise<BenchServer> {
  const port = await freePort();
  const words =
    `infra --infra-servers stun,turn --infra-ips 127.0.0.1 --infra-port ${port} --infra-users user:pass ` +
    `--infra-max-per-user 4096 --infra-allow-peers 127.0.0.0/8 --infra-answers-per-second 0 --infra-status-port 0 --data-dir ${directory}/ours`;
  const program = join(import.meta.dir, "../../index.ts");
  return start([process.execPath, program, ...words.split(" ")], port, directory);
}

async function startCoturn(directory: string): Promise<BenchServer> {
  const port = await freePort();
  const words =
    `turnserver -n -L 127.0.0.1 -E 127.0.0.1 -p ${port} -a -u user:pass -r bench --allow-loopback-peers -m 1 ` +
    `--no-tls --no-dtls --no-cli -l ${directory}/log --pidfile ${directory}/pid --userdb ${directory}/db`;
  return start(words.split(" "), port, directory);
}

async function start(command: readonly string[], port: number, cwd: string): Promise<BenchServer> {
  const child = Bun.spawn(["taskset", "-c", "0", ...command], { cwd, stdout: "ignore", stderr: "ignore" });
  const remote = { ip: "127.0.0.1", port };
  for (let left = 200; ; left--) {
    const stream = await world.connectTcp({ remote, timeoutMs: 1000 }).catch(() => undefined);
    stream?.abort();
    if (stream !== undefined) break;
    if (left === 0) throw new Error(`${command[0]} does not answer`);
    await Bun.sleep(50);
  }
  return {
    port,
    cpu() {
      const fields = readFileSync(`/proc/${child.pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
      return (Number(fields[11]) + Number(fields[12])) / TICKS;
    },
    use() {
      const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
      return {
        residentKib: Number(/VmRSS:\s+([0-9]+)/.exec(status)?.[1]),
        descriptors: readdirSync(`/proc/${child.pid}/fd`).length,
      };
    },
    async close() {
      child.kill();
      await child.exited;
    },
  };
}
