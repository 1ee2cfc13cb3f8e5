/** Links to brokers in virtual time: what suspicion costs, connections beside each other, NICs that take over. */
import { beforeAll, expect } from "bun:test";
import type { World } from "../../core/net/world.ts";
import { HURRY_MS } from "../../core/signal/broker-pace.ts";
import { loadSignaling, type Signaling, startSignaling } from "../../core/signal/signaling.ts";
import { makeIdentity, quiet } from "../core/signal/signaling-nodes.ts";
import { parseRouterKind, twoNics } from "../nat/topologies.ts";
import { type SimMqttBroker, startMqttBroker } from "./mqtt-broker.ts";
import { simTest } from "./sim-test.ts";
import type { SimHost } from "./host.ts";
import type { Simulation } from "./simulation.ts";

const SEEDS = [1, 2, 3];
const home = parseRouterKind("port-restricted/equal");
const topology = twoNics(home, home, home);
const identity = makeIdentity();

beforeAll(loadSignaling);

simTest(
  "nothing suspected costs a ping in 15 s and no connection",
  [1],
  async (sim) => {
    const { broker, signaling } = await site(sim);
    const { pings } = broker;
    await sim.sleep(600_000);
    // The first connection was one of MQTT 5, which this broker refuses.
    expect([broker.pings - pings, broker.accepted]).toEqual([40, 2]);
    signaling.close();
  },
  { topology },
);

simTest(
  "a swarm of hints costs a ping a second",
  SEEDS,
  async (sim) => {
    const { broker, signaling } = await site(sim);
    const before = broker.pings;
    for (let i = 0; i < 300; i++) {
      signaling.suspect();
      await sim.sleep(10);
    }
    await sim.sleep(1000);
    expect(broker.pings - before).toBe(4);
    expect(broker.accepted).toBe(2);
    signaling.close();
  },
  { topology },
);

simTest(
  "a broker that answers late keeps its connection, and the other is given up",
  SEEDS,
  async (sim) => {
    const { broker, host, signaling, events } = await site(sim);
    host.changeNic("eth0", { link: { delayMs: 600 } });
    signaling.suspect();
    await sim.sleep(400);
    expect(stateOf(signaling)).toBe("connecting");
    expect(signaling.status().brokers[0]?.error).toMatch(/^no answer to a ping within \d+ ms$/);
    await sim.sleep(10_000);
    expect(stateOf(signaling)).toBe("connected");
    expect(broker.clients).toBe(1);
    expect(events).toEqual(["lost"]);
    signaling.close();
  },
  { topology },
);

simTest(
  "a connection that is replaced is heard for two seconds more, then closed",
  SEEDS,
  async (sim) => {
    const { broker, signaling, events } = await site(sim);
    broker.freeze(true);
    signaling.suspect();
    await sim.sleep(500);
    broker.freeze(false);
    await sim.sleep(1500);
    expect(events).toEqual(["lost", "reconnected"]);
    expect(stateOf(signaling)).toBe("connected");
    expect(broker.clients).toBe(2);
    await sim.sleep(2000);
    expect(broker.clients).toBe(1);
    signaling.close();
  },
  { topology },
);

simTest(
  "tries in a hurry are a second apart, three beside each other, and end with it",
  SEEDS,
  async (sim) => {
    const counted = countConnects(sim.host("alice").world);
    const { signaling } = await site(sim, { world: counted.world });
    sim.router("a").setLine(false);
    sim.router("a2").setLine(false);
    const before = counted.count;
    signaling.suspect();
    await sim.sleep(HURRY_MS);
    expect(counted.most).toBeLessThanOrEqual(3);
    expect(counted.count - before).toBeWithin(22, 42);
    const hurried = counted.count;
    await sim.sleep(120_000);
    expect(counted.count - hurried).toBeLessThan(16);
    signaling.close();
  },
  { topology },
);

simTest(
  "a broker that cuts every connection at once is not hurried to for longer than once",
  SEEDS,
  async (sim) => {
    const { broker, signaling } = await site(sim);
    const cutFor = async (ms: number): Promise<number> => {
      const before = broker.accepted;
      for (let passedMs = 0; passedMs < ms; passedMs += 50) {
        broker.cut();
        await sim.sleep(50);
      }
      return broker.accepted - before;
    };
    expect(await cutFor(HURRY_MS)).toBeLessThan(45);
    expect(await cutFor(240_000)).toBeLessThan(50);
    await sim.sleep(15_000);
    expect(stateOf(signaling)).toBe("connected");
    signaling.close();
  },
  { topology },
);

