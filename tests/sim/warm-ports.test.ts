/** Ports kept warm for punches: mapped ahead, seen again in time, each taken once, and gone when nobody wants them. */
import { beforeAll, expect } from "bun:test";
import { type WarmPort, WarmPorts, type WarmPortsOptions } from "../../core/connect/warm-ports.ts";
import { loadSignaling } from "../../core/signal/signaling.ts";
import type { NatSettingsChange } from "../nat/settings.ts";
import { twoHosts } from "../nat/topologies.ts";
import { elsewhere, meet, nat, timed } from "./punch-site.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";
import { type SimStunServer, startStunServer } from "./stun-server.ts";

beforeAll(loadSignaling);

const site = (change: NatSettingsChange = {}) => ({
  topology: twoHosts(nat("port-restricted/random", change), nat("port-restricted/independent", change)),
});

simTest(
  "a port is mapped ahead, asked for every 20 s, and taken with its mapping, once; then another is made",
  [1, 2],
  async (sim) => {
    const { server, ports } = await start(sim);
    expect(take(sim, ports)).toBeUndefined();
    await sim.sleep(200);
    expect(server.requests).toBe(1);
    await sim.sleep(600_000);
    const asked = server.requests;
    expect(asked).toBeWithin(30, 32);
    const taken = expectTaken(sim, take(sim, ports));
    expect(taken.ageMs).toBeLessThan(20_000);
    expect(take(sim, ports)).toBeUndefined();
    await sim.sleep(100);
    expect(server.requests).toBe(asked);
    await sim.sleep(200);
    const next = expectTaken(sim, take(sim, ports));
    expect(next.sample.localPort).not.toBe(taken.sample.localPort);
    for (const { socket } of [taken, next]) socket.close();
    ports.close();
  },
  site(),
);

simTest(
  "the mapping holds for whoever is sent to, with 20 new mappings a second on the router",
  [1, 2, 3],
  async (sim) => {
    const { ports } = await start(sim);
    await sim.sleep(60_000);
    const { socket, sample } = expectTaken(sim, take(sim, ports));
    const heard: number[] = [];
    const server = sim.addServer("other");
    const other = await server.world.openUdp({
      local: { ip: server.ip(4), port: 7 },
      handlers: { message: (_, from) => heard.push(from.port) },
    });
    socket.send(new Uint8Array(1), { ip: server.ip(4), port: 7 });
    await sim.sleep(100);
    expect(heard).toEqual([sample.externalPort]);
    for (const one of [socket, other]) one.close();
    ports.close();
  },
  site({ backgroundPerSecond: 20 }),
);

simTest(
  "a router that was restarted is asked again within 20 s, and its new mapping is the one that is taken",
  [1, 2],
  async (sim) => {
    const { ports } = await start(sim);
    await sim.sleep(25_000);
    sim.router("a").reboot();
    await sim.sleep(20_000);
    expectTaken(sim, take(sim, ports)).socket.close();
    ports.close();
  },
  site(),
);

simTest(
  "behind a router that forgets after 12 s the port is asked for more often, and is right each time it is taken",
  [1],
  async (sim) => {
    const { server, ports } = await start(sim);
    await sim.sleep(60_000);
    const before = server.requests;
    await sim.sleep(60_000);
    expect(server.requests - before).toBeWithin(5, 8);
    for (let i = 0; i < 5; i++) {
      expectTaken(sim, take(sim, ports)).socket.close();
      await sim.sleep(7000);
    }
    ports.close();
  },
  site({ timeouts: { udpMs: 12_000 } }),
);

simTest(
  "behind a router that forgets within 4 s no port is kept",
  [1],
  async (sim) => {
    const { server, ports } = await start(sim);
    await sim.sleep(120_000);
    const before = server.requests;
    expect(take(sim, ports)).toBeUndefined();
    await sim.sleep(600_000);
    expect(server.requests).toBe(before);
    ports.close();
  },
  site({ timeouts: { udpMs: 4000 } }),
);

simTest(
  "silent servers are asked ever more rarely, and nothing is taken meanwhile",
  [1],
  async (sim) => {
    const { server, ports } = await start(sim);
    await sim.sleep(1000);
    server.behaviour = "dead";
    await sim.sleep(60_000);
    expect(take(sim, ports)).toBeUndefined();
    const before = server.requests;
    await sim.sleep(3_000_000);
    expect(server.requests - before).toBeLessThan(40);
    server.behaviour = "honest";
    await sim.sleep(310_000);
    expectTaken(sim, take(sim, ports)).socket.close();
    ports.close();
  },
  site(),
);

