/** TCP of the simulation: handshakes of every kind, loss, half-close, resets, shared ports, backpressure. */
import { expect, test } from "bun:test";
import type { Endpoint } from "../../core/ip.ts";
import type { ByteStream, ConnectOptions } from "../../core/net/world.ts";
import { parseConfiguration } from "../nat/configurations.ts";
import { changeSettings, type LinkSettings, type NatSettingsChange } from "../nat/settings.ts";
import { parseRouterKind, type RouterKind, twoHosts } from "../nat/topologies.ts";
import { codeOf } from "./code-of.ts";
import { collectStream } from "./collect-stream.ts";
import type { SimHost } from "./host.ts";
import { runSim } from "./run-sim.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";

const open = parseRouterKind("open-internet");
const strict = router("port-restricted/equal", {}, { delayMs: 20 });

simTest(
  "simultaneous open through two port-restricted NATs stands as soon as the second SYN is through",
  [1, 2, 3],
  async (sim) => {
    const [alice, bob] = [sim.host("alice"), sim.host("bob")];
    const [outsideA, outsideB] = [outside(sim, "a", 5000), outside(sim, "b", 6000)];
    const shared = { shared: true, timeoutMs: 10_000 };
    const first = alice.world.connectTcp({ ...shared, local: at(alice, 5000), remote: outsideB });
    await sim.sleep(300);
    const second = bob.world.connectTcp({ ...shared, local: at(bob, 6000), remote: outsideA });
    const [a, b] = await Promise.all([first, second]);
    expect(sim.scheduler.nowMs).toBeLessThan(300 + 2 * 2 * 40 + 5);
    expect([a.remote, b.remote]).toEqual([outsideB, outsideA]);
    const [atA, atB] = [collectStream(a), collectStream(b)];
    a.write(text("hello"));
    b.write(text("world"));
    a.end();
    b.end();
    expect(await Promise.all([atA.ended, atB.ended])).toEqual([text("world"), text("hello")]);
    expect(await Promise.all([atA.closed, atB.closed])).toEqual([undefined, undefined]);
  },
  { topology: twoHosts(strict, strict) },
);

simTest(
  "two SYNs that cross on their way meet without any NAT",
  [1],
  async (sim) => {
    const [alice, bob] = [sim.host("alice"), sim.host("bob")];
    const both = await Promise.all([
      alice.world.connectTcp({ local: at(alice, 5000), remote: at(bob, 6000), timeoutMs: 500 }),
      bob.world.connectTcp({ local: at(bob, 6000), remote: at(alice, 5000), timeoutMs: 500 }),
    ]);
    expect(both.map(({ remote }) => remote)).toEqual([at(bob, 6000), at(alice, 5000)]);
  },
  {
    topology: twoHosts(
      router("open-internet", {}, { delayMs: 5 }),
      router("open-internet", {}, { delayMs: 5 }),
    ),
  },
);

simTest(
  "a SYN is sent again after 1, 2 and 4 seconds, and an answer to a later one will do",
  [1],
  async (sim) => {
    const [alice, bob] = [sim.host("alice"), sim.host("bob")];
    const [outsideA, outsideB] = [outside(sim, "a", 5000), outside(sim, "b", 6000)];
    const connecting = alice.world.connectTcp({
      local: at(alice, 5000),
      remote: outsideB,
      timeoutMs: 60_000,
    });
    await sim.sleep(5500);
    const sent = sim.trace.lines.filter((line) => line.includes("alice sends"));
    expect(sent.map((line) => Number(line.slice(0, 12)))).toEqual([0, 1000, 3000]);
    // A UDP hole is none for TCP: only a SYN from inside opens the filter.
    const opener = bob.world.connectTcp({ local: at(bob, 6000), remote: outsideA, timeoutMs: 60_000 });
    const [stream] = await Promise.all([connecting, opener]);
    expect(stream.remote).toEqual(outsideB);
  },
  {
    topology: twoHosts(
      router("port-restricted", {}, { delayMs: 20 }),
      router("port-restricted", {}, { delayMs: 20 }),
    ),
  },
);

