/** Signaling in virtual time: what a broker's delay costs, brokers that freeze and vanish, loss. */
import { beforeAll, expect } from "bun:test";
import { loadSignaling } from "../../core/signal/signaling.ts";
import { makeIdentity, offer, startTestNode, type TestNode } from "../core/signal/signaling-nodes.ts";
import { type SimMqttBroker, startMqttBroker } from "./mqtt-broker.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";

const SEEDS = [1, 2, 3];
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
