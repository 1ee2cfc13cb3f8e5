/** Opens that are given up, and nodes that stop, at any moment: nothing of them stays on either side. */
import { beforeAll, expect } from "bun:test";
import type { NodeConfig } from "../../core/node/node-config.ts";
import type { QuicConnectOptions, QuicEndpoint, QuicPath, World } from "../../core/net/world.ts";
import { loadSignaling } from "../../core/signal/signaling.ts";
import { twoHosts } from "../nat/topologies.ts";
import { codeOf } from "./code-of.ts";
import { type CountedWorld, countOpen } from "./counted-world.ts";
import { elsewhere, nat, startServers } from "./punch-site.ts";
import { type SimNode, startSimNode } from "./sim-node.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";

beforeAll(loadSignaling);

const PAIRS = [
  ["port-restricted/equal", "port-restricted/equal"],
  ["symmetric/independent", "port-restricted/random"],
  ["symmetric/independent", "symmetric/independent"],
  ["symmetric/dependent", "symmetric/equal"],
  ["symmetric/random", "port-restricted/equal"],
  ["restricted/equal", "symmetric/random"],
  ["blocked/equal", "port-restricted/equal"],
  ["blocked/independent", "blocked/random"],
  ["symmetric/random", "symmetric/random"],
  ["open-internet", "port-restricted/equal"],
] as const;
const SEEDS = Array.from({ length: 120 }, (_, i) => i + 1);

simTest(
  "whenever an open is given up and either node stops, no socket, path or timer of them is left",
  SEEDS,
  async (sim) => {
    const config = { ...(await startServers(sim)), strategies: ["direct", "reverse", "punch"] } as const;
    const [alice, bob] = [await start(sim, "alice", config), await start(sim, "bob", config)];
    await Promise.all([alice.node.nat(), bob.node.nat()]);
    await sim.sleep(2000);
    const moment = (): number => 1.1 ** sim.random.between(0, 90);
    const timeoutMs = moment();
    const opening = alice.node
      .open("bob", elsewhere(bob.node.address()), { timeoutMs })
      .catch((thrown: unknown) => thrown);
    const stop = async (node: CountedNode, afterMs: number): Promise<void> => {
      await sim.sleep(afterMs);
      await node.close();
      await sim.sleep(30_000);
      expect(node.open()).toEqual([]);
    };
    // One of them may go on for a while, and must not keep the other alive.
    const [first, second] = sim.random.between(0, 1) === 0 ? [alice, bob] : [bob, alice];
    const laterMs = sim.random.between(0, 1) === 0 ? moment() : 60_000;
    await Promise.all([opening, stop(first, moment()), stop(second, laterMs)]);
  },
  (seed) => {
    const [a, b] = PAIRS[seed % PAIRS.length] as (typeof PAIRS)[number];
    const link = { delayMs: 25, jitterMs: 0, loss: seed % 3 === 0 ? 0.2 : 0 };
    return { topology: twoHosts(nat(a, { link }), nat(b, { link })) };
  },
);

simTest(
  "a peer that greets on a punched path after the node has stopped finds nobody",
  [1],
  async (sim) => {
    const config = { ...(await startServers(sim)), strategies: ["punch"] } as const;
    const bob = await start(sim, "bob", config);
    const alice = await start(sim, "alice", config, greetingLate);
    await Promise.all([alice.node.nat(), bob.node.nat()]);
    const opening = alice.node.open("bob", elsewhere(bob.node.address()));
    while (!bob.open().includes("a QUIC path that was accepted")) await sim.sleep(1);
    await bob.node.close();
    await sim.sleep(0.75 * LATE_MS);
    expect(bob.open()).toEqual([]);
    await opening;
    await sim.sleep(LATE_MS);
    expect(bob.node.connections()).toEqual([]);
    expect(bob.open()).toEqual([]);
    await Promise.all([alice.close(), bob.close()]);
  },
  { topology: twoHosts(nat("port-restricted/equal"), nat("port-restricted/equal")) },
);

simTest(
  "a node that stops does not wait for the welcome of a peer that is silent",
  [1],
  async (sim) => {
    const bob = await start(sim, "bob", {});
    const alice = await start(sim, "alice", {}, greetingLate);
    const options = { service: "echo", strategies: ["direct"], transport: "udp" } as const;
    const opening = codeOf(alice.node.open("bob", elsewhere(bob.node.address()), options));
    await sim.sleep(1000);
    const began = sim.scheduler.nowMs;
    await alice.close();
    expect(sim.scheduler.nowMs - began).toBeLessThan(2000);
    expect(await opening).toBe("closed");
    await bob.close();
  },
  { topology: twoHosts(nat("open-internet"), nat("open-internet")) },
);

const LATE_MS = 8000;

/** A world in which what is written on paths over QUIC leaves late. */
function greetingLate(world: World): World {
  const late = (path: QuicPath): QuicPath =>
    Object.assign(Object.create(path) as QuicPath, {
      write(bytes: Uint8Array) {
        world.time.after(LATE_MS, () => path.write(bytes));
        return true;
      },
    });
  return {
    ...world,
    async openQuic(options) {
      const endpoint = (await world.openQuic?.(options)) as QuicEndpoint;
      return Object.assign(Object.create(endpoint) as QuicEndpoint, {
        connect: async (to: QuicConnectOptions) => late(await endpoint.connect(to)),
      });
    },
  };
}

interface CountedNode extends SimNode, Pick<CountedWorld, "open"> {}

async function start(
  sim: Simulation,
  name: string,
  config: Partial<NodeConfig>,
  change = (world: World): World => world,
): Promise<CountedNode> {
  const host = sim.host(name);
  for (const { name: nic, addresses, kind } of host.world.nics()) {
    if (kind !== "loopback")
      host.changeNic(nic, { addresses: addresses.filter(({ family }) => family === 4) });
  }
  const { world, open } = countOpen(change(host.world));
  return { ...(await startSimNode({ ...host, world }, config)), open };
}