simTest(
  "nobody's port refuses, a NAT that drops is silence, one that resets or sends ICMP refuses",
  [1],
  async (sim) => {
    const [alice, bob, server] = [sim.host("alice"), sim.host("bob"), sim.addServer("server")];
    const outcome = (from: SimHost, remote: Endpoint): Promise<string> =>
      codeOf(from.world.connectTcp({ remote, timeoutMs: 2500 }));
    expect(await outcome(alice, at(server, 80))).toBe("refused");
    expect(await outcome(server, outside(sim, "a", 80))).toBe("refused");
    expect(await outcome(server, outside(sim, "b", 80))).toBe("refused");
    expect(await outcome(bob, { ip: "5.44.99.99", port: 80 })).toBe("timeout");
    expect(await outcome(bob, { ip: "192.168.77.1", port: 80 })).toBe("unreachable");
    expect(await outcome(alice, { ip: bob.ip(6), port: 80 })).toBe("refused");
    expect(await outcome(server, { ip: sim.router("quiet").ipv4.externalIp, port: 80 })).toBe("timeout");
  },
  {
    topology: {
      routers: [
        { name: "a", nat: router("port-restricted", { unsolicitedSyn: "rst" }), uplink: "internet" },
        { name: "b", nat: router("port-restricted", { unsolicitedSyn: "icmp" }), uplink: "internet" },
        { name: "quiet", nat: router("port-restricted", {}), uplink: "internet" },
      ],
      hosts: [
        { name: "alice", nics: ["a"] },
        { name: "bob", nics: ["b"] },
      ],
    },
  },
);

simTest(
  "a transfer through 20 % loss and reordering arrives whole, both ways at once",
  [1, 2, 3, 4, 5],
  async (sim) => {
    const [a, b] = await pair(sim.host("alice"), sim.host("bob"));
    const [ofA, ofB] = [octets(sim, 400_000), octets(sim, 300_000)];
    const [atA, atB] = [collectStream(a), collectStream(b)];
    a.write(ofA);
    b.write(ofB);
    a.end();
    await atB.ended;
    b.end();
    await Promise.all([atA.closed, atB.closed]);
    expect(Bun.hash(atB.bytes())).toBe(Bun.hash(ofA));
    expect(Bun.hash(atA.bytes())).toBe(Bun.hash(ofB));
    expect(sim.trace.lines.filter((line) => line.includes(" lost: ")).length).toBeGreaterThan(100);
  },
  { topology: twoHosts(router("open-internet", {}, { loss: 0.11, delayMs: 10, jitterMs: 8 }), open) },
);

simTest(
  "a reader that pauses is felt by the writer, who drains once it reads on",
  [1, 2],
  async (sim) => {
    const [a, b] = await pair(sim.host("alice"), sim.host("bob"));
    const atB = collectStream(b);
    b.pause();
    const drained = Promise.withResolvers<void>();
    a.attach({ data() {}, drain: drained.resolve, end() {}, close() {} });
    const block = octets(sim, 50_000);
    let blocks = 1;
    while (a.write(block)) blocks++;
    for (let i = 0; i < 10; i++, blocks++) expect(a.write(block)).toBe(false);
    await sim.sleep(60_000);
    expect(a.pendingBytes).toBeGreaterThan(0);
    expect(atB.bytes().length).toBe(0);
    b.resume();
    await drained.promise;
    expect(a.pendingBytes).toBe(0);
    a.end();
    await atB.ended;
    expect(atB.bytes().length).toBe(blocks * block.length);
  },
  { topology: twoHosts(router("open-internet", {}, { loss: 0.05, delayMs: 10 }), open) },
);

