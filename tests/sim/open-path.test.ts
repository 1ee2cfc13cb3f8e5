/**
 * The whole path of an open, from both nodes' sockets to the echo, in 500 situations: loss up to 20 % at each router,
 * dead, frozen and slow servers, routers that let somebody in and routers that do not. Each ends in a connection or
 * in reasons that are true.
 */
import { beforeAll, expect, test } from "bun:test";
import { P2pdError, toP2pdError } from "../../core/errors.ts";
import type { FailedAttempt } from "../../core/connect/race.ts";
import type { Connection } from "../../core/node/node-api.ts";
import { loadSignaling } from "../../core/signal/signaling.ts";
import { decodeAddress, encodeAddress } from "../../core/wire/address.ts";
import type { SimHost } from "./host.ts";
import { type SimMqttBroker, startMqttBroker } from "./mqtt-broker.ts";
import {
  type Asked,
  type BrokerFate,
  drawScenario,
  type OpenScenario,
  possible,
  reaches,
} from "./open-scenario.ts";
import { runSim } from "./run-sim.ts";
import { type SimNode, startSimNode } from "./sim-node.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";
import { startStunServer } from "./stun-server.ts";

const SEEDS = Array.from({ length: 500 }, (_, i) => i + 1);
const REPEATED = [3, 77, 210, 404];
const PORT = 10_001;
const IMPOSTER = "AgECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";

/** What became of all of them. */
const outcomes = new Map<string, number>();

beforeAll(loadSignaling);

simTest(
  "an open ends in a connection or in true reasons, on time, and leaves nothing behind",
  SEEDS,
  async (sim) => {
    const outcome = await run(sim);
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  },
  (seed) => ({ topology: drawScenario(seed).topology }),
);

test("of the opens that the network allows nearly all succeed in spite of loss, and each strategy has its share", () => {
  const of = (name: string): number => outcomes.get(name) ?? 0;
  console.log(`open path: ${JSON.stringify(Object.fromEntries(outcomes))}`);
  if ([...outcomes.values()].reduce((a, b) => a + b, 0) < SEEDS.length) return;
  expect(of("direct")).toBeGreaterThan(100);
  expect(of("reverse")).toBeGreaterThan(50);
  expect(of("impossible")).toBeGreaterThan(100);
  expect(of("lost")).toBeLessThan(0.05 * (of("direct") + of("reverse")));
});

test("the same situation leaves the same trace twice", async () => {
  for (const seed of REPEATED) {
    const digest = async (): Promise<string> => {
      const { topology } = drawScenario(seed);
      const { sim, result } = await runSim({ seed, topology }, run);
      return `${result} ${sim.trace.count} ${sim.trace.digest}`;
    };
    expect(await digest()).toBe(await digest());
  }
});

/** Plays the situation of the simulation's seed; resolves with what became of it. */
async function run(sim: Simulation): Promise<string> {
  const scenario = drawScenario(sim.seed);
  const { alice, bob, servers } = await site(sim, scenario);
  const target = targetOf(bob, scenario.asked);
  if (scenario.isBobOff) await bob.close();
  const began = sim.scheduler.nowMs;
  const ended = await alice.node.open("con", target, scenario.options).then(
    (connection) => ({ connection }),
    (thrown: unknown) => ({ error: toP2pdError(thrown) }),
  );
  expect(sim.scheduler.nowMs - began).toBeLessThanOrEqual(scenario.options.timeoutMs + 150);
  const outcome =
    "connection" in ended
      ? await judgeConnection(ended.connection, bob, scenario)
      : judgeFailure(ended.error, scenario);
  await Promise.all([alice.close(), bob.close()]);
  for (const server of servers) server.close();
  // Longer than TCP goes on sending to somebody who is gone.
  await sim.sleep(1_800_000);
  expect(sim.scheduler.pending).toBe(0);
  return outcome;
}

interface Site {
  readonly alice: SimNode;
  readonly bob: SimNode;
  readonly servers: readonly { close(): void }[];
}

