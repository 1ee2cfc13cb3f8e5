/** Byte streams of the simulation over lines of every quality: nothing lost, doubled or out of order, whatever pauses. */
import { expect } from "bun:test";
import type { ByteStream } from "../../core/net/world.ts";
import { createTestIdentity } from "../core/net/credentials.ts";
import { type SeededRandom, seededRandom } from "../nat/seeded-random.ts";
import { changeSettings, DEFAULT_SETTINGS } from "../nat/settings.ts";
import { type RouterKind, twoHosts } from "../nat/topologies.ts";
import { simTest, type SimTestOptions } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";

const [alice, bob] = [createTestIdentity(), createTestIdentity()];
const SEEDS = Array.from({ length: 12 }, (_, i) => i + 1);
const TIMEOUT_MS = 1_000_000;

for (const kind of ["TCP", "TLS", "QUIC"] as const) {
  simTest(
    `${kind}: two writers and two readers who pause, over any line`,
    SEEDS,
    async (sim) => {
      const ends = await { TCP: tcpPair, TLS: tlsPair, QUIC: quicPair }[kind](sim);
      const [fromA, fromB] = [octets(sim.random), octets(sim.random)];
      const heard = await Promise.all([
        exchange(sim, ends[0], fromA, sim.random.fork("a")),
        exchange(sim, ends[1], fromB, sim.random.fork("b")),
      ]);
      expect(heard.map((bytes) => Bun.hash(bytes))).toEqual([Bun.hash(fromB), Bun.hash(fromA)]);
    },
    anyLine,
  );
}

/** Delay up to 150 ms, every second time jitter, up to 20 % loss each way. */
function anyLine(seed: number): SimTestOptions {
  const random = seededRandom(seed).fork("line");
  const link = {
    delayMs: random.between(0, 150),
    jitterMs: random.next() < 0.5 ? 0 : random.between(1, 60),
    loss: 0.2 * random.next(),
  };
  const line = (change: Partial<typeof link>): RouterKind => ({
    kind: "box",
    settings: changeSettings(DEFAULT_SETTINGS, { mode: "open", link: change }),
  });
  return { topology: twoHosts(line(link), line({})), limitMs: 10 * TIMEOUT_MS };
}

/** Writes all of `bytes` in pieces, as fast as it may, and reads to the end with pauses. Rejects on any disorder. */
function exchange(
  sim: Simulation,
  stream: ByteStream,
  bytes: Uint8Array,
  random: SeededRandom,
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const heard: Uint8Array[] = [];
    let at = 0;
    let ended = false;
    const pump = (): void => {
      while (at < bytes.length) {
        const piece = bytes.subarray(at, at + random.between(1, 40_000));
        at += piece.length;
        if (!stream.write(piece)) return;
      }
      stream.end();
    };
    stream.attach({
      data(piece) {
        if (ended) reject(new Error("data after the end"));
        heard.push(piece);
        if (random.next() > 0.02) return;
        stream.pause();
        sim.scheduler.after(random.between(0, 3000), () => stream.resume());
      },
      drain: pump,
      end: () => (ended = true),
      close(error) {
        if (error !== undefined || !ended) reject(error ?? new Error("closed before the end"));
        else resolve(new Uint8Array(Buffer.concat(heard)));
      },
    });
    pump();
  });
}

async function tcpPair(sim: Simulation): Promise<readonly [ByteStream, ByteStream]> {
  const [a, b] = [sim.host("alice"), sim.host("bob")];
  const accepted = Promise.withResolvers<ByteStream>();
  const listener = await b.world.listenTcp({ local: { ip: b.ip(), port: 80 }, accept: accepted.resolve });
  const near = await a.world.connectTcp({ remote: listener.local, timeoutMs: TIMEOUT_MS });
  return [near, await accepted.promise];
}

async function tlsPair(sim: Simulation): Promise<readonly [ByteStream, ByteStream]> {
  const [near, far] = await tcpPair(sim);
  const options = { timeoutMs: TIMEOUT_MS };
  return Promise.all([
    sim.host("alice").world.secure(near, { ...options, role: "client", credentials: alice.credentials }),
    sim.host("bob").world.secure(far, { ...options, role: "server", credentials: bob.credentials }),
  ]);
}

async function quicPair(sim: Simulation): Promise<readonly [ByteStream, ByteStream]> {
  const [a, b] = [sim.host("alice"), sim.host("bob")];
  const accepted = Promise.withResolvers<ByteStream>();
  const to = await b.world.openQuic?.({
    local: { ip: b.ip(), port: 80 },
    credentials: bob.credentials,
    accept: accepted.resolve,
  });
  const from = await a.world.openQuic?.({ local: { ip: a.ip(), port: 0 }, credentials: alice.credentials });
  if (to === undefined || from === undefined) throw new Error("the simulated world has QUIC");
  const near = await from.connect({ remote: to.local, expectedKey: bob.key, timeoutMs: TIMEOUT_MS });
  return [near, await accepted.promise];
}

function octets(random: SeededRandom): Uint8Array {
  const bytes = new Uint8Array(random.between(0, 200_000));
  for (let i = 0; i < bytes.length; i++) bytes[i] = random.between(0, 255);
  return bytes;
}
