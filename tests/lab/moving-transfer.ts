/**
 * Many octets through one pipe whose path is lost or replaced on the way: by a direct one in place of a relay, after a
 * router's reboot, at another public address, over another NIC. `lab.ts` prints it, `moving-transfer.test.ts` carries
 * less. The receiver tells when nothing came, so that an interruption is seen where it hurts.
 */
import { parseRouterKind, type Topology } from "../nat/topologies.ts";
import { type LabInfra, startLabInfra } from "./lab-infra.ts";
import { type LabNode, startLabNode } from "./lab-node.ts";
import { withoutIp6 } from "./lab-pair.ts";
import { Lab } from "./laboratory.ts";
import { linesOf } from "./natbox-control.ts";
import { command } from "./shell.ts";

const CHANGES = ["router reboots", "public address changes", "other NIC"] as const;

/** What happens to a path over which protocol. Over TCP a relay is hardly sooner there than a punch. */
export const MOVES = [
  { what: "relay to direct", over: "udp" },
  ...CHANGES.flatMap((what) => [{ what, over: "udp" } as const, { what, over: "tcp" } as const]),
] as const;
export type Move = (typeof MOVES)[number];

export const nameOf = ({ what, over }: Move): string => `${what} over ${over}`;

/** Octets to carry, in a file, with the sum that they must have. */
export interface Load {
  readonly file: string;
  readonly octets: number;
  readonly sha256: string;
}

export interface MovingTransfer {
  readonly move: Move;
  /** Whose network changes. */
  readonly mover: Mover;
  readonly isEqual: boolean;
  /** Of all of it. */
  readonly seconds: number;
  /** From when the network was there again to the next octet at the receiver; where nothing was away, the longest silence. */
  readonly interruptedMs: number;
  /** The strategy that the connection began with, and its path before and after the change. */
  readonly paths: readonly [began: string, before: string, after: string];
  readonly failure?: string;
}

type Mover = "alice" | "bob";

const ONE_WAY_MS = 25;
const PORT = 9099;
/** How long a router that reboots is away. */
const AWAY_MS = 3000;
/** Share of the octets that has come when the network changes. */
const CHANGE_AT = 0.25;
/** And when the path is looked at again: before the connection has ended. */
const LOOK_AT = 0.8;

/** Makes a file of random octets. */
export async function makeLoad(file: string, octets: number): Promise<Load> {
  const hash = new Bun.CryptoHasher("sha256");
  const writer = Bun.file(file).writer();
  for (let left = octets; left > 0; ) {
    const some = crypto.getRandomValues(new Uint8Array(Math.min(left, 65_536)));
    hash.update(some);
    await writer.write(some);
    if ((left -= some.length) % (4 * 1024 * 1024) === 0) await writer.flush();
  }
  await writer.end();
  return { file, octets, sha256: hash.digest("hex") };
}

/** Alice sends the load to Bob while the network of one of them changes. */
export async function transferMoving(move: Move, mover: Mover, load: Load): Promise<MovingTransfer> {
  await using lab = await Lab.create(topologyOf(move, mover));
  await withoutIp6(lab);
  for (const router of lab.routers) await router.change({ link: { delayMs: ONE_WAY_MS } });
  const infra = await startLabInfra(lab);
  const [alice, bob] = await startNodes(lab, infra, move);
  const receiver = await startReceiver(lab, bob);
  await Promise.all([alice.get("/p2p/nat"), bob.get("/p2p/nat")]);
  const line = await bob.addr();
  const began = performance.now();
  const sending = alice.program(`p2pd nc ${line} --service hash < ${load.file}`);
  let failure: string | undefined;
  sending.catch((error: unknown) => {
    failure = String(error);
    receiver.stop();
  });
  await receiver.reached(CHANGE_AT * load.octets);
  const [beganWith, before] = await pathsOf(alice);
  const restoredAt = failure === undefined ? await change(lab, move, mover) : Date.now();
  await receiver.reached(LOOK_AT * load.octets);
  const [, after] = await pathsOf(alice);
  const sum = await sending.catch(() => "");
  return {
    move,
    mover,
    isEqual: sum.trim() === load.sha256,
    seconds: (performance.now() - began) / 1000,
    interruptedMs: interruption(receiver.silences, restoredAt),
    paths: [beganWith, before, after],
    ...(failure === undefined ? {} : { failure }),
  };
}

/** As one line for people. */
export function describeMove({
  move,
  mover,
  isEqual,
  seconds,
  interruptedMs,
  paths,
  failure = "",
}: MovingTransfer): string {
  const way = paths.join(" -> ");
  return `${nameOf(move).padEnd(31)} ${mover.padEnd(5)} ${way.padEnd(36)} ${seconds.toFixed(1).padStart(5)} s, interrupted ${String(interruptedMs).padStart(5)} ms, SHA-256 ${isEqual ? "equal" : "DIFFERENT"} ${failure.slice(0, 300)}`.trimEnd();
}

