/**
 * The matrix on real kernels: one laboratory with two routers of each configuration and a whole daemon behind each,
 * where every daemon of the first set opens every one of the second. `lab.ts` prints it, `matrix.test.ts` runs a part.
 */
import type { MatrixOpen } from "../nat/matrix-verdict.ts";
import { bestOf } from "../nat/punch-theory.ts";
import { parseRouterKind } from "../nat/topologies.ts";
import { type LabNode, startLabNode } from "./lab-node.ts";
import { Lab } from "./laboratory.ts";
import { type LabServersBy, openAndEcho, startRelayServers } from "./relay-pair.ts";

export interface MatrixOptions {
  readonly configurations: readonly string[];
  readonly runs: number;
  /** Whose TURN server relays; without, there is none. */
  readonly relay?: LabServersBy | undefined;
  readonly told?: (open: MatrixOpen) => void;
}

const ONE_WAY_MS = 25;
const SEARCH_MS = 12_000;

/** Every ordered pair, one open at a time, without IPv6. */
export async function runMatrix({
  configurations,
  runs,
  relay,
  told,
}: MatrixOptions): Promise<readonly MatrixOpen[]> {
  const sets = ["caller", "called"] as const;
  const places = sets.flatMap((set) => configurations.map((name, i) => ({ name, router: `${set}${i}` })));
  await using lab = await Lab.create({
    routers: places.map(({ name, router }) => ({
      name: router,
      nat: parseRouterKind(name),
      uplink: "internet",
    })),
    hosts: places.map(({ router }) => ({ name: `of-${router}`, nics: [router] })),
  });
  const { brokers, stun, turn } = (await startRelayServers(lab, relay ?? "coturn"))(4);
  for (const host of lab.hosts)
    await host.run(["ip", "-6", "addr", "flush", "dev", "eth0", "scope", "global"]);
  for (const router of lab.routers) await router.change({ link: { delayMs: ONE_WAY_MS } });
  const options = { brokers, stun, env: relay === undefined ? {} : { P2PD_TURN_SERVERS: turn } };
  const nodes: LabNode[] = [];
  // One at a time: a daemon that starts takes a core, and detection measures time.
  for (const { router } of places) {
    const node = await startLabNode(lab, `of-${router}`, options);
    await node.until("brokers", "up");
    await node.get("/p2p/nat");
    nodes.push(node);
  }
  const done: MatrixOpen[] = [];
  for (const [i, caller] of configurations.entries()) {
    for (const [j, called] of configurations.entries()) {
      const [alice, bob] = [nodes[i], nodes[configurations.length + j]] as [LabNode, LabNode];
      for (let run = 1; run <= runs; run++) {
        const cell = { caller, called, ...(await openOnce(alice, bob, bestOf(caller, called))) };
        done.push(cell);
        told?.(cell);
      }
    }
  }
  return done;
}

async function openOnce(
  alice: LabNode,
  bob: LabNode,
  theory: string,
): Promise<Pick<MatrixOpen, "path" | "ms" | "why" | "movedTo">> {
  const { opened, ms, isEchoed } = await openAndEcho({ alice, bob });
  if (opened["error"] !== 0) return { path: "–", ms, why: String(opened["msg"]) };
  const path = String(opened["path"]);
  const isSearched = path.startsWith("relay/") && theory.endsWith("*");
  const movedTo = isSearched ? await moved(alice) : undefined;
  await alice.get("/p2p/close/con");
  if (!isEchoed) return { path: "–", ms, why: `${path} carried nothing back` };
  return { path, ms, ...(movedTo === undefined ? {} : { movedTo }) };
}

/** The path that a relayed connection moves to while a search goes on behind it. */
async function moved(alice: LabNode): Promise<string | undefined> {
  for (const end = performance.now() + SEARCH_MS; performance.now() < end; ) {
    const path = String((await alice.get("/p2p/con/con"))["path"]);
    if (!path.startsWith("relay/")) return path;
    await Bun.sleep(100);
  }
  return undefined;
}