simTest(
  "a reader that reads on while the line is cut is found out by probing",
  [1],
  async (sim) => {
    const [a, b] = await pair(sim.host("alice"), sim.host("bob"));
    const atB = collectStream(b);
    b.pause();
    a.write(new Uint8Array(500_000));
    a.end();
    await sim.sleep(10_000);
    sim.router("a").setLine(false);
    b.resume();
    await sim.sleep(1000);
    sim.router("a").setLine(true);
    expect(await atB.ended).toHaveLength(500_000);
  },
  { topology: twoHosts(open, open) },
);

simTest(
  "of a window in which one segment is lost, that one alone is sent again",
  [1],
  async (sim) => {
    const [a, b] = await pair(sim.host("alice"), sim.host("bob"));
    const atB = collectStream(b);
    a.write(new Uint8Array(1400));
    await sim.sleep(5);
    sim.router("a").setLine(false);
    a.write(new Uint8Array(1400));
    await sim.sleep(0.2);
    sim.router("a").setLine(true);
    a.write(new Uint8Array(20 * 1400));
    await sim.sleep(100);
    expect(atB.bytes()).toHaveLength(22 * 1400);
    const sent = sim.trace.lines.filter(
      (line) => line.includes("alice sends") && line.includes("1400 octets"),
    );
    expect(sent).toHaveLength(23);
  },
  { topology: twoHosts(open, open) },
);

simTest(
  "who closed first keeps the pair of ends for a minute",
  [1],
  async (sim) => {
    const [alice, bob] = [sim.host("alice"), sim.host("bob")];
    await bob.world.listenTcp({ local: at(bob, 80), accept: (stream) => answerEnd(stream) });
    const again = { local: at(alice, 5000), remote: at(bob, 80), timeoutMs: 1000 };
    const first = await alice.world.connectTcp(again);
    const closed = collectStream(first).closed;
    first.end();
    await closed;
    await sim.sleep(50_000);
    expect(await codeOf(alice.world.connectTcp(again))).toBe("address-in-use");
    await sim.sleep(11_000);
    expect(await codeOf(alice.world.connectTcp(again))).toBe("ok");
  },
  { topology: twoHosts(open, open) },
);

simTest(
  "half-close: what was sent before the end arrives, and the other direction goes on",
  [1],
  async (sim) => {
    const [a, b] = await pair(sim.host("alice"), sim.host("bob"));
    a.write(text("early"));
    a.end();
    await sim.sleep(100);
    const atB = collectStream(b);
    expect(await atB.ended).toEqual(text("early"));
    b.write(text("answer"));
    const atA = collectStream(a);
    b.end();
    expect(await atA.ended).toEqual(text("answer"));
    expect(await Promise.all([atA.closed, atB.closed])).toEqual([undefined, undefined]);
  },
  { topology: twoHosts(open, open) },
);

simTest(
  "an abort resets the peer; both hear of it last and once",
  [1],
  async (sim) => {
    const [a, b] = await pair(sim.host("alice"), sim.host("bob"));
    const [atA, atB] = [collectStream(a), collectStream(b)];
    a.abort();
    a.abort();
    expect((await atA.closed)?.code).toBe("aborted");
    expect((await atB.closed)?.code).toBe("closed");
    expect(a.write(text("late"))).toBe(true);
    const dead = (await pair(sim.host("alice"), sim.host("bob"), 7001))[0];
    sim.router("b").setLine(false);
    const atDead = collectStream(dead);
    dead.write(text("into the void"));
    expect((await atDead.closed)?.code).toBe("timeout");
    expect(sim.scheduler.nowMs).toBeGreaterThan(300_000);
  },
  { topology: twoHosts(open, open) },
);

