/** Whole nodes behind two NATs punch holes: which pairs, in what time, at what cost. */
import { beforeAll, expect } from "bun:test";
import { loadSignaling } from "../../core/signal/signaling.ts";
import { P2pdError } from "../../core/errors.ts";
import type { Connection } from "../../core/node/node-api.ts";
import { decodeAddress, encodeAddress } from "../../core/wire/address.ts";
import { changeSettings, type NatSettingsChange } from "../nat/settings.ts";
import { parseRouterKind, type RouterKind, twoHosts } from "../nat/topologies.ts";
import { startMqttBroker } from "./mqtt-broker.ts";
import { type SimNode, startSimNode } from "./sim-node.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";
import { startStunServer } from "./stun-server.ts";

const ONE_WAY_MS = 25;

beforeAll(loadSignaling);

/** Pairs of which neither side can be reached without a hole. */
const PAIRS: readonly (readonly [caller: string, called: string, path?: string])[] = [
  ["port-restricted/equal", "port-restricted/equal"],
  ["port-restricted/random", "port-restricted/independent"],
  ["symmetric/equal", "port-restricted/equal"],
  ["port-restricted/equal", "symmetric/preserving"],
  ["symmetric/independent", "port-restricted/equal"],
  ["port-restricted/random", "symmetric/independent"],
  ["symmetric/dependent", "symmetric/equal"],
  ["symmetric/independent", "symmetric/independent"],
  ["symmetric/preserving", "symmetric/independent"],
  ["symmetric/equal", "symmetric/dependent"],
  ["symmetric/dependent", "symmetric/independent"],
  ["restricted/equal", "symmetric/random", "punch/tcp"],
  ["symmetric/random", "restricted/equal"],
  ["symmetric/random", "port-restricted/equal"],
  ["port-restricted/equal", "symmetric/random"],
  ["blocked/equal", "port-restricted/equal", "punch/tcp"],
  ["port-restricted/random", "blocked/preserving", "punch/tcp"],
  ["blocked/independent", "blocked/random", "punch/tcp"],
];

for (const [a, b, path = "punch/udp"] of PAIRS) {
  simTest(
    `${a} opens ${b} by a punch`,
    [1],
    async (sim) => {
      const { alice, bob } = await meet(sim);
      const { connection, ms } = await timed(sim, alice, bob);
      console.log(`${a} -> ${b}: ${connection.path} ${Math.round(ms)} ms`);
      if (process.env["SHOW"] === "1") console.log(connection.timeline);
      expect(connection.path).toBe(path);
      await Promise.all([alice.close(), bob.close()]);
    },
    { topology: twoHosts(nat(a), nat(b)) },
  );
}

function nat(name: string, change: NatSettingsChange = {}): RouterKind {
  const kind = parseRouterKind(name);
  if (kind.kind !== "box") return kind;
  const link = { delayMs: ONE_WAY_MS, jitterMs: 0, loss: 0 };
  return { kind: "box", settings: changeSettings(kind.settings, { link, ...change }) };
}

/** Both nodes, started, with their NATs measured; IPv6 is away, where nothing hides the punch. */
async function meet(sim: Simulation): Promise<{ alice: SimNode; bob: SimNode }> {
  const server = sim.addServer("stun", { addresses: 2 });
  const addresses = server.world
    .nics()
    .flatMap((nic) => nic.addresses)
    .filter(({ ip, family }) => family === 4 && !ip.startsWith("127."))
    .map(({ ip }) => ip);
  await startStunServer(server.world, { addresses });
  const broker = sim.addServer("broker");
  const { url } = await startMqttBroker(broker.world, broker.ip(4));
  const config = {
    stunServers: addresses.map((host) => ({ host, port: 3478 })),
    mqttBrokers: [url],
    strategies: ["direct", "reverse", "punch"] as const,
  };
  for (const name of ["alice", "bob"]) {
    const host = sim.host(name);
    const all = host.world.nics().find((nic) => nic.name === "eth0")?.addresses ?? [];
    host.changeNic("eth0", { addresses: all.filter(({ family }) => family === 4) });
  }
  const [alice, bob] = [
    await startSimNode(sim.host("alice"), config),
    await startSimNode(sim.host("bob"), config),
  ];
  await Promise.all([alice.node.nat(), bob.node.nat()]);
  await sim.sleep(3000);
  return { alice, bob };
}

/** Opens, and says a word; milliseconds to its echo. */
async function timed(
  sim: Simulation,
  alice: SimNode,
  bob: SimNode,
): Promise<{ connection: Connection; ms: number }> {
  const began = sim.scheduler.nowMs;
  try {
    const connection = await alice.node.open("bob", elsewhere(bob.node.address()));
    await connection.pipe.send("ECHO x");
    await connection.pipe.recv("all", 5000);
    return { connection, ms: sim.scheduler.nowMs - began };
  } catch (thrown) {
    if (thrown instanceof P2pdError) console.error(thrown.detail["timeline"]);
    throw thrown;
  }
}

/** The same address, of another machine: all nodes of a simulation run on one. */
function elsewhere(line: string): string {
  return encodeAddress({ ...decodeAddress(line), machine: "AAAAAAAAAAA" });
}
