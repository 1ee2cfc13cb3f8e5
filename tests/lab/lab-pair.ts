/** Two daemons on two hosts of a laboratory with the servers that they need, ready to meet. */
import { INTERNET, type Topology } from "../nat/topologies.ts";
import { type LabNode, startLabNode } from "./lab-node.ts";
import { Lab } from "./laboratory.ts";
import { enterNamespace, tryCommand } from "./shell.ts";

const ONE_WAY_MS = 25;

/** For `MeetOptions.before`: IPv4 alone. */
export async function withoutIp6(lab: Lab): Promise<void> {
  for (const host of lab.hosts)
    await host.run(["ip", "-6", "addr", "flush", "dev", "eth0", "scope", "global"]);
}

export interface Pair extends AsyncDisposable {
  readonly lab: Lab;
  readonly alice: LabNode;
  readonly bob: LabNode;
  readonly servers: readonly { kill(): Promise<void>; freeze(): void; thaw(): void }[];
}

export interface MeetOptions {
  /** To be done to the laboratory before the nodes start. */
  readonly before?: (lab: Lab) => Promise<void>;
  readonly brokers?: number;
  readonly family?: 4 | 6;
  /** `direct,reverse`; every one unless given. */
  readonly strategies?: string;
}

/** Two nodes, on the hosts `alice` and `bob`, with their brokers and STUN server, 25 ms one way at each router. */
export async function meet(topology: Topology, options: MeetOptions = {}): Promise<Pair> {
  const lab = await Lab.create(topology);
  try {
    const numbers = Array.from({ length: options.brokers ?? 1 }, (_, i) => i);
    const servers = await Promise.all(numbers.map((number) => lab.servers.mosquitto(number)));
    const coturn = await lab.servers.coturn();
    await options.before?.(lab);
    await settledIp6(lab);
    for (const router of lab.routers) await router.change({ link: { delayMs: ONE_WAY_MS } });
    const strategies = options.strategies === undefined ? {} : { strategies: options.strategies };
    const six = options.family === 6;
    const brokers = servers.map(({ endpoint }, number) =>
      six ? `mqtt://[${INTERNET.serverIp6(5 + number)}]:1883` : `mqtt://${endpoint.ip}:1883`,
    );
    const stun = six ? `stun:[${INTERNET.serverIp6(0)}]:3478` : `stun:${coturn.endpoint.ip}:3478`;
    const [alice, bob] = (await Promise.all(
      ["alice", "bob"].map((host) => startLabNode(lab, host, { brokers, stun, ...strategies })),
    )) as [LabNode, LabNode];
    for (const node of [alice, bob]) {
      await node.until("stun", "up");
      await node.until("brokers", "up");
    }
    return { lab, alice, bob, servers, [Symbol.asyncDispose]: () => lab.close() };
  } catch (error) {
    await lab.close();
    throw error;
  }
}

/** New IPv6 addresses serve nobody until they are known to be nobody else's (RFC 4862). */
export async function settledIp6(lab: Lab): Promise<void> {
  const namespaces = [lab.internet, ...[...lab.hosts, ...lab.routers].map(({ namespace }) => namespace)];
  for (const namespace of namespaces) {
    const words = [...enterNamespace(namespace), "ip", "-6", "addr", "show", "tentative"];
    while ((await tryCommand(words)).stdout.trim() !== "") await Bun.sleep(50);
  }
}
