/** Both parts of a TCP punch against each other, through the routers of the simulation: who meets, how soon, at what cost. */
import { describe, expect, test } from "bun:test";
import { gatherTcpSide, type GatheredTcp } from "../../core/connect/gather-tcp.ts";
import { type PunchedTcp, type PunchTcpOptions, punchTcp } from "../../core/connect/punch-tcp.ts";
import { type NatKind, UNTRANSLATED } from "../../core/nat/nat-kind.ts";
import { planPunch } from "../../core/nat/plan-punch.ts";
import type { ByteStream } from "../../core/net/world.ts";
import { createTestIdentity } from "../core/net/credentials.ts";
import { parseConfiguration } from "../nat/configurations.ts";
import { changeSettings, type NatSettingsChange } from "../nat/settings.ts";
import { oneRouter, type RouterKind, type Topology, twoHosts } from "../nat/topologies.ts";
import { codeOf } from "./code-of.ts";
import { collectStream } from "./collect-stream.ts";
import { runSim } from "./run-sim.ts";
import type { SimHost } from "./host.ts";
import { startStunServer } from "./stun-server.ts";

const ONE_WAY_MS = 25;
const identities = { alice: createTestIdentity(), bob: createTestIdentity() };
const note = (): void => undefined;

interface Meeting {
  /** Milliseconds from the caller's start until it had proved the keys. */
  readonly ms: number;
  readonly caller: PunchedTcp;
  readonly called: PunchedTcp;
}

interface MeetOptions {
  readonly seed?: number;
  readonly change?: NatSettingsChange;
  /** How much later than the called one the caller starts: the answer's way. */
  readonly answerMs?: number;
  readonly topology?: Topology;
  /** Whether addresses of the network serve, as between hosts of one. */
  readonly isNear?: boolean;
  readonly punch?: Partial<PunchTcpOptions>;
}

/** Alice calls, Bob is called; each knows where the other's next mapping will be. */
async function meet(a: string, b: string, options: MeetOptions = {}): Promise<Meeting> {
  const { seed = 1, answerMs = 60, isNear = false } = options;
  const topology = options.topology ?? twoHosts(router(a, options.change), router(b, options.change));
  const { result } = await runSim({ seed, topology }, async (sim) => {
    const stun = sim.addServer("stun");
    const { endpoint } = await startStunServer(stun.world, { addresses: [stun.ip()] });
    const signal = new AbortController().signal;
    const gather = async (host: SimHost, name: "a" | "b"): Promise<GatheredTcp> => {
      const own = { localIp: host.ip(), servers: [endpoint], signal, note, timeoutMs: 6000 };
      if (isNear) return gatherTcpSide(host.world, { ...own, ip: host.ip(), kind: UNTRANSLATED });
      const before = await host.world.connectTcp({ remote: endpoint, timeoutMs: 30_000 });
      const seen = sim.router(name).ipv4.table(sim.scheduler.nowMs)[0];
      before.abort();
      const external = seen?.external ?? before.local;
      const kind = kindOf(name === "a" ? a : b, external.port - before.local.port);
      return gatherTcpSide(host.world, { ...own, ip: external.ip, kind });
    };
    const [alice, bob] = [sim.host("alice"), sim.host("bob")];
    const [mine, his] = await Promise.all([gather(alice, "a"), gather(bob, "b")]);
    const plan = planPunch("tcp", mine.side, his.side);
    if ("impossible" in plan) throw new Error(plan.impossible);
    const start = (
      role: "caller" | "called",
      host: SimHost,
      gathered: GatheredTcp,
      remoteIp: string,
    ): Promise<PunchedTcp> =>
      punchTcp(host.world, {
        role,
        method: plan.method,
        part: plan[role],
        remoteIp,
        localIp: host.ip(),
        ports: gathered.ports,
        credentials: identities[role === "caller" ? "alice" : "bob"].credentials,
        expectedKey: identities[role === "caller" ? "bob" : "alice"].key,
        timeoutMs: 8000,
        signal,
        note,
        ...options.punch,
      });
    const calling = start("called", bob, his, mine.side.ip);
    calling.catch(note);
    await sim.sleep(answerMs);
    const began = sim.scheduler.nowMs;
    const caller = await start("caller", alice, mine, his.side.ip);
    const ms = sim.scheduler.nowMs - began;
    const called = await calling;
    const [one, other] = [collectStream(caller.stream), collectStream(called.stream)];
    caller.stream.write(new TextEncoder().encode("to bob"));
    called.stream.write(new TextEncoder().encode("to alice"));
    caller.stream.end();
    called.stream.end();
    await Promise.all([one.ended, other.ended]);
    expect(new TextDecoder().decode(one.bytes())).toBe("to alice");
    expect(new TextDecoder().decode(other.bytes())).toBe("to bob");
    for (const gathered of [mine, his]) gathered.close();
    return { ms, caller, called };
  });
  return result;
}

