/** Two whole nodes behind two NATs, with a TURN server that one of them or both may use. */
import type { NodeConfig, TurnServer } from "../../core/node/node-config.ts";
import type { LinkTransport } from "../../core/turn/turn-link.ts";
import { startPuncher, startServers } from "./punch-site.ts";
import type { SimNode } from "./sim-node.ts";
import type { Simulation } from "./simulation.ts";
import { type SimTurnOptions, type SimTurnServer, startTurnServer } from "./turn-server.ts";

export interface MeetWithTurnOptions {
  /** How each reaches the server; undefined: it is configured with none. */
  readonly alice?: LinkTransport | undefined;
  readonly bob?: LinkTransport | undefined;
  readonly password?: string;
  readonly turn?: SimTurnOptions;
  /** Of both. */
  readonly config?: Partial<NodeConfig>;
  readonly bobConfig?: Partial<NodeConfig>;
  /** Bob's server is another one than alice's. */
  readonly isApart?: boolean;
  /** Servers that alice is configured with besides. */
  readonly more?: readonly TurnServer[];
  /** Of a second pair on the same network. */
  readonly name?: string;
}

/** Both nodes, started, with their NATs measured. */
export async function meetWithTurn(
  sim: Simulation,
  options: MeetWithTurnOptions = {},
): Promise<{ alice: SimNode; bob: SimNode; server: SimTurnServer; servers: readonly SimTurnServer[] }> {
  const { isApart = false, config, bobConfig, turn, password, more = [], name: suffix = "" } = options;
  const common = { ...(await startServers(sim, suffix)), ...config };
  const server = await startTurnServer(sim, `turn${suffix}`, { delayMs: 0, ...turn });
  const other = isApart ? await startTurnServer(sim, `other${suffix}`, { delayMs: 0 }) : server;
  const links = { alice: "alice" in options ? options.alice : "udp", bob: options.bob };
  const start = (name: "alice" | "bob"): Promise<SimNode> => {
    const link = links[name];
    const own = link === undefined ? [] : [(name === "bob" ? other : server).at(link, password)];
    const turnServers = name === "alice" ? [...own, ...more] : own;
    return startPuncher(sim, name, { ...common, ...(name === "bob" ? bobConfig : {}), turnServers });
  };
  const [alice, bob] = [await start("alice"), await start("bob")];
  await Promise.all([alice.node.nat(), bob.node.nat()]);
  await sim.sleep(3000);
  return { alice, bob, server, servers: [...new Set([server, other])] };
}
