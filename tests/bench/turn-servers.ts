/**
 * STUN answers and relayed datagrams of `p2pd infra` beside coturn's, each server alone on the first core and the client on
 * the second. Since the client may be the slower of the two, what counts is also told for a second of the server's own
 * processor time.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRealWorld } from "../../core/net/real-world.ts";
import { openTurn } from "../../core/turn/open-turn.ts";
import { encodeStun } from "../../core/wire/stun.ts";
import { freePort } from "../core/signal/brokers.ts";
import { printRatio } from "./figures.ts";

const PAIRS = 3;
const SECONDS = 2;
const WINDOW = 64;
const PAYLOAD = 1200;
/** Of `/proc/PID/stat`, per second. */
const TICKS = 100;
const world = createRealWorld();

interface Server {
  readonly port: number;
  /** Seconds of processor time so far. */
  cpu(): number;
  close(): Promise<void>;
}

interface Measured {
  readonly rate: number;
  readonly perCpuSecond: number;
}

export async function benchTurnServers(): Promise<void> {
  Bun.spawnSync(["taskset", "-pc", "1", String(process.pid)], { stdout: "ignore" });
  const directory = mkdtempSync(join(tmpdir(), "p2pd-bench-turn-"));
  const servers = { ours: await startOurs(directory), theirs: await startCoturn(directory) };
  try {
    for (const [what, run] of [
      ["STUN answers", answers],
      ["relayed datagrams of 1200 octets", datagrams],
    ] as const) {
      const measured: Record<keyof typeof servers, Measured[]> = { ours: [], theirs: [] };
      for (let pair = 0; pair < PAIRS; pair++) {
        for (const name of ["ours", "theirs"] as const)
          measured[name].push(await measure(servers[name], run));
      }
      const figures = (name: keyof Measured) =>
        [measured.ours.map((one) => one[name]), measured.theirs.map((one) => one[name])] as const;
      printRatio(what, "per second", "coturn", ...figures("rate"));
      printRatio(what, "per second of the server's core", "coturn", ...figures("perCpuSecond"));
    }
  } finally {
    await servers.ours.close();
    await servers.theirs.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

async function measure(server: Server, run: (port: number) => Promise<number>): Promise<Measured> {
  const [cpu, began] = [server.cpu(), performance.now()];
  const count = await run(server.port);
  const seconds = (performance.now() - began) / 1000;
  return { rate: count / seconds, perCpuSecond: count / (server.cpu() - cpu) };
}

/** Keeps so many messages under way until the time is over: what is lost is sent again when nothing moves any more. */
function keepUnderWay(send: () => void, count: () => number, done: () => void): () => boolean {
  const until = performance.now() + SECONDS * 1000;
  let last = -1;
  const timer = setInterval(() => {
    if (performance.now() >= until) {
      clearInterval(timer);
      done();
    } else if (count() === last) fill();
    last = count();
  }, 20);
  const fill = (): void => {
    for (let i = 0; i < WINDOW; i++) send();
  };
  fill();
  return () => performance.now() < until;
}

/** Binding requests from one port, so many under way at a time; how many were answered. */
async function answers(port: number): Promise<number> {
  const request = encodeStun({ class: "request", method: 1, transactionId: new Uint8Array(12) });
  const done = Promise.withResolvers<void>();
  let count = 0;
  let goesOn = (): boolean => true;
  const socket = await Bun.udpSocket({
    hostname: "127.0.0.1",
    socket: {
      data(self) {
        count++;
        if (goesOn()) self.send(request, port, "127.0.0.1");
      },
    },
  });
  const send = (): void => void socket.send(request, port, "127.0.0.1");
  goesOn = keepUnderWay(send, () => count, done.resolve);
  await done.promise;
  socket.close();
  return count;
}

/** Datagrams through a channel to a peer that sends them back; how many were relayed, both ways counted. */
async function datagrams(port: number): Promise<number> {
  const at = { host: "127.0.0.1", port, transport: "udp", username: "user", password: "pass" } as const;
  const turn = await openTurn(world, at, { relayed: "udp", families: [4], localIp: "127.0.0.1" });
  const peer = await world.openUdp({ local: { ip: "127.0.0.1", port: 0 } });
  peer.attach({ message: (bytes, from) => void peer.send(bytes, from) });
  await turn.bind(peer.local);
  const payload = new Uint8Array(PAYLOAD);
  const done = Promise.withResolvers<void>();
  const send = (): void => void turn.send(payload, peer.local);
  let count = 0;
  let goesOn = (): boolean => true;
  turn.attach({
    message() {
      count += 2;
      if (goesOn()) send();
    },
    closed: (error) => done.reject(error),
  });
  goesOn = keepUnderWay(send, () => count, done.resolve);
  await done.promise;
  await turn.close();
  peer.close();
  return count;
}

async function startOurs(directory: string): Promise<Server> {
  const port = await freePort();
  const words =
    `infra --infra-servers stun,turn --infra-ips 127.0.0.1 --infra-port ${port} --infra-users user:pass ` +
    `--infra-allow-peers 127.0.0.0/8 --infra-answers-per-second 0 --infra-status-port 0 --data-dir ${directory}/ours`;
  const program = join(import.meta.dir, "../../index.ts");
  return start([process.execPath, program, ...words.split(" ")], port, directory);
}

async function startCoturn(directory: string): Promise<Server> {
  const port = await freePort();
  const words =
    `turnserver -n -L 127.0.0.1 -E 127.0.0.1 -p ${port} -a -u user:pass -r bench --allow-loopback-peers -m 1 ` +
    `--no-tls --no-dtls --no-cli -l ${directory}/log --pidfile ${directory}/pid --userdb ${directory}/db`;
  return start(words.split(" "), port, directory);
}

async function start(command: readonly string[], port: number, cwd: string): Promise<Server> {
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
    async close() {
      child.kill();
      await child.exited;
    },
  };
}