function router(name: string, change: NatSettingsChange = {}): RouterKind {
  return {
    kind: "box",
    settings: changeSettings(parseConfiguration(name).settings, { link: { delayMs: ONE_WAY_MS }, ...change }),
  };
}

/** @param offset external minus local port of a mapping */
function kindOf(name: string, offset: number): NatKind {
  const { type, delta, settings } = parseConfiguration(name);
  const isTranslated = settings.mode === "nat";
  const value = "step" in delta ? delta.step : delta.kind === "preserving" ? offset : 0;
  return {
    type: type === "blocked" ? "port-restricted" : type,
    mapping: settings.tcp.mapping,
    filtering: type === "open-internet" ? "endpoint-independent" : settings.tcp.filtering,
    delta: isTranslated ? { type: delta.kind, value } : { type: "not-applicable", value: 0 },
    range: settings.ports,
    portPreservation: delta.kind === "equal",
    portParity: delta.kind === "equal",
  };
}

const NEIGHBOURS: Topology = {
  routers: oneRouter(router("port-restricted")).routers,
  hosts: ["alice", "bob", "eve"].map((name) => ({ name, nics: ["a"] })),
};

const PREDICTABLE = [
  "open-internet",
  "symmetric-firewall",
  "full-cone/random",
  "restricted/preserving",
  "port-restricted",
  "port-restricted/random",
  "symmetric/equal",
  "symmetric/preserving",
  "symmetric/independent",
  "symmetric/independent:-2",
  "symmetric/dependent",
  "blocked",
];

describe("two that know each other's next mapping meet by TCP", () => {
  test.each(PREDICTABLE)(
    "%s calls each kind: within a quarter of a second, by one SYN each or a window",
    async (a) => {
      for (const b of PREDICTABLE) {
        const { ms, caller, called } = await meet(a, b);
        expect(`${b} ${ms >= 95 && ms < 260 ? "in time" : ms}`).toBe(`${b} in time`);
        // Of a counter that others advance too a whole block is tried.
        const most = `${a} ${b}`.includes("independent") ? 24 : 1;
        expect([b, caller.syns <= most, called.syns <= most]).toEqual([b, true, true]);
      }
    },
  );

  test.each(["rst", "icmp"] as const)(
    "through routers that answer early SYNs with %s",
    async (unsolicitedSyn) => {
      for (const answerMs of [0, 20, 60, 150, 400, 1500]) {
        for (const [a, b] of [
          ["port-restricted", "port-restricted"],
          ["symmetric/independent", "symmetric/preserving"],
        ] as const) {
          const { ms, caller, called } = await meet(a, b, { answerMs, change: { unsolicitedSyn } });
          expect(`${answerMs} ${ms >= 95 && ms < 320 ? "in time" : ms}`).toBe(`${answerMs} in time`);
          expect(caller.syns + called.syns).toBeLessThan(a === "port-restricted" ? 30 : 100);
        }
      }
    },
  );

  test("with one packet in twenty lost, within the time, and the median is that of a path without loss", async () => {
    const times: number[] = [];
    for (let seed = 1; seed <= 60; seed++) {
      const link = { delayMs: ONE_WAY_MS, loss: 0.05 };
      times.push((await meet("port-restricted", "symmetric/independent", { seed, change: { link } })).ms);
    }
    times.sort((x, y) => x - y);
    expect(times[30]).toBeLessThan(210);
    expect(times.at(-1)).toBeLessThan(6000);
  });

  test.each([
    ["symmetric/random", "port-restricted", "drop"],
    ["port-restricted/random", "symmetric/random", "drop"],
    ["symmetric/random", "port-restricted", "rst"],
    ["port-restricted", "symmetric/random", "rst"],
  ] as const)("%s searches for %s, early SYNs: %s", async (a, b, unsolicitedSyn) => {
    const times: number[] = [];
    for (let seed = 1; seed <= 5; seed++) {
      const { ms, caller, called } = await meet(a, b, { seed, change: { unsolicitedSyn } });
      expect(caller.syns + called.syns).toBeLessThan(4096);
      times.push(ms);
    }
    times.sort((x, y) => x - y);
    expect(times[2]).toBeLessThan(2500);
  });

  test.each([0, 60])("in one network, by their own addresses, the caller %p ms later", async (answerMs) => {
    const { ms } = await meet("port-restricted", "port-restricted", {
      answerMs,
      isNear: true,
      topology: oneRouter(router("port-restricted")),
    });
    expect(ms).toBeLessThan(5);
  });
});

