import { afterEach, describe, expect, test } from "bun:test";
import { parseBrokerUrl } from "../../../core/signal/broker-url.ts";
import { type AedesBroker, freePort, startAedes, startSilent } from "./brokers.ts";
import { failure, offer, REQUEST, startTestNode, type TestNode, until } from "./signaling-nodes.ts";

const cleanUps: (() => void | Promise<void>)[] = [];

afterEach(async () => {
  for (const step of cleanUps.splice(0).toReversed()) await step();
});

describe("two nodes at one broker", () => {
  test("a message arrives once, from the node that sent it, and its reply comes back", async () => {
    const { url } = await broker();
    const bob = node([url], (signal) => signal.reply({ type: "answer", request: REQUEST, accepted: true }));
    const alice = node([url]);
    await Promise.all([alice.connected(), bob.connected()]);
    const answer = await alice.signaling.request(bob.id, bob.brokers, offer(), { timeoutMs: 5000 });
    expect(answer).toMatchObject({ type: "answer", accepted: true });
    expect(bob.received).toHaveLength(1);
    expect(bob.received[0]).toMatchObject({
      from: alice.id,
      message: { type: "offer", strategies: ["direct"] },
    });
  });

  test("any answer measures how the two clocks differ", async () => {
    const { url } = await broker();
    const bob = node([url]);
    const alice = node([url]);
    await Promise.all([alice.connected(), bob.connected()]);
    const pong = await alice.signaling.request(bob.id, bob.brokers, { type: "ping" }, { timeoutMs: 5000 });
    expect(pong.type).toBe("pong");
    const clock = alice.signaling.clockOffset(bob.id);
    expect(Math.abs(clock?.offsetMs ?? Number.NaN)).toBeLessThan(50);
    expect(clock?.rttMs).toBeGreaterThan(0);
  });

  test("a node is found by its id alone, with the record that it keeps on the broker", async () => {
    const { url } = await broker();
    const bob = node([url]);
    await bob.connected();
    bob.signaling.publishRecord("first");
    bob.signaling.publishRecord("p2pd1~now");
    const alice = node([url]);
    const record = await alice.signaling.fetchRecord(bob.id, { timeoutMs: 5000 });
    expect(record.line).toBe("p2pd1~now");
  });
});

describe("several brokers", () => {
  test("a message that comes over three brokers is delivered once", async () => {
    const urls = [(await broker()).url, (await broker()).url, (await broker()).url];
    const bob = node(urls);
    const alice = node(urls);
    await Promise.all([alice.connected(), bob.connected()]);
    await alice.signaling.send(bob.id, bob.brokers, offer());
    await until(() => bob.signaling.status().signals.duplicate === 2 && bob.received.length > 0);
    expect(bob.received).toHaveLength(1);
  });

  test("one dead and one silent broker cost nothing", async () => {
    const silent = await startSilent();
    cleanUps.push(() => silent.close());
    const urls = [`mqtt://127.0.0.1:${await freePort()}`, silent.url, (await broker()).url];
    const bob = node(urls);
    const alice = node(urls);
    await Promise.all([alice.connected(1), bob.connected(1)]);
    const before = performance.now();
    await alice.signaling.request(bob.id, bob.brokers, { type: "ping" }, { timeoutMs: 5000 });
    expect(performance.now() - before).toBeLessThan(300);
    const states = alice.signaling.status().brokers.map(({ state }) => state);
    expect(states).toEqual(["waiting", "connecting", "connected"]);
    expect(alice.signaling.status().brokers[0]?.error).toContain("ECONNREFUSED");
  });

  test("a node is reached over a broker that only it uses", async () => {
    const [hers, his] = [await broker(), await broker()];
    const alice = node([hers.url]);
    const bob = node([his.url]);
    await Promise.all([alice.connected(), bob.connected()]);
    alice.signaling.prepare(bob.brokers);
    const pong = await alice.signaling.request(bob.id, bob.brokers, { type: "ping" }, { timeoutMs: 5000 });
    expect(pong.type).toBe("pong");
  });

  test("no broker at all is an error that says how each stands", async () => {
    const port = await freePort();
    const alice = node([`mqtt://127.0.0.1:${port}`]);
    const bob = node([]);
    const sent = alice.signaling.send(bob.id, [parseBrokerUrl(`mqtt://127.0.0.1:${port}`)], offer(), {
      timeoutMs: 100,
    });
    expect(await failure(sent)).toMatchObject({ code: "unavailable" });
    expect((await failure(sent)).message).toContain(`mqtt://127.0.0.1:${port}: `);
    const nowhere = bob.signaling.send(alice.id, [], offer());
    expect((await failure(nowhere)).message).toContain("no signaling broker is configured");
  });

  test("a node comes back after its broker was away", async () => {
    const first = await startAedes();
    const bob = node([first.url]);
    await bob.connected();
    await first.close();
    await until(() => bob.signaling.status().brokers[0]?.state !== "connected");
    const second = await startAedes({ port: first.port });
    cleanUps.push(() => second.close());
    const alice = node([second.url]);
    await Promise.all([alice.connected(), bob.connected()]);
    await alice.signaling.send(bob.id, bob.brokers, offer());
    await until(() => bob.received.length === 1);
  });
});

async function broker(): Promise<AedesBroker> {
  const started = await startAedes();
  cleanUps.push(() => started.close());
  return started;
}

function node(
  urls: readonly string[],
  message?: (signal: TestNode["received"][number]) => unknown,
): TestNode {
  const started = startTestNode(urls, { message: (signal) => void message?.(signal) });
  cleanUps.push(() => started.signaling.close());
  return started;
}
