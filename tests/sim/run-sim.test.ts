/** The simulation's own rules: it repeats, it ends, it lets nobody reach the machine, it says how to see a failure. */
import { expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { runSim } from "./run-sim.ts";
import { explain } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";

const topology = twoHosts(parseRouterKind("symmetric/random"), parseRouterKind("full-cone"));

test("a day passes in no time", async () => {
  const began = performance.now();
  const { sim } = await runSim({ seed: 1, limitMs: 1e9 }, (it) => it.sleep(86_400_000));
  expect(sim.scheduler.nowMs).toBe(86_400_000);
  expect(performance.now() - began).toBeLessThan(500);
});

test("whoever waits for nothing, or too long, is told", async () => {
  const forever = runSim({ seed: 1 }, () => new Promise(() => undefined));
  expect(await failureOf(forever)).toMatch(/nothing is left to happen/);
  const long = runSim({ seed: 1, limitMs: 1000 }, (sim) => sim.sleep(1001));
  expect(await failureOf(long)).toMatch(/not done after/);
  const fails = runSim({ seed: 1 }, async (sim) => {
    await sim.sleep(5);
    throw new Error("as it wishes");
  });
  expect(await failureOf(fails)).toMatch("as it wishes");
});

test("what fails in the middle of an event fails the run", async () => {
  const run = runSim({ seed: 1 }, async (sim) => {
    sim.scheduler.after(5, () => {
      throw new Error("in a handler");
    });
    await sim.sleep(10);
  });
  expect(await failureOf(run)).toMatch("in a handler");
});

test("the machine's time, chance and sockets are out of reach, even for those who swallow the error", async () => {
  const offenders: readonly (() => unknown)[] = [
    () => Date.now(),
    () => new Date(),
    () => performance.now(),
    () => Math.random(),
    () => setTimeout(() => undefined, 1),
    () => crypto.randomUUID(),
    () => AbortSignal.timeout(1),
    () => Bun.udpSocket({}),
    () => Bun.nanoseconds(),
  ];
  for (const offender of offenders) {
    const swallowed = runSim({ seed: 1 }, async (sim) => {
      await sim.sleep(1);
      try {
        offender();
      } catch (error) {
        expect(String(error)).toContain("take it from the World");
      }
    });
    expect(await failureOf(swallowed)).toMatch(/real time or chance was used/);
  }
  expect(new Date(0).getTime()).toBe(0);
  expect(Date.now()).toBeGreaterThan(0);
  expect(Math.random()).toBeLessThan(1);
});

test("packages, which know no World, get virtual time and chance that repeats", async () => {
  const folder = mkdtempSync(join(tmpdir(), "p2pd-sim-"));
  try {
    mkdirSync(join(folder, "node_modules"));
    const file = join(folder, "node_modules", "clockwork.js");
    writeFileSync(file, PACKAGE);
    const { clockwork } = (await import(file)) as { clockwork: () => Promise<unknown[]> };
    const seen = async (seed: number): Promise<unknown[]> => (await runSim({ seed }, clockwork)).result;
    const [elapsed, dateElapsed, ticks, immediate, year, ...chance] = await seen(1);
    expect([elapsed, dateElapsed, ticks, immediate, year]).toEqual([5000, 5000, 4, true, 2026]);
    expect((await seen(1)).slice(5)).toEqual(chance);
    expect((await seen(2)).slice(5)).not.toEqual(chance);
    // What it holds of a simulation that is over is the machine's again.
    expect((await clockwork())[0]).toBeLessThan(4000);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("WebCrypto is waited for while virtual time stands, and answers in the order it was asked", async () => {
  const { result, sim } = await runSim({ seed: 1 }, async (it) => {
    const order: number[] = [];
    const sizes = [4_000_000, 10, 100_000, 1];
    const asked = sizes.map(async (size) => {
      await crypto.subtle.digest("SHA-256", new Uint8Array(size));
      order.push(size);
    });
    it.scheduler.after(1, () => order.push(-1));
    await Promise.all(asked);
    await it.sleep(2);
    return order;
  });
  expect(result).toEqual([4_000_000, 10, 100_000, 1, -1]);
  expect(sim.scheduler.nowMs).toBe(2);
});

test("one seed gives the same octets, ports and packets; another gives others", async () => {
  const run = async (seed: number): Promise<string> => {
    const { result, sim } = await runSim({ seed, topology }, chatter);
    return `${result} ${sim.trace.count} ${sim.trace.digest}`;
  };
  const first = await run(5);
  expect(await run(5)).toBe(first);
  expect(await run(6)).not.toBe(first);
});

test("only one simulation runs at a time, and a failed one makes room", async () => {
  const one = runSim({ seed: 1 }, (sim) => sim.sleep(1));
  expect(await failureOf(runSim({ seed: 1 }, (sim) => sim.sleep(1)))).toMatch(/one simulation/);
  await one;
  await runSim({ seed: 1 }, (sim) => sim.sleep(1));
});

test("a failure names its seed, the command that repeats it, and the last packets", async () => {
  const { sim } = await runSim({ seed: 9, topology }, chatter);
  const text = explain("it (always) works", 9, sim, import.meta.path);
  expect(text).toContain(`P2PD_SIM_SEED=9 bun test tests/sim/run-sim.test.ts `);
  expect(text).toContain(`-t "it .always. works"`);
  expect(text).toContain("alice sends: udp 192.168.10.100:");
});

/** A package that lives off the machine; outside of a simulation it waits a thousandth of the time. */
const PACKAGE = `
  export async function clockwork(sim) {
    const slow = sim === undefined ? 0.001 : 1;
    const [began, date] = [performance.now(), Date.now()];
    let ticks = 0, immediate = false, never = false;
    const every = setInterval(() => ticks++, 1000 * slow);
    every.ref?.();
    setImmediate(() => (immediate = true));
    clearTimeout(setTimeout(() => (never = true), 10 * slow).unref());
    clearImmediate(setImmediate(() => (never = true)));
    await new Promise((resolve) => setTimeout(resolve, 5000 * slow));
    clearInterval(every);
    const random = crypto.getRandomValues(new Uint32Array(2));
    const elapsed = performance.now() - began;
    return [elapsed, Date.now() - date, ticks, immediate && !never, new Date().getFullYear(), Math.random(), ...random];
  }
`;

/** A little of everything that chance decides. */
async function chatter(sim: Simulation): Promise<string> {
  const alice = sim.host("alice");
  const socket = await alice.world.openUdp({ local: { ip: alice.ip(), port: 0 } });
  for (let i = 0; i < 5; i++) {
    socket.send(alice.world.randomBytes(i), { ip: sim.router("b").ipv4.externalIp, port: 1000 + i });
  }
  await sim.sleep(1000);
  return `${socket.local.port} ${alice.world.randomBytes(4).toHex()}`;
}

async function failureOf(run: Promise<unknown>): Promise<string> {
  return run.then(
    () => "it succeeded",
    (thrown: unknown) => (thrown instanceof Error ? thrown.message : String(thrown)),
  );
}
