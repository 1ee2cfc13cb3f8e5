/** Two daemons behind real NATs punch holes for TCP alone: which pairs meet, how soon, by how many SYNs. */
import { describe, expect, test } from "bun:test";
import type { NatSettingsChange } from "../nat/settings.ts";
import { INTERNET, oneRouter, parseRouterKind, type Topology, twoHosts } from "../nat/topologies.ts";
import { type Answer, type LabNode, median, startLabNode } from "./lab-node.ts";
import { Lab } from "./laboratory.ts";
import { enterNamespace, tryCommand } from "./shell.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const LIMIT_MS = 120_000;
const ONE_WAY_MS = 25;
const LOOPS = Number(process.env["P2PD_PUNCH_LOOPS"] ?? 3);

interface Cell {
  readonly a: string;
  readonly b: string;
  readonly change?: NatSettingsChange;
  readonly family?: 4 | 6;
  /** Both hosts behind router `a`. */
  readonly together?: boolean;
  /** SYNs of the caller at most. */
  readonly syns: number;
}

const both = (unsolicitedSyn: "rst" | "icmp"): NatSettingsChange => ({ unsolicitedSyn });
const CELLS: readonly Cell[] = [
  { a: "port-restricted/equal", b: "port-restricted/equal", syns: 2 },
  { a: "port-restricted/random", b: "port-restricted/independent", syns: 2 },
  { a: "symmetric/equal", b: "symmetric/preserving", syns: 2 },
  { a: "symmetric/dependent", b: "symmetric/equal", syns: 2 },
  { a: "symmetric/independent", b: "symmetric/independent", syns: 48 },
  { a: "symmetric/preserving", b: "symmetric/independent", syns: 48 },
  { a: "restricted/equal", b: "symmetric/random", syns: 4 },
  { a: "blocked/equal", b: "blocked/preserving", syns: 2 },
  { a: "port-restricted/equal", b: "port-restricted/equal", change: both("rst"), syns: 10 },
  { a: "port-restricted/equal", b: "port-restricted/equal", change: both("icmp"), syns: 10 },
  { a: "symmetric/independent", b: "symmetric/preserving", change: both("rst"), syns: 96 },
  { a: "symmetric-firewall", b: "symmetric-firewall", family: 6, syns: 2 },
  { a: "port-restricted/equal", b: "", together: true, change: { hairpinning: true }, syns: 2 },
  { a: "port-restricted/equal", b: "", together: true, change: { hairpinning: false }, syns: 2 },
  { a: "symmetric/random", b: "port-restricted/equal", syns: 2560 },
  { a: "port-restricted/equal", b: "symmetric/random", syns: 2560 },
];

describe.skipIf(!labEnabled)("TCP alone", () => {
  for (const cell of CELLS) {
    test(
      `${nameOf(cell)} is punched`,
      async () => {
        await using pair = await meet(cell);
        const runs: Run[] = [];
        for (let i = 0; i < LOOPS; i++) runs.push(await openOnce(pair));
        const figures = (name: keyof Run): string => runs.map((run) => Math.round(run[name])).join(", ");
        console.log(
          `punch/tcp: ${nameOf(cell)}: from the request to the echo ${Math.round(median(runs.map(({ ms }) => ms)))} ms ` +
            `(${figures("ms")}); from its first SYN to the keys ${figures("punchMs")} ms; SYNs ${figures("syns")}`,
        );
        for (const { syns } of runs) expect(syns).toBeLessThanOrEqual(cell.syns);
      },
      LIMIT_MS,
    );
  }
});

interface Pair extends AsyncDisposable {
  readonly alice: LabNode;
  readonly bob: LabNode;
}

interface Run {
  /** From the request to the first echoed octet. */
  readonly ms: number;
  /** From the caller's first SYN to the peer's key. */
  readonly punchMs: number;
  readonly syns: number;
}

interface TimelineEntry {
  readonly ms: number;
  readonly event: string;
  readonly detail: string;
}

