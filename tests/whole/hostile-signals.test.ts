/** A whole node at a real broker where somebody sends it signals to do harm; each in a process of its own. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { type MosquittoBroker, startMosquitto } from "../core/signal/brokers.ts";
import { type Daemon, startDaemon } from "../daemon-process.ts";

const isLab = process.env["P2PD_LAB"] === "1";
/** What the receiver's memory may grow by: its allocator gives back in its own time, and nothing is kept. */
const GROWTH_MIB = 128;

describe.skipIf(!isLab)("a node at mosquitto", () => {
  test("drops and counts each kind of bad signal, and hears an honest one after them", async () => {
    const broker = await startMosquitto();
    await using stack = new AsyncDisposableStack();
    stack.defer(() => broker.close());
    const [alice, bob] = await pair(broker, stack);
    const { id } = await bob.get("/p2p/addr");
    expect(await attack(broker, String(id), ["kinds"])).toBe(9);
    await open(alice, String(id));
    const detail = await signalsOf(bob);
    console.log(`hostile signals: ${detail}`);
    for (const count of [
      "1 oversized",
      "2 malformed",
      "1 stranger",
      "1 replayed",
      "1 unsealable",
      "1 forged",
      "1 stale",
    ])
      expect(detail).toContain(count);
  }, 30_000);

  test("under 10,000 signals a second by a stranger for 10 s is opened by id and by reverse, and does not grow", async () => {
    const { times, sent, grownMib, dropped } = await underFlood("stranger", 10_000);
    expect(sent).toBeGreaterThan(20_000);
    expect(dropped).toMatch(/\d{5,} stranger/);
    expect(times.length).toBeGreaterThan(5);
    expect(grownMib).toBeLessThan(GROWTH_MIB);
  }, 60_000);

  test("under as many by somebody who knows its id is opened directly, does not grow, and hears signals once that is over", async () => {
    const { times, sent, grownMib, dropped } = await underFlood("insider", 10_000);
    expect(sent).toBeGreaterThan(20_000);
    expect(dropped).toMatch(/\d{4,} flooded/);
    expect(times.length).toBeGreaterThan(5);
    expect(grownMib).toBeLessThan(GROWTH_MIB);
  }, 60_000);
});

/** Opens the node again and again while it is flooded, and once after. */
async function underFlood(who: "stranger" | "insider", durationMs: number) {
  const broker = await startMosquitto();
  await using stack = new AsyncDisposableStack();
  stack.defer(() => broker.close());
  const [alice, bob] = await pair(broker, stack);
  const id = String((await bob.get("/p2p/addr"))["id"]);
  await open(alice, id);
  const before = residentMib(bob.pid);
  const flooding = attack(broker, id, ["10000", String(durationMs), who]);
  const times: number[] = [];
  const strategy = who === "stranger" ? "reverse" : "direct";
  let highest = before;
  let sent: number | undefined;
  while (sent === undefined) {
    times.push(await open(alice, id, strategy));
    highest = Math.max(highest, residentMib(bob.pid));
    sent = await Promise.race([flooding, Bun.sleep(250).then(() => undefined)]);
  }
  await open(alice, id);
  const dropped = await signalsOf(bob);
  const after = residentMib(bob.pid);
  const each = times.toSorted((a, b) => a - b).map((ms) => ms.toFixed(0));
  console.log(
    `hostile signals: ${who} sent ${sent}; ${each.length} opens by ${strategy}, median ${each[each.length >> 1] ?? "-"} ms, ` +
      `longest ${each.at(-1) ?? "-"} ms; resident ${before} MiB before, ${highest} at most, ${after} after; ${dropped}`,
  );
  return { times, sent, dropped, grownMib: highest - before };
}

async function pair(broker: MosquittoBroker, stack: AsyncDisposableStack): Promise<[Daemon, Daemon]> {
  const start = async (): Promise<Daemon> => stack.use(await startDaemon({ P2PD_MQTT_BROKERS: broker.url }));
  const both: [Daemon, Daemon] = [await start(), await start()];
  for (const daemon of both) while (!(await isUp(daemon))) await Bun.sleep(25);
  return both;
}

async function isUp(daemon: Daemon): Promise<boolean> {
  return (await partsOf(daemon)).some(({ part, state }) => part === "brokers" && state === "up");
}

/** Opens by id with one strategy, says something, and closes; the milliseconds that the open took. */
async function open(alice: Daemon, id: string, strategy = "reverse"): Promise<number> {
  const began = performance.now();
  const opened = await alice.get(`/p2p/open/con/${id}?strategies=${strategy}&timeout=20`);
  expect(opened).toMatchObject({ error: 0, strategy, peer: { id } });
  const time = performance.now() - began;
  await alice.get("/p2p/send/con/ECHO%20hello");
  expect(await alice.get("/p2p/recv/con?timeout=10")).toMatchObject({ data: "hello" });
  await alice.get("/p2p/close/con");
  return time;
}

async function attack(broker: MosquittoBroker, id: string, words: readonly string[]): Promise<number> {
  const program = join(import.meta.dir, "signal-attacker.ts");
  const child = Bun.spawn([process.execPath, program, String(broker.port), id, ...words], {
    stderr: "inherit",
  });
  const text = await new Response(child.stdout).text();
  expect(await child.exited).toBe(0);
  return Number(text);
}

async function partsOf(daemon: Daemon) {
  return (await daemon.get("/p2p/status"))["parts"] as { part: string; state: string; detail: string }[];
}

async function signalsOf(daemon: Daemon): Promise<string> {
  return (await partsOf(daemon)).find(({ part }) => part === "signals")?.detail ?? "";
}

function residentMib(pid: number): number {
  const { stdout } = Bun.spawnSync(["ps", "-o", "rss=", "-p", String(pid)]);
  return Math.round(Number(stdout.toString()) / 1024);
}
