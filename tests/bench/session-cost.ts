/**
 * What a session costs above its path: octets through a session on a TLS stream of this machine, beside the same through
 * the bare stream, in one process. The sender waits whenever it is told to; the receiver throws away. What is compared is the
 * processor's time: both ends share one thread, and other programs' load does not count.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Path } from "../../core/connect/race.ts";
import { createRealWorld } from "../../core/net/real-world.ts";
import type { SecureStream, World } from "../../core/net/world.ts";
import { openIdentity } from "../../core/node/identity.ts";
import { readOpening } from "../../core/node/opening.ts";
import { Session } from "../../core/node/session.ts";
import { printRatio } from "./figures.ts";

const OCTETS = 2 ** 29;
const PAIRS = 15;
/** As a relay reads them. */
const PIECE = 256 * 1024;
const ID = "AAECAwQFBgcICQoLDA0ODw";

interface Channel {
  readonly write: (bytes: Uint8Array) => boolean;
  readonly drained: Drained;
}

export async function benchSessionCost(): Promise<void> {
  const world = createRealWorld();
  const dataDir = mkdtempSync(join(tmpdir(), "p2pd-bench-"));
  const identity = openIdentity(dataDir, world);
  const { credentials } = identity;
  const streams = Promise.withResolvers<SecureStream>();
  let accepted = streams;
  const listener = await world.listenTcp({
    local: { ip: "127.0.0.1", port: 0 },
    accept: (raw) => {
      const options = { role: "server", credentials, timeoutMs: 5000 } as const;
      world.secure(raw, options).then((stream) => accepted.resolve(stream), accepted.reject);
    },
  });
  const connect = async (): Promise<readonly [SecureStream, SecureStream]> => {
    accepted = Promise.withResolvers<SecureStream>();
    const raw = await world.connectTcp({ remote: listener.local, timeoutMs: 5000 });
    const near = await world.secure(raw, { role: "client", credentials, timeoutMs: 5000 });
    return [near, await accepted.promise];
  };
  const sessions: number[] = [];
  const bare: number[] = [];
  try {
    for (let pair = 0; pair < PAIRS; pair++) {
      bare.push(await overStream(await connect()));
      sessions.push(await overSession(world, await connect()));
    }
  } finally {
    listener.close();
    identity.release();
    rmSync(dataDir, { recursive: true, force: true });
  }
  printRatio("session over TLS", "MB per CPU second", "the bare stream", sessions, bare);
}

async function overStream([near, far]: readonly [SecureStream, SecureStream]): Promise<number> {
  const arrived = Promise.withResolvers<void>();
  const drained = new Drained();
  far.attach({ data: countTo(OCTETS, arrived.resolve), ...SILENT });
  near.attach({ data: () => undefined, ...SILENT, drain: () => drained.tell() });
  const rate = await send({ write: (bytes) => near.write(bytes), drained }, arrived.promise);
  near.abort();
  return rate;
}

async function overSession(
  world: World,
  [near, far]: readonly [SecureStream, SecureStream],
): Promise<number> {
  const { time } = world;
  const pathOf = (stream: SecureStream): Path => ({
    strategy: "direct",
    transport: "tcp",
    candidate: "here",
    stream,
    rttMs: 1,
  });
  const dialer = new Session({ role: "dialer", time, id: ID, path: pathOf(near) });
  const opened = readOpening(far, time);
  dialer.greet();
  const { stream } = await opened;
  const acceptor = new Session({ role: "acceptor", time, id: ID, path: pathOf(stream) });
  acceptor.welcome();
  const arrived = Promise.withResolvers<void>();
  const drained = new Drained();
  acceptor.attach({ message: countTo(OCTETS, arrived.resolve), ...SILENT });
  dialer.attach({ message: () => undefined, ...SILENT, drain: () => drained.tell() });
  const rate = await send({ write: (bytes) => dialer.send(bytes), drained }, arrived.promise);
  dialer.abort();
  await Promise.all([dialer.closed, acceptor.closed]);
  return rate;
}

/** Handlers of what does not matter here. */
const SILENT = { drain: () => undefined, end: () => undefined, close: () => undefined };

/** Takes octets, and calls `reached` when so many have come. */
function countTo(octets: number, reached: () => void): (bytes: Uint8Array) => void {
  let received = 0;
  return (bytes) => {
    received += bytes.length;
    if (received === octets) reached();
  };
}

/** Waits for the next drain. */
class Drained {
  #next = Promise.withResolvers<void>();

  tell(): void {
    this.#next.resolve();
  }

  /** To be called before what may have to be waited for. */
  expect(): Promise<void> {
    this.#next = Promise.withResolvers<void>();
    return this.#next.promise;
  }
}

/** Megabytes per second of the processor's time, from the first octet sent to the last received. */
async function send(channel: Channel, arrived: Promise<void>): Promise<number> {
  const began = process.cpuUsage();
  for (let sent = 0; sent < OCTETS; sent += PIECE) {
    const drained = channel.drained.expect();
    if (!channel.write(new Uint8Array(PIECE))) await drained;
  }
  await arrived;
  const { user, system } = process.cpuUsage(began);
  return OCTETS / (user + system);
}