function nameOf({ a, b, change, family, together }: Cell): string {
  const pair = together === true ? `two hosts behind one ${a}` : `${a} with ${b}`;
  const changes = change === undefined ? "" : `, ${JSON.stringify(change)}`;
  return `${pair}${changes}${family === 6 ? ", IPv6" : ""}`;
}

async function openOnce({ alice, bob }: Pair): Promise<Run> {
  const line = await bob.addr();
  const began = performance.now();
  const opened = await alice.get(`/p2p/open/con/${line}?strategies=punch&transport=tcp`);
  if (opened["error"] !== 0 || process.env["P2PD_PUNCH_SHOW"] === "1")
    console.log(JSON.stringify(opened, undefined, 1));
  expect(opened).toMatchObject({ error: 0, path: "punch/tcp" });
  await alice.get("/p2p/send/con/ECHO%20x");
  expect(await alice.get("/p2p/recv/con?timeout=5")).toMatchObject({ data: "x" });
  const ms = performance.now() - began;
  await alice.get("/p2p/close/con");
  return { ms, ...readTimeline(opened) };
}

function readTimeline(opened: Answer): Omit<Run, "ms"> {
  const timeline = opened["timeline"] as readonly TimelineEntry[];
  const find = (event: string): TimelineEntry | undefined => timeline.find((entry) => entry.event === event);
  const began = find("connecting") ?? find("arrived");
  const ended = find("authenticated");
  const syns = /(\d+) SYNs/.exec(find("punched")?.detail ?? "")?.[1];
  return { punchMs: (ended?.ms ?? Number.NaN) - (began?.ms ?? Number.NaN), syns: Number(syns) };
}

/** Two nodes that have measured their NATs, with one family alone. */
async function meet({ a, b, change = {}, family = 4, together = false }: Cell): Promise<Pair> {
  const topology: Topology = together
    ? oneRouter(parseRouterKind(a))
    : twoHosts(parseRouterKind(a), parseRouterKind(b));
  const lab = await Lab.create(topology);
  try {
    const broker = await lab.servers.mosquitto(0);
    const coturn = await lab.servers.coturn();
    const other = family === 4 ? "-6" : "-4";
    for (const host of lab.hosts)
      await host.run(["ip", other, "addr", "flush", "dev", "eth0", "scope", "global"]);
    await settled(lab);
    for (const router of lab.routers) await router.change({ ...change, link: { delayMs: ONE_WAY_MS } });
    const six = family === 6;
    const brokers = [six ? `mqtt://[${INTERNET.serverIp6(5)}]:1883` : `mqtt://${broker.endpoint.ip}:1883`];
    const stun = six
      ? `stun:[${INTERNET.serverIp6(0)}]:3478,stun:[${INTERNET.serverIp6(1)}]:3478`
      : `stun:${coturn.endpoint.ip}:3478,stun:${coturn.alternate.ip}:3478`;
    const [alice, bob] = (await Promise.all(
      ["alice", "bob"].map((host) => startLabNode(lab, host, { brokers, stun })),
    )) as [LabNode, LabNode];
    for (const node of [alice, bob]) {
      await node.until("stun", "up");
      await node.until("brokers", "up");
      await node.get("/p2p/nat");
    }
    return { alice, bob, [Symbol.asyncDispose]: () => lab.close() };
  } catch (error) {
    await lab.close();
    throw error;
  }
}

/** New IPv6 addresses serve nobody until they are known to be nobody else's (RFC 4862). */
async function settled(lab: Lab): Promise<void> {
  const namespaces = [lab.internet, ...[...lab.hosts, ...lab.routers].map(({ namespace }) => namespace)];
  for (const namespace of namespaces) {
    const words = [...enterNamespace(namespace), "ip", "-6", "addr", "show", "tentative"];
    while ((await tryCommand(words)).stdout.trim() !== "") await Bun.sleep(50);
  }
}
