/**
 * The matrix on real kernels: one laboratory with two routers of each configuration and a whole daemon behind each,
 * where every daemon of the first set opens every one of the second. `lab.ts` prints it, `matrix.test.ts` runs a part.
 */
import type { MatrixOpen } from "../nat/matrix-verdict.ts";
import { parseRouterKind } from "../nat/topologies.ts";
import { type LabNode, startLabNode } from "./lab-node.ts";
import { Lab } from "./laboratory.ts";

export interface MatrixOptions {
  readonly configurations: readonly string[];
  readonly runs: number;
  readonly told?: (open: MatrixOpen) => void;
}

const ONE_WAY_MS = 25;

/** Every ordered pair, one open at a time, without IPv6 and without relays. */
export async function runMatrix({
  configurations,
  runs,
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
  const broker = await lab.servers.mosquitto(0);
  const coturn = await lab.servers.coturn();
  for (const host of lab.hosts)
    await host.run(["ip", "-6", "addr", "flush", "dev", "eth0", "scope", "global"]);
  for (const router of lab.routers) await router.change({ link: { delayMs: ONE_WAY_MS } });
  const options = {
    brokers: [`mqtt://${broker.endpoint.ip}:1883`],
    stun: `stun:${coturn.endpoint.ip}:3478,stun:${coturn.alternate.ip}:3478`,
  };
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
        const cell = { caller, called, ...(await openOnce(alice, bob)) };
        done.push(cell);
        told?.(cell);
      }
    }
  }
  return done;
}

async function openOnce(alice: LabNode, bob: LabNode): Promise<Pick<MatrixOpen, "path" | "ms" | "why">> {
  const line = await bob.addr();
  const began = performance.now();
  const opened = await alice.get(`/p2p/open/con/${line}`);
  if (opened["error"] !== 0) return { path: "–", ms: performance.now() - began, why: String(opened["msg"]) };
  await alice.get("/p2p/send/con/ECHO%20x");
  const echoed = await alice.get("/p2p/recv/con?timeout=5");
  const ms = performance.now() - began;
  await alice.get("/p2p/close/con");
  const path = String(opened["path"]);
  return echoed["data"] === "x" ? { path, ms } : { path: "–", ms, why: `${path} carried nothing back` };
}
