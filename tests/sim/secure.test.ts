/** The simulation's TLS: one round trip, keys that are proved, everything that must be refused. */
import { expect } from "bun:test";
import type { ByteStream, SecureOptions, SecureStream } from "../../core/net/world.ts";
import { createTestIdentity } from "../core/net/credentials.ts";
import { changeSettings, DEFAULT_SETTINGS } from "../nat/settings.ts";
import { type RouterKind, twoHosts } from "../nat/topologies.ts";
import { codeOf } from "./code-of.ts";
import { collectStream } from "./collect-stream.ts";
import { encodeRecord, HANDSHAKE } from "./secure-records.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";

const [alice, bob] = [createTestIdentity(), createTestIdentity()];
const ROUND_TRIP_MS = 100;
const topology = twoHosts(line(ROUND_TRIP_MS / 2), line(0));

simTest(
  "both sides prove their keys in one round trip, and carry data both ways",
  [1],
  async (sim) => {
    const [near, far] = await pair(sim);
    const began = sim.scheduler.nowMs;
    const [client, server] = await Promise.all([
      secured(sim, near, "client", { expectedKey: bob.key }).then((stream) => {
        expect(sim.scheduler.nowMs - began).toBeWithin(ROUND_TRIP_MS, ROUND_TRIP_MS + 1);
        return stream;
      }),
      secured(sim, far, "server"),
    ]);
    expect(client.peerKey).toEqual(bob.key);
    expect(server.peerKey).toEqual(alice.key);
    expect(client.cipher).toBe("TLS_AES_128_GCM_SHA256");
    const [atClient, atServer] = [collectStream(client), collectStream(server)];
    const big = new Uint8Array(300_000).fill(7);
    client.write(text("hello"));
    client.write(big);
    server.write(text("world"));
    client.end();
    expect(await atServer.ended).toHaveLength(big.length + 5);
    server.end();
    expect(new TextDecoder().decode(await atClient.ended)).toBe("world");
    expect(await Promise.all([atClient.closed, atServer.closed])).toEqual([undefined, undefined]);
  },
  { topology },
);

simTest(
  "data is not to be read on its way",
  [1],
  async (sim) => {
    const [near, far] = await pair(sim);
    const wire: number[] = [];
    const spied: ByteStream = {
      ...near,
      get pendingBytes() {
        return near.pendingBytes;
      },
      write(bytes) {
        wire.push(...bytes);
        return near.write(bytes);
      },
    };
    const [client] = await Promise.all([secured(sim, spied, "client"), secured(sim, far, "server")]);
    client.write(text("a secret that nobody may read"));
    expect(Buffer.from(wire).includes("secret")).toBe(false);
    expect(wire.length).toBeGreaterThan(900);
  },
  { topology },
);

simTest(
  "another key than the one expected is refused on the side that expected it",
  [1],
  async (sim) => {
    const [near, far] = await pair(sim);
    const outcome = await Promise.all([
      codeOf(secured(sim, near, "client", { expectedKey: alice.key })),
      secured(sim, far, "server").then((stream) => collectStream(stream).closed),
    ]);
    expect(outcome[0]).toBe("peer-key");
    expect(outcome[1]?.code).toBe("closed");
    const [near2, far2] = await pair(sim);
    const client = secured(sim, near2, "client");
    expect(await codeOf(secured(sim, far2, "server", { expectedKey: bob.key }))).toBe("peer-key");
    expect((await collectStream(await client).closed)?.code).toBe("closed");
    const [near3, far3] = await pair(sim);
    const other = createTestIdentity("P-384").credentials;
    void codeOf(secured(sim, far3, "server", { credentials: other }));
    expect(await codeOf(secured(sim, near3, "client"))).toBe("peer-key");
  },
  { topology },
);

