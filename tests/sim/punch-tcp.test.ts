/** Both parts of a TCP punch against each other, through the routers of the simulation: who meets, how soon, at what cost. */
import { describe, expect, test } from "bun:test";
import { gatherTcpSide, type GatheredTcp } from "../../core/connect/gather-tcp.ts";
import { type PunchedTcp, type PunchTcpOptions, punchTcp } from "../../core/connect/punch-tcp.ts";
import type { NatKind } from "../../core/nat/nat-kind.ts";
import type { PunchShot } from "../../core/nat/punch-plan.ts";
import { createTestIdentity } from "../core/net/credentials.ts";
import { parseConfiguration } from "../nat/configurations.ts";
import { changeSettings, type NatSettings, type NatSettingsChange } from "../nat/settings.ts";
import { oneRouter, type RouterKind, type Topology, twoHosts } from "../nat/topologies.ts";
import { collectStream } from "./collect-stream.ts";
import { runSim } from "./run-sim.ts";
import type { SimHost } from "./host.ts";
import { startStunServer } from "./stun-server.ts";

const ONE_WAY_MS = 25;
const identities = { alice: createTestIdentity(), bob: createTestIdentity() };
const noNote = (): void => undefined;

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
    const servers = isNear ? [] : [endpoint];
    const signal = new AbortController().signal;
    const gather = (host: SimHost, nat: string): Promise<GatheredTcp> =>
      gatherTcpSide(host.world, { localIp: host.ip(), kind: kindOf(nat), servers, signal, timeoutMs: 6000 });
    const [alice, bob] = [sim.host("alice"), sim.host("bob")];
    const [mine, his] = await Promise.all([gather(alice, a), gather(bob, b)]);
    const [near, far] = [nextMapping(mine, a), nextMapping(his, b)];
    const start = (
      role: "caller" | "called",
      host: SimHost,
      gathered: GatheredTcp,
      remoteIp: string,
      shot: PunchShot,
    ): Promise<PunchedTcp> =>
      punchTcp(host.world, {
        role,
        method: "certain",
        part: { shots: [shot], appearsAs: [-1] },
        remoteIp,
        localIp: host.ip(),
        ports: gathered.ports,
        credentials: identities[role === "caller" ? "alice" : "bob"].credentials,
        expectedKey: identities[role === "caller" ? "bob" : "alice"].key,
        timeoutMs: 8000,
        signal,
        note: noNote,
        ...options.punch,
      });
    const calling = start("called", bob, his, mine.side.ip, {
      localPort: far.local,
      remotePort: near.external,
    });
    calling.catch(noNote);
    await sim.sleep(answerMs);
    const began = sim.scheduler.nowMs;
    const caller = await start("caller", alice, mine, his.side.ip, {
      localPort: near.local,
      remotePort: far.external,
    });
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
    settings: changeSettings(settingsOf(name), { link: { delayMs: ONE_WAY_MS }, ...change }),
  };
}

function settingsOf(name: string): NatSettings {
  return parseConfiguration(name).settings;
}

function kindOf(name: string): NatKind {
  const { type, delta, settings } = parseConfiguration(name);
  const { mapping, filtering } = settings.tcp;
  return {
    type: type === "blocked" ? "port-restricted" : type,
    mapping,
    filtering,
    delta: { type: delta.kind, value: "step" in delta ? delta.step : 0 },
    portPreservation: delta.kind === "equal",
    portParity: false,
  };
}

function nextMapping({ side, ports }: GatheredTcp, nat: string): { local: number; external: number } {
  const { samples, spare, kind } = side;
  const [first, last] = [samples[0], samples.at(-1)];
  if (first === undefined || last === undefined) throw new Error(`no sample of ${ports.ports.join(" ")}`);
  if (kind.type !== "symmetric") return { local: first.localPort, external: first.externalPort };
  const local = spare[0] as number;
  const { delta } = parseConfiguration(nat);
  if (delta.kind === "equal") return { local, external: local };
  if (delta.kind === "preserving") return { local, external: first.externalPort + local - first.localPort };
  if (delta.kind === "random") throw new Error("nobody knows");
  return { local, external: last.externalPort + delta.step };
}

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
    "%s calls each kind: one round trip and the handshake, at most one SYN each",
    async (a) => {
      for (const b of PREDICTABLE) {
        const { ms, caller, called } = await meet(a, b);
        expect(`${b} ${ms >= 95 && ms < 205 ? "in time" : ms}`).toBe(`${b} in time`);
        // An open one has the other's connection before it begins itself.
        expect([b, caller.syns <= 1, called.syns]).toEqual([b, true, 1]);
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
          expect(caller.syns + called.syns).toBeLessThan(30);
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

  test.each([0, 60])("in one network, by their own addresses, the caller %p ms later", async (answerMs) => {
    const { ms } = await meet("port-restricted", "port-restricted", {
      answerMs,
      isNear: true,
      topology: oneRouter(router("port-restricted")),
    });
    expect(ms).toBeLessThan(5);
  });
});
