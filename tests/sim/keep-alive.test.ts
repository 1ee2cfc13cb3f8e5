/** How long routers keep mappings, as nodes measure it, and how often punched paths show a sign of life for that. */
import { beforeAll, expect, test } from "bun:test";
import { changesPorts, keepAliveFor, SILENCES_MS } from "../../core/nat/mapping-life.ts";
import { UNTRANSLATED } from "../../core/nat/nat-kind.ts";
import { loadSignaling } from "../../core/signal/signaling.ts";
import { measureLife } from "../../core/stun/measure-life.ts";
import { twoHosts } from "../nat/topologies.ts";
import { codeOf } from "./code-of.ts";
import { meet, nat, timed } from "./punch-site.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";
import { type SimStunServer, startStunServer, type StunServerOptions } from "./stun-server.ts";

beforeAll(loadSignaling);

const KINDS = ["port-restricted/equal", "port-restricted/random", "symmetric/independent", "symmetric/equal"];
const site = (kind: string, udpMs: number) => ({
  topology: twoHosts(
    nat(kind, { timeouts: { udpMs } }),
    nat("port-restricted/equal", { timeouts: { udpMs } }),
  ),
});

/** Lives, the silence that is outlived, and the time between signs of life. */
const LIVES = [
  [4000, 0, 2000],
  [6000, 5000, 2500],
  [15_000, 13_000, 6500],
  [30_000, 21_000, 10_500],
  [60_000, 51_000, 25_000],
  [120_000, 51_000, 25_000],
] as const;

for (const [udpMs, lifeMs, keepAliveMs] of LIVES) {
  for (const kind of KINDS) {
    simTest(
      `a ${kind} that forgets after ${udpMs / 1000} s is seen to keep mappings for ${lifeMs / 1000} s, with few requests`,
      [1],
      async (sim) => {
        const server = await serve(sim, {});
        expect(await measure(sim, server, kind)).toBe(lifeMs);
        expect(keepAliveFor(lifeMs)).toBe(keepAliveMs);
        expect(server.requests).toBeLessThanOrEqual(48);
        await sim.sleep(udpMs);
        expect(sim.router("a").ipv4.table(sim.scheduler.nowMs)).toEqual([]);
      },
      site(kind, udpMs),
    );
  }
}

simTest(
  "a server that answers no other port tells only where a new mapping has another port",
  [1],
  async (sim) => {
    const server = await serve(sim, { answersOtherPorts: false });
    expect(await measure(sim, server, "port-restricted/random")).toBe(51_000);
  },
  site("port-restricted/random", 60_000),
);
simTest(
  "a server that answers no other port tells nothing where a new mapping has the same port, and that soon",
  [1],
  async (sim) => {
    const server = await serve(sim, { answersOtherPorts: false });
    expect(await measure(sim, server, "port-restricted/equal")).toBeUndefined();
    expect(sim.scheduler.nowMs).toBeLessThan(6000);
  },
  site("port-restricted/equal", 60_000),
);
simTest(
  "a server that falls silent ends the measurement, and so does calling it off",
  [1],
  async (sim) => {
    const server = await serve(sim, {});
    const stop = new AbortController();
    const measuring = [
      measure(sim, server, KINDS[0] ?? ""),
      measure(sim, server, KINDS[1] ?? "", stop.signal),
    ];
    const codes = measuring.map((one) => codeOf(one));
    await sim.sleep(30_000);
    stop.abort();
    expect(await codes[1]).toBe("aborted");
    server.behaviour = "dead";
    expect(await codes[0]).toBe("timeout");
  },
  site("port-restricted/equal", 20_000),
);

for (const [udpMs, , keepAliveMs] of LIVES.slice(2)) {
  for (const kind of KINDS.slice(0, 3)) {
    simTest(
      `behind a ${kind} that forgets after ${udpMs / 1000} s a silent path shows a sign every ${keepAliveMs / 1000} s, and lives`,
      [1],
      async (sim) => {
        const { alice, bob } = await meet(sim);
        await sim.sleep(300_000);
        const { connection } = await timed(sim, alice, bob);
        const punched = connection.timeline.find(({ event }) => event === "punched");
        expect(punched?.detail).toEndWith(`a sign of life every ${keepAliveMs / 1000} s`);
        const began = sim.scheduler.nowMs;
        await sim.sleep(600_000);
        const port = connection.pipe.local.port;
        const signs = sim.trace.lines
          .filter((line) => line.includes(`alice sends: udp ${sim.host("alice").ip(4)}:${port} >`))
          .map((line) => Number(line.trim().split(" ")[0]))
          .filter((ms) => ms > began);
        const gaps = signs.slice(1).map((ms, i) => ms - (signs[i] ?? 0));
        expect(Math.max(...gaps)).toBeLessThanOrEqual(keepAliveMs);
        expect(signs.length).toBeWithin(600_000 / keepAliveMs - 2, 2.2 * (600_000 / keepAliveMs));
        await connection.pipe.send("ECHO y");
        expect(await connection.pipe.recv("all", 5000)).toBeDefined();
        await Promise.all([alice.close(), bob.close()]);
      },
      site(kind, udpMs),
    );
  }
}

test("while nothing is known of the router's patience a path shows a sign every 10 s, else within half of it", () => {
  expect(keepAliveFor(undefined)).toBe(10_000);
  expect(SILENCES_MS.map((ms) => keepAliveFor(ms) * 2 <= ms)).not.toContain(false);
  expect(changesPorts(UNTRANSLATED)).toBe(false);
});

async function serve(sim: Simulation, options: Partial<StunServerOptions>): Promise<SimStunServer> {
  const host = sim.addServer("stun", { link: { delayMs: 25 } });
  return startStunServer(host.world, { addresses: [host.ip(4)], ...options });
}

function measure(
  sim: Simulation,
  server: SimStunServer,
  kind: string,
  signal = new AbortController().signal,
): Promise<number | undefined> {
  const alice = sim.host("alice");
  const isChanging = /random|independent/.test(kind);
  const options = { localIp: alice.ip(4), server: server.endpoint, changesPorts: isChanging, signal };
  return measureLife(alice.world, options);
}
