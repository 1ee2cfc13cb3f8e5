/** Two whole nodes behind two NATs with all they need to meet, and how long an open takes. */
import { P2pdError } from "../../core/errors.ts";
import type { NodeConfig } from "../../core/node/node-config.ts";
import type { Connection, OpenOptions, Strategy } from "../../core/node/node-api.ts";
import { decodeAddress, encodeAddress } from "../../core/wire/address.ts";
import { changeSettings, type NatSettingsChange } from "../nat/settings.ts";
import { parseRouterKind, type RouterKind } from "../nat/topologies.ts";
import { startMqttBroker } from "./mqtt-broker.ts";
import { type SimNode, startSimNode } from "./sim-node.ts";
import type { Simulation } from "./simulation.ts";
import { startStunServer } from "./stun-server.ts";

const ONE_WAY_MS = 25;

export interface MeetOptions {
  readonly ip6?: boolean;
  readonly strategies?: readonly Strategy[];
}

/** A router with 25 ms each way. */
export function nat(name: string, change: NatSettingsChange = {}): RouterKind {
  const kind = parseRouterKind(name);
  if (kind.kind !== "box") return kind;
  const link = { delayMs: ONE_WAY_MS, jitterMs: 0, loss: 0 };
  return { kind: "box", settings: changeSettings(kind.settings, { link, ...change }) };
}

/** Both nodes, started, with their NATs measured; without IPv6 unless that is asked for. */
export async function meet(
  sim: Simulation,
  { ip6 = false, strategies = ["direct", "reverse", "punch"] }: MeetOptions = {},
): Promise<{ alice: SimNode; bob: SimNode }> {
  const config = await startServers(sim);
  const [alice, bob] = [
    await startPuncher(sim, "alice", { ...config, strategies }, ip6),
    await startPuncher(sim, "bob", { ...config, strategies }, ip6),
  ];
  await Promise.all([alice.node.nat(), bob.node.nat()]);
  await sim.sleep(3000);
  return { alice, bob };
}

/** A node on the host of that name. */
export async function startPuncher(
  sim: Simulation,
  name: string,
  config: Partial<NodeConfig>,
  ip6 = false,
): Promise<SimNode> {
  const host = sim.host(name);
  for (const { name: nic, addresses, kind } of ip6 ? [] : host.world.nics()) {
    if (kind === "loopback") continue;
    host.changeNic(nic, { addresses: addresses.filter(({ family }) => family === 4) });
  }
  return startSimNode(host, config);
}

/** A broker, and two STUN addresses. */
export async function startServers(sim: Simulation, suffix = ""): Promise<Partial<NodeConfig>> {
  const server = sim.addServer(`stun${suffix}`, { addresses: 2 });
  const addresses = server.world
    .nics()
    .flatMap((nic) => nic.addresses)
    .filter(({ ip, family }) => family === 4 && !ip.startsWith("127."))
    .map(({ ip }) => ip);
  await startStunServer(server.world, { addresses });
  const broker = sim.addServer(`broker${suffix}`);
  const { url } = await startMqttBroker(broker.world, broker.ip(4));
  return { stunServers: addresses.map((host) => ({ host, port: 3478 })), mqttBrokers: [url] };
}

/** Opens, and says a word; milliseconds to its echo. Shows the timeline of what failed. */
export async function timed(
  sim: Simulation,
  alice: SimNode,
  bob: SimNode,
  options: OpenOptions = {},
): Promise<{ connection: Connection; ms: number }> {
  try {
    return await openAndEcho(sim, alice, bob, options);
  } catch (thrown) {
    if (thrown instanceof P2pdError) console.error(thrown.detail["timeline"]);
    throw thrown;
  }
}

/** As `timed`, for opens that may fail. */
export async function openAndEcho(
  sim: Simulation,
  alice: SimNode,
  bob: SimNode,
  options: OpenOptions = {},
): Promise<{ connection: Connection; ms: number }> {
  const began = sim.scheduler.nowMs;
  const connection = await alice.node.open("bob", elsewhere(bob.node.address()), options);
  await connection.pipe.send("ECHO x");
  await connection.pipe.recv("all", 5000);
  return { connection, ms: sim.scheduler.nowMs - began };
}

/** The same address, of another machine: all nodes of a simulation run on one. */
export function elsewhere(line: string): string {
  return encodeAddress({ ...decodeAddress(line), machine: "AAAAAAAAAAA" });
}
