/** Signaling in virtual time: what a broker's delay costs, brokers that freeze and vanish, loss. */
import { beforeAll, expect } from "bun:test";
import { loadSignaling } from "../../core/signal/signaling.ts";
import { makeIdentity, offer, startTestNode, type TestNode } from "../core/signal/signaling-nodes.ts";
import { codeOf } from "./code-of.ts";
import { type SimMqttBroker, startMqttBroker } from "./mqtt-broker.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";

const SEEDS = [1, 2, 3];
const STRANGER = makeIdentity().id;
const identities = [makeIdentity(), makeIdentity()] as const;

beforeAll(loadSignaling);

simTest("a question and its answer cost two traversals of the broker, no more", SEEDS, async (sim) => {
  const { alice, bob } = await site(sim, 1, 25);
  const before = sim.scheduler.nowMs;
  await alice.signaling.request(bob.id, bob.brokers, { type: "ping" }, { timeoutMs: 5000 });
  expect(sim.scheduler.nowMs - before).toBeLessThan(102);
  expect(alice.signaling.clockOffset(bob.id)?.rttMs).toBeLessThan(102);
});

simTest(
  "of three brokers one dead and one frozen: an answer comes as fast as with all",
  SEEDS,
  async (sim) => {
    const { alice, bob, brokers } = await site(sim, 3, 25);
    brokers[0]?.close();
    brokers[1]?.freeze(true);
    const before = sim.scheduler.nowMs;
    await alice.signaling.request(bob.id, bob.brokers, { type: "ping" }, { timeoutMs: 5000 });
    expect(sim.scheduler.nowMs - before).toBeLessThan(102);
    await sim.sleep(28_000);
    const [dead, frozen, good] = alice.signaling.status().brokers;
    expect(dead?.state).not.toBe("connected");
    expect(frozen?.error ?? "").toMatch(/frozen|no answer/);
    expect(good?.state).toBe("connected");
    brokers[1]?.freeze(false);
    await sim.sleep(90_000);
    expect(alice.signaling.status().brokers[1]?.state).toBe("connected");
  },
);

simTest("the record of an unknown id is given up once every broker has answered", SEEDS, async (sim) => {
  const { alice, brokers } = await site(sim, 3, 25);
  const look = async (): Promise<string> => {
    const before = sim.scheduler.nowMs;
    const code = await codeOf(alice.signaling.fetchRecord(STRANGER, { timeoutMs: 3000 }));
    return `${code} after ${Math.round((sim.scheduler.nowMs - before) / 100) / 10} s`;
  };
  expect(await look()).toBe("no-such-peer after 0.3 s");
  brokers[0]?.close();
  await sim.sleep(200);
  expect(await look()).toBe("no-such-peer after 0.3 s");
  // One that is frozen may only be slow.
  brokers[1]?.freeze(true);
  expect(await look()).toBe("no-such-peer after 3 s");
  for (const broker of brokers) broker.close();
  await sim.sleep(200);
  expect(await look()).toBe("unavailable after 3 s");
});

simTest("a record is found at the slow broker that alone has it", SEEDS, async (sim) => {
  const { alice, bob, brokers } = await site(sim, 2, 25);
  const host = sim.addServer("slow", { link: { delayMs: 700 } });
  const slow = await startMqttBroker(host.world, host.ip(4));
  bob.signaling.close();
  const carol = node(sim, "carol", [slow.url], 1);
  carol.signaling.publishRecord("p2pd1~here");
  await sim.sleep(6000);
  expect(brokers.map(({ clients }) => clients)).toEqual([1, 1]);
  const options = { timeoutMs: 10_000, brokers: carol.brokers };
  expect((await alice.signaling.fetchRecord(carol.id, options)).line).toBe("p2pd1~here");
});

simTest("an idle link to a peer's broker is closed after its time", [1], async (sim) => {
  const { bob } = await site(sim, 1, 5);
  const carol = node(sim, "carol", [], 0);
  await carol.signaling.send(bob.id, bob.brokers, offer());
  expect(carol.signaling.status().brokers).toHaveLength(1);
  await sim.sleep(250_000);
  expect(carol.signaling.status().brokers).toHaveLength(0);
  expect(bob.received).toHaveLength(1);
  for (let i = 0; i < 20; i++) {
    carol.signaling.prepare([{ scheme: "mqtt", host: `198.51.100.${i + 1}`, port: 1883, path: "" }]);
  }
  expect(carol.signaling.status().brokers).toHaveLength(16);
  carol.signaling.close();
});

async function site(
  sim: Simulation,
  count: number,
  delayMs: number,
): Promise<{ alice: TestNode; bob: TestNode; brokers: readonly SimMqttBroker[] }> {
  const brokers: SimMqttBroker[] = [];
  for (let i = 0; i < count; i++) {
    const host = sim.addServer(`broker${i}`, { link: { delayMs } });
    brokers.push(await startMqttBroker(host.world, host.ip(4)));
  }
  const urls = brokers.map(({ url }) => url);
  const [alice, bob] = [node(sim, "alice", urls, 0), node(sim, "bob", urls, 1)];
  await sim.sleep(3000);
  return { alice, bob, brokers };
}

function node(sim: Simulation, name: string, urls: readonly string[], who: 0 | 1): TestNode {
  return startTestNode(urls, { world: sim.addServer(name).world, identity: identities[who] });
}
