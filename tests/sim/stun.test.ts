/** The project's STUN client in the simulation: through NATs, under loss, against servers that lie. */
import { expect, test } from "bun:test";
import { bindingRequest } from "../../core/stun/binding.ts";
import { askServers } from "../../core/stun/ask-servers.ts";
import { attachStun } from "../../core/stun/stun-socket.ts";
import { parseConfiguration } from "../nat/configurations.ts";
import { changeSettings } from "../nat/settings.ts";
import { carrierNat, parseRouterKind, type RouterKind, twoHosts } from "../nat/topologies.ts";
import type { SimHost } from "./host.ts";
import { runSim } from "./run-sim.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";
import { type SimStunServer, startStunServer, type StunBehaviour } from "./stun-server.ts";

const coneA = parseRouterKind("full-cone/equal");
const strictB = parseRouterKind("symmetric/random");

test("1,000 exchanges through two NATs with 100 ms and 5 % loss take under a second, twice the same", async () => {
  const run = async (): Promise<{ digest: string; count: number; answered: number; tookMs: number }> => {
    const topology = carrierNat(slow("symmetric/random"), slow("port-restricted/equal"), coneA);
    const began = performance.now();
    const { result, sim } = await runSim({ seed: 7, topology }, async (it) => {
      const server = await stunServer(it);
      return exchanges(it, server, 1000);
    });
    const tookMs = performance.now() - began;
    return { digest: sim.trace.digest, count: sim.trace.count, answered: result, tookMs };
  };
  const first = await run();
  const second = await run();
  expect(first.answered).toBe(1000);
  expect(first.count).toBeGreaterThan(8_000);
  expect({ digest: second.digest, count: second.count }).toEqual({
    digest: first.digest,
    count: first.count,
  });
  expect(Math.min(first.tookMs, second.tookMs)).toBeLessThan(1000);
});

test("another seed is another run", async () => {
  const topology = twoHosts(slow("port-restricted/random"), coneA);
  const run = async (seed: number): Promise<string> =>
    (await runSim({ seed, topology }, async (sim) => exchanges(sim, await stunServer(sim), 20))).sim.trace
      .digest;
  expect(await run(1)).not.toBe(await run(2));
});

simTest(
  "a carrier NAT's address is what the server sees, and the home router's mapping is inside it",
  [1, 2],
  async (sim) => {
    const server = await stunServer(sim);
    const alice = sim.host("alice");
    const { world } = alice;
    const socket = await world.openUdp({ local: { ip: alice.ip(), port: 4000 } });
    const { mapped } = await bindingRequest(attachStun(world, socket), server.endpoint);
    expect(mapped.ip).toBe(sim.router("carrier").ipv4.externalIp);
    const [inner] = sim.router("a").ipv4.table(sim.scheduler.nowMs);
    expect(inner?.internal).toEqual({ ip: alice.ip(), port: 4000 });
    expect(inner?.external.ip).toBe(sim.router("a").ipv4.externalIp);
  },
  { topology: carrierNat(strictB, coneA, coneA) },
);

simTest(
  "a change request is heard through a full cone, and not through a port-restricted NAT",
  [1],
  async (sim) => {
    const server = await stunServer(sim);
    const ask = async (name: string): Promise<string> => {
      const host = sim.host(name);
      const { world } = host;
      const socket = await world.openUdp({ local: { ip: host.ip(), port: 0 } });
      const options = { changeIp: true, changePort: true, timeoutMs: 2000 };
      return bindingRequest(attachStun(world, socket), server.endpoint, options).then(
        ({ from, honoured }) => `${from.ip} ${honoured}`,
        (error: Error) => ("code" in error ? String(error.code) : "?"),
      );
    };
    const other = sim
      .host("stun")
      .world.nics()[1]
      ?.addresses.filter(({ family }) => family === 4)[1]?.ip;
    expect(await ask("alice")).toBe(`${other} true`);
    expect(await ask("bob")).toBe("timeout");
    server.behaviour = "ignores-change";
    expect(await ask("alice")).toBe(`${server.endpoint.ip} false`);
    server.behaviour = "dead";
    expect(await ask("alice")).toBe("timeout");
  },
  { topology: twoHosts(coneA, parseRouterKind("port-restricted/random")) },
);

simTest(
  "over TCP the same server is seen, and of many servers the honest ones decide",
  [1, 2],
  async (sim) => {
    const behaviours: readonly StunBehaviour[] = ["honest", "lies", "honest", "dead", "wrong-source"];
    const servers = await Promise.all(
      behaviours.map(async (behaviour, i) => {
        const { world, ...host } = sim.addServer(`stun${i}`, { addresses: 2, link: { delayMs: 20 } });
        sim.names.set(`stun${i}.example.org`, [host.ip()]);
        await startStunServer(world, { addresses: addressesOf({ world }), behaviour });
        return { host: `stun${i}.example.org`, port: 3478 };
      }),
    );
    const alice = sim.host("alice");
    for (const protocol of ["udp", "tcp"] as const) {
      const local = { ip: alice.ip(), port: 0 };
      const asked = { family: 4, servers, protocol, local, enough: 2, timeoutMs: 3000 } as const;
      const result = await askServers(alice.world, asked);
      expect([result.external, result.confirmed]).toEqual([sim.router("a").ipv4.externalIp, true]);
      expect(result.elapsedMs).toBeLessThan(1000);
    }
  },
  { topology: twoHosts(strictB, coneA) },
);

simTest(
  "a server that claims to have changed its address is found out",
  [1],
  async (sim) => {
    const server = await stunServer(sim);
    server.behaviour = "claims-change";
    const { world, ...bob } = sim.host("bob");
    const socket = await world.openUdp({ local: { ip: bob.ip(), port: 0 } });
    const result = await bindingRequest(attachStun(world, socket), server.endpoint, { changePort: true });
    expect([result.honoured, result.responseOrigin?.port]).toEqual([false, 3479]);
    expect(server.requests).toBe(1);
    server.close();
    server.close();
  },
  { topology: twoHosts(strictB, coneA) },
);

function slow(name: string): RouterKind {
  const link = { delayMs: 100, loss: 0.05, jitterMs: 3 };
  return { kind: "box", settings: changeSettings(parseConfiguration(name).settings, { link }) };
}

async function stunServer(sim: Simulation): Promise<SimStunServer> {
  const host = sim.addServer("stun", { addresses: 2 });
  return startStunServer(host.world, { addresses: addressesOf(host) });
}

function addressesOf({ world }: Pick<SimHost, "world">): readonly string[] {
  const all = world.nics()[1]?.addresses ?? [];
  return all.filter(({ family }) => family === 4).map(({ ip }) => ip);
}

/** How many of `count` Binding requests from alice, ten at once, were answered with her router's address. */
async function exchanges(sim: Simulation, server: SimStunServer, count: number): Promise<number> {
  const alice = sim.host("alice");
  const { world } = alice;
  const socket = await world.openUdp({ local: { ip: alice.ip(), port: 0 } });
  const stun = attachStun(world, socket);
  let answered = 0;
  const worker = async (): Promise<void> => {
    for (let i = 0; i < count / 10; i++) {
      const { mapped } = await bindingRequest(stun, server.endpoint);
      if (mapped.ip.startsWith("5.44.10.")) answered++;
    }
  };
  await Promise.all(Array.from({ length: 10 }, worker));
  return answered;
}