simTest(
  "a port is bound once, unless all who bind it share it; a pair of ends exists once",
  [1],
  async (sim) => {
    const [alice, bob] = [sim.host("alice"), sim.host("bob")];
    const accept = (): void => undefined;
    await bob.world.listenTcp({ local: at(bob, 80), accept });
    await bob.world.listenTcp({ local: at(bob, 81), accept });
    const local = { ip: "0.0.0.0", port: 5000 };
    const listener = await alice.world.listenTcp({ local, shared: true, accept });
    const connect = (options: Partial<ConnectOptions>): Promise<string> =>
      codeOf(
        alice.world.connectTcp({ remote: at(bob, 80), local: at(alice, 5000), timeoutMs: 1000, ...options }),
      );
    expect(await connect({ shared: true })).toBe("ok");
    expect(await connect({ shared: true })).toBe("address-in-use");
    expect(await connect({ shared: true, remote: at(bob, 81) })).toBe("ok");
    expect(await connect({})).toBe("address-in-use");
    expect(await codeOf(alice.world.listenTcp({ local, shared: true, accept }))).toBe("address-in-use");
    expect(await codeOf(alice.world.listenTcp({ local: { ip: "::", port: 5000 }, accept }))).toBe("ok");
    await alice.world.listenTcp({ local: at(alice, 5001), accept });
    expect(await connect({ shared: true, local: at(alice, 5001) })).toBe("address-in-use");
    listener.close();
    expect(await connect({ local: { ip: "9.9.9.9", port: 0 } })).toBe("unreachable");
    expect(await connect({ local: at(alice, 0), device: "eth9" })).toBe("unreachable");
    expect(await connect({ local: { ip: "::1", port: 0 } })).toBe("bad-argument");
    expect(await connect({ local: at(alice, 0), remote: at(bob, 0) })).toBe("bad-argument");
    expect(await connect({ local: at(alice, 0), signal: AbortSignal.abort() })).toBe("aborted");
    const stop = new AbortController();
    const silent = connect({
      local: at(alice, 0),
      remote: { ip: "5.44.99.9", port: 1 },
      signal: stop.signal,
    });
    stop.abort();
    expect(await silent).toBe("aborted");
  },
  { topology: twoHosts(open, open) },
);

test("a transfer of 8 MiB takes the machine less than two seconds", async () => {
  const topology = twoHosts(router("open-internet", {}, { delayMs: 5 }), open);
  const began = performance.now();
  await runSim({ seed: 1, topology }, async (sim) => {
    const [a, b] = await pair(sim.host("alice"), sim.host("bob"));
    const atB = collectStream(b);
    a.write(new Uint8Array(8 << 20));
    a.end();
    await atB.ended;
    expect(atB.bytes().length).toBe(8 << 20);
  });
  expect(performance.now() - began).toBeLessThan(2000);
});

function router(name: string, change: NatSettingsChange, link: Partial<LinkSettings> = {}): RouterKind {
  return { kind: "box", settings: changeSettings(parseConfiguration(name).settings, { ...change, link }) };
}

function at(host: SimHost, port: number): Endpoint {
  return { ip: host.ip(), port };
}

function outside(sim: Simulation, name: string, port: number): Endpoint {
  return { ip: sim.router(name).ipv4.externalIp, port };
}

/** Both ends of a connection that `a` made to `b`. */
async function pair(a: SimHost, b: SimHost, port = 7000): Promise<readonly [ByteStream, ByteStream]> {
  const accepted = Promise.withResolvers<ByteStream>();
  const listener = await b.world.listenTcp({ local: at(b, port), accept: accepted.resolve });
  const near = await a.world.connectTcp({ remote: listener.local, timeoutMs: 60_000 });
  const far = await accepted.promise;
  listener.close();
  return [near, far];
}

function octets(sim: Simulation, count: number): Uint8Array {
  return Uint8Array.from({ length: count }, () => sim.random.between(0, 255));
}

/** Ends when the peer does. */
function answerEnd(stream: ByteStream): void {
  stream.attach({ data() {}, drain() {}, end: () => stream.end(), close() {} });
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}