async function site(sim: Simulation, scenario: OpenScenario): Promise<Site> {
  const link = { delayMs: scenario.serverDelayMs };
  const servers: { close(): void }[] = [];
  const stunServers: { host: string; port: number }[] = [];
  for (const [i, behaviour] of scenario.stun.entries()) {
    const host = sim.addServer(`stun${i}`, { link, addresses: 2 });
    servers.push(await startStunServer(host.world, { addresses: [host.ip()], behaviour }));
    stunServers.push({ host: host.ip(), port: 3478 });
  }
  const brokers: SimMqttBroker[] = [];
  for (const [i, fate] of scenario.brokers.entries()) {
    const host = sim.addServer(`broker${i}`, { link: fate === "slow" ? { delayMs: 250 } : link });
    brokers.push(await startMqttBroker(host.world, host.ip()));
  }
  servers.push(...brokers);
  const strike = (): void => {
    for (const [i, fate] of scenario.brokers.entries()) {
      if (fate === "dead") brokers[i]?.close();
      if (fate === "frozen") brokers[i]?.freeze(true);
    }
  };
  if (!scenario.isLate) strike();
  const config = {
    listenPort: PORT,
    strategies: ["direct", "reverse"],
    stunServers,
    mqttBrokers: brokers.map(({ url }) => url),
  } as const;
  const [alice, bob] = [await startOn(sim, "alice"), await startOn(sim, "bob")];
  for (const { node } of [alice, bob]) {
    const isUp = (part: string): boolean =>
      node.status().some((one) => one.part === part && one.state === "up");
    const isReady = (): boolean =>
      (stunServers.length === 0 || isUp("stun")) &&
      brokers.every(({ url }, i) => isUp(`broker ${url}`) || !isAlive(scenario.brokers[i], scenario.isLate));
    for (let left = 60; left > 0 && !isReady(); left--) await sim.sleep(250);
  }
  if (scenario.isLate) strike();
  return { alice, bob, servers };

  async function startOn(of: Simulation, name: "alice" | "bob"): Promise<SimNode> {
    const host = of.host(name);
    if (!scenario.hasIp6) withoutIp6(host);
    if (scenario.forwarded[name]) forward(of, name, scenario);
    return startSimNode(host, config);
  }
}

/** Whether a node can connect to a broker of this fate before the open. */
function isAlive(fate: BrokerFate | undefined, isLate: boolean): boolean {
  return isLate || fate === "good" || fate === "slow";
}

function withoutIp6(host: SimHost): void {
  const nic = host.world.nics().find(({ kind }) => kind !== "loopback");
  if (nic === undefined) throw new P2pdError("internal", "a host without a NIC");
  host.changeNic(nic.name, { addresses: nic.addresses.filter(({ family }) => family === 4) });
}

/** At every router on the way in that translates. */
function forward(sim: Simulation, name: "alice" | "bob", { isOneLan, before }: OpenScenario): void {
  if (isOneLan) return;
  let inside = sim.host(name).ip();
  const routers = name === "bob" ? ["b"] : before.alice.length === 2 ? ["a", "carrier"] : ["a"];
  for (const router of routers) {
    const { ipv4 } = sim.router(router);
    for (const protocol of ["tcp", "udp"] as const)
      ipv4.forwardPort(0, protocol, PORT, { ip: inside, port: PORT }, 36_000_000);
    inside = ipv4.externalIp;
  }
}

function targetOf({ node }: SimNode, asked: Asked): string {
  if (asked === "id") return node.id;
  const address = decodeAddress(node.address());
  if (asked === "old")
    return encodeAddress({ ...address, nics: address.nics.map((nic) => ({ ...nic, port: 9 })) });
  return asked === "imposter" ? encodeAddress({ ...address, id: IMPOSTER }) : node.address();
}

