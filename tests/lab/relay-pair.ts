/** Two daemons behind two routers of a laboratory with everything to meet, and a TURN server: coturn, or `p2pd infra`. */
import type { Family } from "../../core/ip.ts";
import { INTERNET, parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { startLabInfra } from "./lab-infra.ts";
import { type Answer, type LabNode, startLabNode } from "./lab-node.ts";
import { settledIp6 } from "./lab-pair.ts";
import { Lab } from "./laboratory.ts";

/** Who runs STUN, TURN and the broker. */
export type LabServersBy = "coturn" | "infra";

/** As the settings of a node name them. */
export interface RelayServers {
  readonly brokers: readonly string[];
  readonly stun: string;
  /** By UDP. */
  readonly turn: string;
}

/** Starts the servers; infra with whatever more it is told. Tells where they are for hosts of a family. */
export async function startRelayServers(
  lab: Lab,
  by: LabServersBy,
  infraArguments: readonly string[] = [],
): Promise<(family: Family) => RelayServers> {
  if (by === "infra") {
    const infra = await startLabInfra(lab, infraArguments);
    // It has one address of IPv6.
    const numbers = { 4: [16, 17], 6: [16] };
    const [broker, turn] = [infra.flag("--mqtt-brokers"), infra.flag("--turn-servers")];
    return (family) => ({
      brokers: [broker.replace(INTERNET.serverIp4(16), hostOf(16, family))],
      stun: stunAt(numbers[family], family),
      turn: turn.replace(INTERNET.serverIp4(16), hostOf(16, family)),
    });
  }
  await lab.servers.mosquitto(0);
  await lab.servers.coturn();
  return (family) => ({
    brokers: [`mqtt://${hostOf(5, family)}:1883`],
    stun: stunAt([0, 1], family),
    turn: `turn:lab:lab@${hostOf(0, family)}:3478`,
  });
}

export interface RelayPairOptions {
  readonly by?: LabServersBy;
  /** The one that each host has; IPv4 by default. */
  readonly aliceFamily?: Family;
  readonly bobFamily?: Family;
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

/** 100 ms between the hosts, 50 ms to the servers. */
export async function relayPair(a: string, b: string, options: RelayPairOptions = {}): Promise<RelayPair> {
  const { by = "coturn", infraArguments, strategies, env, before = [] } = options;
  const families = { alice: options.aliceFamily ?? 4, bob: options.bobFamily ?? 4 };
  const lab = await Lab.create(twoHosts(parseRouterKind(a), parseRouterKind(b)));
  try {
    const servers = await startRelayServers(lab, by, infraArguments);
    for (const name of ["alice", "bob"] as const) {
      const host = lab.host(name);
      const other = families[name] === 6 ? "-4" : "-6";
      await host.run(["ip", other, "addr", "flush", "dev", "eth0", "scope", "global"]);
      for (const command of before) {
        const { code, stderr } = await host.run(["sh", "-c", command]);
        if (code !== 0) throw new Error(`${command}: ${stderr}`);
      }
    }
    await settledIp6(lab);
    for (const router of lab.routers) await router.change({ link: { delayMs: ONE_WAY_MS } });
    // Whoever writes to a node goes to that one's brokers: one of each family that is there.
    const brokers = [...new Set([families.alice, families.bob])].flatMap((one) => servers(one).brokers);
    const start = (host: "alice" | "bob", turnFrom: (turn: string) => string): Promise<LabNode> => {
      const { stun, turn } = servers(families[host]);
      return startLabNode(lab, host, {
        brokers,
        stun,
        ...(strategies === undefined ? {} : { strategies }),
        env: { ...env, P2PD_TURN_SERVERS: turnFrom(turn) },
      });
    };
    const alice = await start("alice", options.aliceTurn ?? ((turn) => turn));
    const bob = await start("bob", options.bobTurn ?? (() => ""));
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

function stunAt(numbers: readonly number[], family: Family): string {
  return numbers.map((number) => `stun:${hostOf(number, family)}:3478`).join(",");
}

/** Of server `number`, as URLs have it. */
function hostOf(number: number, family: Family): string {
  return family === 6 ? `[${INTERNET.serverIp6(number)}]` : INTERNET.serverIp4(number);
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