simTest(
  "a way that goes dead unseen is replaced by that of another NIC",
  SEEDS,
  async (sim) => {
    const { broker, signaling } = await site(sim);
    sim.router("a").setLine(false);
    signaling.suspect();
    await sim.sleep(1200);
    expect(stateOf(signaling)).toBe("connected");
    expect(broker.clients).toBe(2);
    signaling.close();
  },
  { topology },
);

for (const answer of ["silent", "fails"] as const) {
  simTest(
    `a broker's last address is tried where its name's resolver ${answer === "silent" ? "is silent" : "fails"}`,
    SEEDS,
    async (sim) => {
      const { signaling } = await site(sim, { name: "broker.example.org" });
      sim.names.set("broker.example.org", answer);
      sim.router("a").reboot();
      signaling.suspect();
      await sim.sleep(300 + 250 + 3 * ROUND_MS);
      expect(stateOf(signaling)).toBe("connected");
      signaling.close();
    },
    { topology },
  );
}

simTest(
  "a NIC that is not to be used does not take over",
  SEEDS,
  async (sim) => {
    const { signaling } = await site(sim, { interfaces: ["eth0"] });
    sim.router("a").setLine(false);
    signaling.suspect();
    await sim.sleep(20_000);
    expect(stateOf(signaling)).not.toBe("connected");
    signaling.close();
  },
  { topology },
);

simTest(
  "a NIC that goes down leaves its links to the one that is the default now, at once",
  SEEDS,
  async (sim) => {
    const { signaling, events } = await site(sim);
    sim.host("alice").changeNic("eth0", { up: false, addresses: [] });
    await sim.sleep(75 + 3 * ROUND_MS + 20);
    expect(stateOf(signaling)).toBe("connected");
    expect(events).toEqual(["lost", "reconnected"]);
    signaling.close();
  },
  { topology },
);

simTest(
  "tries of a hidden router's time are followed by one within a second of its return",
  SEEDS,
  async (sim) => {
    const { signaling } = await site(sim);
    for (const name of ["a", "a2"]) sim.router(name).setLine(false);
    signaling.suspect();
    await sim.sleep(sim.random.between(2000, HURRY_MS - 2000));
    for (const name of ["a", "a2"]) sim.router(name).setLine(true);
    await sim.sleep(1250 + 3 * ROUND_MS);
    expect(stateOf(signaling)).toBe("connected");
    signaling.close();
  },
  { topology },
);

const ROUND_MS = 42;

interface Site {
  readonly host: SimHost;
  readonly broker: SimMqttBroker;
  readonly signaling: Signaling;
  readonly events: string[];
}

/** One broker, 40 ms there and back, and the host `alice` connected to it for 15 s. */
async function site(
  sim: Simulation,
  options: { interfaces?: readonly string[]; world?: World; name?: string } = {},
): Promise<Site> {
  const host = sim.addServer("broker", { link: { delayMs: 20 } });
  const broker = await startMqttBroker(host.world, host.ip(4));
  const events: string[] = [];
  const { interfaces, name } = options;
  if (name !== undefined) sim.names.set(name, [host.ip(4)]);
  const url = name === undefined ? broker.url : `mqtt://${name}:1883`;
  const signaling = startSignaling(
    options.world ?? sim.host("alice").world,
    { identity, brokers: [url], interfaces, log: quiet },
    {
      message: () => undefined,
      lost: () => void events.push("lost"),
      reconnected: () => void events.push("reconnected"),
    },
  );
  await sim.sleep(15_500);
  return { host, broker, signaling, events };
}

function stateOf(signaling: Signaling): string | undefined {
  return signaling.status().brokers[0]?.state;
}

/** Counts connects, and how many were under way at most. */
function countConnects(world: World) {
  const counted = {
    count: 0,
    most: 0,
    world: {
      ...world,
      async connectTcp(options) {
        counted.count++;
        counted.most = Math.max(counted.most, ++underWay);
        try {
          return await world.connectTcp(options);
        } finally {
          underWay--;
        }
      },
    } as World,
  };
  let underWay = 0;
  return counted;
}
