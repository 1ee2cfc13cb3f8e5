/** What a side of a TCP punch gathers before it: the router's mappings in their order, and ports that stay free. */
import { expect } from "bun:test";
import { gatherTcpSide, type GatheredTcp } from "../../core/connect/gather-tcp.ts";
import { holdPorts } from "../../core/connect/held-ports.ts";
import type { NatKind } from "../../core/nat/nat-kind.ts";
import type { Endpoint } from "../../core/ip.ts";
import { parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { codeOf } from "./code-of.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";
import { startStunServer, type StunBehaviour } from "./stun-server.ts";

const COUNTING: NatKind = {
  type: "symmetric",
  mapping: "address-and-port-dependent",
  filtering: "address-and-port-dependent",
  delta: { type: "independent", value: 1 },
  range: [1024, 65_535],
  portPreservation: false,
  portParity: false,
};
const topology = twoHosts(parseRouterKind("symmetric/independent"), parseRouterKind("open-internet"));

simTest(
  "samples are in the order of the mappings, spare ports follow, and the mappings live until it is closed",
  [1, 2, 3],
  async (sim) => {
    const server = await serve(sim, "stun", "honest");
    const gathered = await gather(sim, [server]);
    const { side, ports, rttMs, syns } = gathered;
    const [first, second] = side.samples;
    expect(side.ip).toBe(sim.router("a").ipv4.externalIp);
    expect(second?.externalPort).toBe((first?.externalPort ?? 0) + 1);
    expect([...side.samples.map(({ localPort }) => localPort), ...side.spare]).toEqual([...ports.ports]);
    expect(side.spare).toHaveLength(24);
    expect([syns, rttMs !== undefined && rttMs < 5]).toEqual([2, true]);
    await sim.sleep(300_000);
    const alive = sim.router("a").ipv4.table(sim.scheduler.nowMs);
    expect(alive.map(({ external }) => external.port)).toEqual(
      side.samples.map(({ externalPort }) => externalPort),
    );
    gathered.close();
    await sim.sleep(15_000);
    expect(sim.router("a").ipv4.table(sim.scheduler.nowMs)).toEqual([]);
    const alice = sim.host("alice");
    const again = await holdPorts(alice.world, { ip: alice.ip(), ports: ports.ports });
    again.close();
  },
  { topology },
);

simTest(
  "a dead server and one that sees another address are passed over, and others' ports are not taken",
  [1],
  async (sim) => {
    const servers = [
      await serve(sim, "dead", "dead"),
      await serve(sim, "liar", "lies"),
      await serve(sim, "good", "honest"),
    ];
    const { side, syns } = await gather(sim, servers);
    expect([side.samples.length, syns]).toEqual([2, 6]);
  },
  { topology },
);

simTest(
  "with no server that answers nothing is gathered and nothing stays",
  [1],
  async (sim) => {
    const dead = await serve(sim, "dead", "dead");
    expect(await codeOf(gather(sim, [dead]))).toBe("unreachable");
    expect(await codeOf(gather(sim, []))).toBe("unreachable");
    await sim.sleep(300_000);
    expect(sim.router("a").ipv4.table(sim.scheduler.nowMs)).toEqual([]);
  },
  { topology },
);

async function serve(sim: Simulation, name: string, behaviour: StunBehaviour): Promise<Endpoint> {
  const server = sim.addServer(name);
  const { endpoint } = await startStunServer(server.world, { addresses: [server.ip()], behaviour });
  return endpoint;
}

function gather(sim: Simulation, servers: readonly Endpoint[]): Promise<GatheredTcp> {
  const alice = sim.host("alice");
  return gatherTcpSide(alice.world, {
    localIp: alice.ip(),
    ip: sim.router("a").ipv4.externalIp,
    kind: COUNTING,
    servers,
    signal: new AbortController().signal,
    note: () => undefined,
  });
}