simTest(
  "garbage, two clients, silence, a peer that leaves and an abort each end with their code",
  [1],
  async (sim) => {
    const [near, far] = await pair(sim);
    far.write(text("SSH-2.0-OpenSSH_9.2p1 is no TLS"));
    expect(await codeOf(secured(sim, near, "client"))).toBe("protocol");
    const [one, two] = await pair(sim);
    const both = await Promise.all([
      codeOf(secured(sim, one, "client")),
      codeOf(secured(sim, two, "client", { credentials: bob.credentials })),
    ]);
    expect(both).toContain("protocol");
    const [waiting] = await pair(sim);
    const began = sim.scheduler.nowMs;
    expect(await codeOf(secured(sim, waiting, "client", { timeoutMs: 700 }))).toBe("timeout");
    expect(sim.scheduler.nowMs - began).toBeCloseTo(700, 3);
    const [left, leaver] = await pair(sim);
    leaver.end();
    expect(await codeOf(secured(sim, left, "server"))).toBe("closed");
    const [cut, cutter] = await pair(sim);
    cutter.abort();
    expect(await codeOf(secured(sim, cut, "client"))).toBe("closed");
    const stop = new AbortController();
    const [unwanted] = await pair(sim);
    const aborted = codeOf(secured(sim, unwanted, "client", { signal: stop.signal }));
    stop.abort();
    expect(await aborted).toBe("aborted");
    expect(await codeOf(secured(sim, unwanted, "client", { signal: stop.signal }))).toBe("aborted");
  },
  { topology },
);

simTest(
  "who shows a key without proving it is refused",
  [1],
  async (sim) => {
    const [near, far] = await pair(sim);
    const hello = new Uint8Array(860);
    hello[0] = 2;
    hello.set(bob.key, 33);
    far.write(encodeRecord(HANDSHAKE, hello));
    expect(await codeOf(secured(sim, near, "client", { expectedKey: bob.key }))).toBe("protocol");
  },
  { topology },
);

simTest(
  "what was changed on its way ends the stream",
  [1],
  async (sim) => {
    const [near, far] = await pair(sim);
    let tamper = false;
    const tampering: ByteStream = {
      ...near,
      get pendingBytes() {
        return near.pendingBytes;
      },
      write(bytes) {
        const copy = bytes.slice();
        if (tamper) copy[10] = (copy[10] as number) ^ 1;
        return near.write(copy);
      },
    };
    const [client, server] = await Promise.all([
      secured(sim, tampering, "client"),
      secured(sim, far, "server"),
    ]);
    const [atClient, atServer] = [collectStream(client), collectStream(server)];
    tamper = true;
    client.write(text("pay bob 10 coins"));
    expect((await atServer.closed)?.code).toBe("protocol");
    expect((await atClient.closed)?.code).toBe("closed");
  },
  { topology },
);

simTest(
  "a paused reader stops the writer through TLS too",
  [1],
  async (sim) => {
    const [near, far] = await pair(sim);
    const [client, server] = await Promise.all([secured(sim, near, "client"), secured(sim, far, "server")]);
    const atServer = collectStream(server);
    const drained = Promise.withResolvers<void>();
    client.attach({ data() {}, drain: drained.resolve, end() {}, close() {} });
    server.pause();
    expect(client.write(new Uint8Array(1_000_000))).toBe(false);
    await sim.sleep(5000);
    expect(client.pendingBytes).toBeGreaterThan(500_000);
    server.resume();
    await drained.promise;
    client.end();
    expect(await atServer.ended).toHaveLength(1_000_000);
  },
  { topology },
);

function line(delayMs: number): RouterKind {
  const settings = changeSettings(DEFAULT_SETTINGS, { mode: "open", link: { delayMs } });
  return { kind: "box", settings };
}

function secured(
  sim: Simulation,
  stream: ByteStream,
  role: "client" | "server",
  more: Partial<SecureOptions> = {},
): Promise<SecureStream> {
  const { credentials } = role === "client" ? alice : bob;
  return sim.host("alice").world.secure(stream, { role, credentials, timeoutMs: 10_000, ...more });
}

async function pair(sim: Simulation): Promise<readonly [near: ByteStream, far: ByteStream]> {
  const [a, b] = [sim.host("alice"), sim.host("bob")];
  const accepted = Promise.withResolvers<ByteStream>();
  const listener = await b.world.listenTcp({ local: { ip: b.ip(), port: 0 }, accept: accepted.resolve });
  const near = await a.world.connectTcp({ remote: listener.local, timeoutMs: 10_000 });
  const far = await accepted.promise;
  listener.close();
  return [near, far];
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}
