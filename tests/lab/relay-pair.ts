/** Two daemons behind two routers of a laboratory with everything to meet, and a TURN server: coturn, or `p2pd infra`. */
import { INTERNET, parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { startLabInfra } from "./lab-infra.ts";
import { type Answer, type LabNode, startLabNode } from "./lab-node.ts";
import { Lab } from "./laboratory.ts";

/** Who runs STUN, TURN and the broker. */
export type LabServersBy = "coturn" | "infra";

export interface RelayServers {
  readonly brokers: readonly string[];
  readonly stun: string;
  /** As `turnServers` takes it, by UDP. */
  readonly turn: string;
}

/** Starts the servers; infra with whatever more it is told. */
export async function startRelayServers(
  lab: Lab,
  by: LabServersBy,
  infraArguments: readonly string[] = [],
): Promise<RelayServers> {
  if (by === "infra") {
    const infra = await startLabInfra(lab, infraArguments);
    return {
      brokers: [infra.flag("--mqtt-brokers")],
      stun: [16, 17].map((index) => `stun:${INTERNET.serverIp4(index)}:3478`).join(","),
      turn: infra.flag("--turn-servers"),
    };
  }
  const broker = await lab.servers.mosquitto(0);
  const coturn = await lab.servers.coturn();
  return {
    brokers: [`mqtt://${broker.endpoint.ip}:1883`],
    stun: `stun:${coturn.endpoint.ip}:3478,stun:${coturn.alternate.ip}:3478`,
    turn: `turn:lab:lab@${coturn.endpoint.ip}:3478`,
  };
}

export interface RelayPairOptions {
  readonly by?: LabServersBy;
  readonly infraArguments?: readonly string[];
  /** What a node is configured with, from the servers' own line; "" for none. */
  readonly aliceTurn?: (turn: string) => string;
  readonly bobTurn?: (turn: string) => string;
  readonly strategies?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Shell commands on each host before its daemon starts. */
  readonly before?: readonly string[];
}

export interface RelayPair extends AsyncDisposable {
  readonly lab: Lab;
  readonly alice: LabNode;
  readonly bob: LabNode;
}

const ONE_WAY_MS = 25;

/** Without IPv6; 100 ms between the hosts, 50 ms to the servers. */
export async function relayPair(a: string, b: string, options: RelayPairOptions = {}): Promise<RelayPair> {
  const { by = "coturn", infraArguments, strategies, env, before = [] } = options;
  const lab = await Lab.create(twoHosts(parseRouterKind(a), parseRouterKind(b)));
  try {
    const servers = await startRelayServers(lab, by, infraArguments);
    for (const host of lab.hosts) {
      await host.run(["ip", "-6", "addr", "flush", "dev", "eth0", "scope", "global"]);
      for (const command of before) {
        const { code, stderr } = await host.run(["sh", "-c", command]);
        if (code !== 0) throw new Error(`${command}: ${stderr}`);
      }
    }
    for (const router of lab.routers) await router.change({ link: { delayMs: ONE_WAY_MS } });
    const { brokers, stun, turn } = servers;
    const start = (host: string, turnServers: string): Promise<LabNode> =>
      startLabNode(lab, host, {
        brokers,
        stun,
        ...(strategies === undefined ? {} : { strategies }),
        env: { ...env, P2PD_TURN_SERVERS: turnServers },
      });
    const alice = await start("alice", options.aliceTurn?.(turn) ?? turn);
    const bob = await start("bob", options.bobTurn?.(turn) ?? "");
    for (const node of [alice, bob]) {
      await node.until("brokers", "up");
      await node.get("/p2p/nat");
    }
    return { lab, alice, bob, [Symbol.asyncDispose]: () => lab.close() };
  } catch (error) {
    await lab.close();
    throw error;
  }
}

/** Opens, says a word and hears it back; the answer to the open, and the milliseconds to the echo. */
export async function openAndEcho(
  { alice, bob }: Pick<RelayPair, "alice" | "bob">,
  query = "",
): Promise<{ readonly opened: Answer; readonly ms: number; readonly isEchoed: boolean }> {
  const line = await bob.addr();
  const began = performance.now();
  const opened = await alice.get(`/p2p/open/con/${line}${query}`);
  if (opened["error"] !== 0) return { opened, ms: performance.now() - began, isEchoed: false };
  await alice.get("/p2p/send/con/ECHO%20x");
  const echoed = await alice.get("/p2p/recv/con?timeout=5");
  const ms = performance.now() - began;
  const isEchoed = echoed["data"] === "x";
  return { opened, ms, isEchoed };
}