function topologyOf({ what, over }: Move, mover: Mover): Topology {
  const filtered = over === "tcp" ? "blocked/equal" : "port-restricted/random";
  // A search takes longer than a relay, and so comes behind it.
  const names =
    what === "relay to direct" ? ["symmetric/random", "port-restricted/equal"] : [filtered, filtered];
  const [a, b] = (mover === "alice" ? names : names.toReversed()).map(parseRouterKind);
  if (a === undefined || b === undefined) throw new Error("two routers have no names");
  const second = parseRouterKind(filtered);
  const uplink = "internet";
  const nicsOf = (who: Mover): readonly string[] => {
    const first = who === "alice" ? "a" : "b";
    return what === "other NIC" && who === mover ? [first, "other"] : [first];
  };
  return {
    routers: [
      { name: "a", nat: a, uplink },
      { name: "b", nat: b, uplink },
      ...(what === "other NIC" ? [{ name: "other", nat: second, uplink }] : []),
    ],
    hosts: [
      { name: "alice", nics: nicsOf("alice") },
      { name: "bob", nics: nicsOf("bob") },
    ],
  };
}

async function startNodes(lab: Lab, infra: LabInfra, move: Move): Promise<readonly [LabNode, LabNode]> {
  const env = {
    P2PD_TURN_SERVERS: infra.flag("--turn-servers"),
    P2PD_RELAY: move.what === "relay to direct" ? "first" : "last",
  };
  const options = { brokers: [infra.flag("--mqtt-brokers")], stun: infra.flag("--stun-servers"), env };
  const nodes = await Promise.all(["alice", "bob"].map((host) => startLabNode(lab, host, options)));
  for (const node of nodes) {
    await node.until("stun", "up");
    await node.until("brokers", "up");
  }
  return nodes as [LabNode, LabNode];
}

interface Receiver {
  /** Resolves when so many octets have come, or nothing more will. */
  reached(octets: number): Promise<void>;
  /** From when to when nothing came, by the wall clock in milliseconds. */
  readonly silences: readonly (readonly [number, number])[];
  stop(): void;
}

/** The service `hash` of a node. */
async function startReceiver(lab: Lab, node: LabNode): Promise<Receiver> {
  const program = new URL("./servers/hash-server.ts", import.meta.url).pathname;
  const process_ = lab.host("bob").spawn([process.execPath, program, String(PORT)]);
  const silences: [number, number][] = [];
  const waiting = new Set<{ readonly octets: number; readonly resolve: () => void }>();
  let octets = 0;
  const advance = (to: number): void => {
    octets = to;
    for (const wait of waiting) if (wait.octets <= octets) wait.resolve();
  };
  const listening = Promise.withResolvers<void>();
  const read = async (): Promise<void> => {
    for await (const text of linesOf(process_.stdout)) {
      const [word, ...numbers] = text.split(" ");
      if (word === "listening") listening.resolve();
      else if (word === "silence") silences.push(numbers.map(Number) as [number, number]);
      else advance(Number(numbers[0]));
    }
  };
  void read();
  await listening.promise;
  await node.put("/p2p/services/hash", { to: `127.0.0.1:${PORT}` });
  return {
    silences,
    stop: () => advance(Number.POSITIVE_INFINITY),
    reached: (wanted) =>
      new Promise((resolve) => {
        if (octets >= wanted) resolve();
        else waiting.add({ octets: wanted, resolve });
      }),
  };
}

/** Changes the network of the mover; when it was there again, by the wall clock. */
async function change(lab: Lab, { what }: Move, mover: Mover): Promise<number> {
  const router = lab.router(mover === "alice" ? "a" : "b");
  if (what === "router reboots") {
    await router.change({ link: { delayMs: ONE_WAY_MS, loss: 1 } });
    await Bun.sleep(AWAY_MS);
    await router.change({ link: { delayMs: ONE_WAY_MS, loss: 0 } });
  } else if (what === "public address changes") {
    await router.setAddress(router.nextPublicIp4);
  } else if (what === "other NIC") {
    await command(["ip", "-n", lab.host(mover).namespace, "link", "set", "eth0", "down"]);
  }
  return Date.now();
}

function interruption(silences: readonly (readonly [number, number])[], restoredAt: number): number {
  const lengths = silences.map(([from, to]) => (to < restoredAt ? 0 : to - Math.max(from, restoredAt)));
  return Math.max(0, ...lengths);
}

/** Of the connection that the node has: the strategy that it began with and its path now, `none` where there is none. */
async function pathsOf(node: LabNode): Promise<readonly [string, string]> {
  const { cons } = (await node.get("/p2p/cons")) as { cons?: readonly Listed[] };
  const [{ path = "none", timeline = [] } = {}] = cons ?? [];
  return [timeline.find(({ event }) => event === "greeted")?.strategy ?? "none", path];
}

interface Listed {
  readonly path?: string;
  readonly timeline?: readonly { readonly event: string; readonly strategy: string }[];
}