async function judgeConnection(
  connection: Connection,
  { node }: SimNode,
  scenario: OpenScenario,
): Promise<string> {
  const { strategy, transport, peer, pipe } = connection;
  expect(peer.id).toBe(node.id);
  expect(possible(scenario)[strategy as "direct" | "reverse"]).not.toBe("no");
  if (scenario.options.transport !== undefined) expect(transport).toBe(scenario.options.transport);
  try {
    expect(await echo(connection)).toBe("here");
    return strategy;
  } catch (thrown) {
    // Loss may be so great that the greeting does not come through.
    const closed = await Promise.race([pipe.closed, Promise.resolve(undefined)]);
    if (!scenario.isLossy || !/did not greet|was lost/.test(closed?.message ?? "")) throw thrown;
    return "lost";
  }
}

/** What comes back; a datagram is sent until one does, as any may be lost or overtake the greeting. */
async function echo({ pipe }: Connection): Promise<string> {
  const isDatagram = pipe.kind === "datagram";
  for (let left = isDatagram ? 40 : 1; ; left--) {
    await pipe.send("ECHO here");
    try {
      const { bytes } = await pipe.recv("all", isDatagram ? 1000 : 600_000);
      return new TextDecoder().decode(bytes);
    } catch (thrown) {
      if (left === 1 || toP2pdError(thrown).code !== "receive-timeout") throw thrown;
    }
  }
}

/** Every reason that is given must be one that this situation makes true. */
function judgeFailure(error: P2pdError, scenario: OpenScenario): string {
  const { asked, brokers, isLossy } = scenario;
  const ways = Object.values(possible(scenario));
  // Whoever asks by id and finds no record never gets to try.
  if (error.code === "no-such-peer" || error.code === "unavailable") {
    expect(asked).toBe("id");
    const good = brokers.filter((fate) => fate === "good" || fate === "slow");
    if (!isLossy) expect(good).toEqual([]);
  } else {
    expect(error.code).toBe("connect-failed");
    const attempts = error.detail["attempts"] as readonly FailedAttempt[];
    expect(attempts.length).toBeGreaterThan(0);
    for (const { strategy, candidate, reason } of attempts)
      if (!isTrue(strategy, reason, scenario)) throw new Error(`untrue: ${strategy} ${candidate}: ${reason}`);
  }
  if (isLossy && ways.includes("yes")) return "lost";
  expect(ways).not.toContain("yes");
  return "impossible";
}

/** What a reason says, and when that is so. */
function isTrue(strategy: string, reason: string, scenario: OpenScenario): boolean {
  const { before, isOneLan, isBobOff, asked, brokers, isLossy, options, hasIp6 } = scenario;
  const hears = brokers.some((fate) => fate === "good" || fate === "slow");
  const isRefused = (host: "alice" | "bob"): boolean =>
    (host === "bob" && (isBobOff || asked === "old")) ||
    before[host].some(({ unsolicitedSyn }) => unsolicitedSyn !== "drop");
  const truths: readonly (readonly [RegExp, boolean])[] =
    strategy === "direct"
      ? [
          [
            /^no answer within/,
            reaches(scenario, "bob") !== "yes" || isLossy || isBobOff || asked !== "line",
          ],
          [/^nothing listens there/, isRefused("bob")],
          [/^no answer over UDP, and the host refuses TCP/, isRefused("bob")],
          // Private addresses have no way; some routers say so of forbidden ones.
          [/^this machine has no way there/, !isOneLan || hasIp6],
          [/^a node with another key answers there/, asked === "imposter"],
          [/^the strategy direct is not allowed here/, !options.strategies.includes("direct")],
          [/^no endpoint of the address can be reached/, reaches(scenario, "bob") === "no"],
        ]
      : [
          [/^needs a message to the peer, and no mqttBrokers/, brokers.length === 0],
          [/^the signal could not be sent/, !hears || isLossy],
          [/^the peer did not answer on any broker/, isBobOff || asked === "imposter" || !hears || isLossy],
          [/^the peer could not connect to us/, reaches(scenario, "alice") !== "yes" || isLossy],
          [
            /^the peer replied that it connects back, and no c/,
            reaches(scenario, "alice") !== "yes" || isLossy,
          ],
        ];
  return truths.some(([pattern, isSo]) => isSo && pattern.test(reason));
}