describe("who is not the peer", () => {
  test("a program that answers with another key ends that candidate, and another hole is taken", async () => {
    const { result } = await runSim({ seed: 1, topology: NEIGHBOURS }, async (sim) => {
      const [alice, bob] = [sim.host("alice"), sim.host("bob")];
      const accept = (stream: ByteStream): void => {
        bob.world
          .secure(stream, { role: "server", credentials: createTestIdentity().credentials, timeoutMs: 500 })
          .catch(note);
      };
      await bob.world.listenTcp({ local: { ip: bob.ip(), port: 7001 }, accept });
      const events: string[] = [];
      const [caller, called] = await Promise.all([
        punchTcp(alice.world, {
          ...between(alice, bob, "caller", [7001, 7002]),
          note: (event, detail) => events.push(`${event} ${detail}`),
        }),
        punchTcp(bob.world, between(bob, alice, "called", [7002])),
      ]);
      const wrong = events.filter((event) => event.startsWith("wrong"));
      return { wrong, ends: [caller.stream.remote.port, called.stream.local.port] };
    });
    expect(result.wrong).toHaveLength(1);
    expect(result.wrong[0]).toContain("7001");
    expect(result.ends).toEqual([7002, 7002]);
  });

  test("one that is silent costs the time of a handshake, one of another address nothing", async () => {
    const { result } = await runSim({ seed: 2, topology: NEIGHBOURS }, async (sim) => {
      const [alice, bob] = [sim.host("alice"), sim.host("bob")];
      await bob.world.listenTcp({
        local: { ip: bob.ip(), port: 7001 },
        accept: (stream) => void stream.local,
      });
      const calling = punchTcp(bob.world, between(bob, alice, "called", [7002]));
      const eve = sim.host("eve");
      const strange = await eve.world.connectTcp({ remote: { ip: bob.ip(), port: 7002 }, timeoutMs: 500 });
      const stranger = collectStream(strange);
      const began = sim.scheduler.nowMs;
      const caller = await punchTcp(alice.world, between(alice, bob, "caller", [7001, 7002]));
      expect((await calling).stream.peerKey).toEqual(identities.alice.key);
      expect(await stranger.closed).toMatchObject({ code: "closed" });
      return { port: caller.stream.remote.port, ms: sim.scheduler.nowMs - began };
    });
    expect(result.port).toBe(7002);
    expect(result.ms).toBeLessThan(1100);
  });

  test("of many holes both ends have the same one, and no other stays", async () => {
    const ports = [7001, 7002, 7003, 7004, 7005, 7006];
    for (let seed = 1; seed <= 10; seed++) {
      await runSim({ seed, topology: NEIGHBOURS }, async (sim) => {
        const [alice, bob] = [sim.host("alice"), sim.host("bob")];
        const holes = [...ports].sort(() => sim.random.next() - 0.5);
        const calling = punchTcp(bob.world, between(bob, alice, "called", holes));
        await sim.sleep(sim.random.next() * 3);
        const caller = await punchTcp(alice.world, between(alice, bob, "caller", ports));
        const called = await calling;
        expect(called.stream.local.port).toBe(caller.stream.remote.port);
        await sim.sleep(100);
        // Whatever else had stood is reset: its pair of ports is free for another connect, which nobody answers.
        for (const port of ports.filter((other) => other !== caller.stream.remote.port)) {
          const again = { remote: { ip: bob.ip(), port }, local: { ip: alice.ip(), port }, timeoutMs: 50 };
          expect(await codeOf(alice.world.connectTcp(again))).toBe("refused");
        }
      });
    }
  });

  test("a punch that is given up frees its ports", async () => {
    await runSim({ seed: 1, topology: NEIGHBOURS }, async (sim) => {
      const [alice, bob] = [sim.host("alice"), sim.host("bob")];
      const stop = new AbortController();
      const options = between(alice, bob, "caller", [7001]);
      const punching = codeOf(
        punchTcp(alice.world, { ...options, remoteIp: "5.44.99.9", signal: stop.signal }),
      );
      await sim.sleep(700);
      stop.abort();
      expect(await punching).toBe("aborted");
      const accept = (): void => undefined;
      const listener = await alice.world.listenTcp({ local: { ip: alice.ip(), port: 7001 }, accept });
      listener.close();
    });
  });
});

test("a punch that is given up while its ports are being held sends nothing", async () => {
  await runSim({ seed: 1, topology: oneRouter(router("port-restricted/equal")) }, async (sim) => {
    const [alice, bob] = [sim.host("alice"), sim.host("bob")];
    const stop = new AbortController();
    const options = { ...between(alice, bob, "caller", [7001]), signal: stop.signal };
    const punching = codeOf(punchTcp(alice.world, options));
    stop.abort();
    expect(await punching).toBe("aborted");
    expect(sim.trace.lines.filter((line) => line.includes("alice sends"))).toEqual([]);
  });
});

/** One to one: each port with the same one of the other. */
function between(
  host: SimHost,
  other: SimHost,
  role: "caller" | "called",
  ports: readonly number[],
): PunchTcpOptions {
  const [own, peer] = role === "caller" ? (["alice", "bob"] as const) : (["bob", "alice"] as const);
  return {
    role,
    method: "window",
    part: {
      shots: ports.map((port) => ({ localPort: port, remotePort: port })),
      appearsAs: [...ports],
    },
    remoteIp: other.ip(),
    localIp: host.ip(),
    credentials: identities[own].credentials,
    expectedKey: identities[peer].key,
    signal: new AbortController().signal,
    note,
  };
}