simTest(
  "a mapping that is seen under another address is nobody's, and is told",
  [1],
  async (sim) => {
    let moved = 0;
    const { ports } = await start(sim, { moved: () => moved++ });
    await sim.sleep(1000);
    sim.router("a").setExternalIp("5.44.77.7");
    await sim.sleep(30_000);
    expect(moved).toBeGreaterThan(0);
    expect(take(sim, ports)).toBeUndefined();
    ports.keep([{ localIp: sim.host("alice").ip(4), external: "5.44.77.7" }]);
    await sim.sleep(1000);
    expectTaken(sim, take(sim, ports)).socket.close();
    ports.close();
  },
  site(),
);

simTest(
  "when it is closed, or its place is gone, the port is free, nothing is sent any more, and no new one is made",
  [1],
  async (sim) => {
    for (const end of ["close", "keep"] as const) {
      const { server, ports } = await start(sim, {}, end);
      await sim.sleep(30_000);
      const [mapping] = sim.router("a").ipv4.table(sim.scheduler.nowMs);
      if (end === "close") ports.close();
      else ports.keep([]);
      const before = server.requests;
      await sim.sleep(600_000);
      expect(server.requests).toBe(before);
      const local = { ip: sim.host("alice").ip(4), port: mapping?.internal.port ?? 0 };
      (await sim.host("alice").world.openUdp({ local })).close();
      if (end === "keep") continue;
      ports.keep([placeOf(sim)]);
      await sim.sleep(60_000);
      expect(server.requests).toBe(before);
    }
  },
  site(),
);

simTest(
  "two nodes whose NATs each need one sample meet in the time of those that need none, and ask nobody on the way",
  [1, 2, 3],
  async (sim) => {
    const { alice, bob } = await meet(sim);
    for (let i = 0; i < 3; i++) {
      const { connection, ms } = await timed(sim, alice, bob);
      expect([connection.path, Math.round(ms)]).toEqual(["punch/udp", 301]);
      const sampled = connection.timeline.find(({ event }) => event === "sampled");
      expect(sampled?.detail).toMatch(/^UDP: \d+ was seen as \d+ \d+\.\d s ago, and kept$/);
      await alice.node.close("bob");
      await sim.sleep(50);
    }
    await Promise.all([alice.close(), bob.close()]);
  },
  site(),
);

simTest(
  "two opens at once do not share a port",
  [1],
  async (sim) => {
    const { alice, bob } = await meet(sim);
    const opened = await Promise.all(
      ["one", "two"].map((name) => alice.node.open(name, elsewhere(bob.node.address()))),
    );
    const locals = opened.map(({ pipe }) => pipe.local.port);
    expect(new Set(locals).size).toBe(2);
    await Promise.all([alice.close(), bob.close()]);
  },
  site(),
);

interface Started {
  readonly server: SimStunServer;
  readonly ports: WarmPorts;
}

async function start(
  sim: Simulation,
  options: Partial<WarmPortsOptions> = {},
  name = "stun",
): Promise<Started> {
  const host = sim.addServer(name, { link: { delayMs: 25 } });
  const server = await startStunServer(host.world, { addresses: [host.ip(4)] });
  const ports = new WarmPorts(sim.host("alice").world, {
    servers: () => Promise.resolve([server.endpoint]),
    ...options,
  });
  ports.keep([placeOf(sim)]);
  return { server, ports };
}

function placeOf(sim: Simulation): { localIp: string; external: string } {
  return { localIp: sim.host("alice").ip(4), external: sim.router("a").ipv4.externalIp };
}

function take(sim: Simulation, ports: WarmPorts): WarmPort | undefined {
  return ports.take(sim.host("alice").ip(4));
}

/** One whose sample is what the router has in its table. */
function expectTaken(sim: Simulation, port: WarmPort | undefined): WarmPort {
  if (port === undefined) throw new Error("expected a port that is warm");
  const table = sim.router("a").ipv4.table(sim.scheduler.nowMs);
  const mapping = table.find(({ internal }) => internal.port === port.sample.localPort);
  expect(mapping?.external.port).toBe(port.sample.externalPort);
  expect(port.socket.local.port).toBe(port.sample.localPort);
  return port;
}
