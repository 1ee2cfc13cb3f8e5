/** Two daemons behind two real NATs punch holes: the important pairs, with the time to the first echoed octet. */
import { describe, expect, test } from "bun:test";
import { parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { type LabNode, median, startLabNode } from "./lab-node.ts";
import { Lab } from "./laboratory.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const LIMIT_MS = 120_000;
const ONE_WAY_MS = 25;
const LOOPS = Number(process.env["P2PD_PUNCH_LOOPS"] ?? 3);

/** Pairs, and the path they should get. */
const PAIRS: readonly (readonly [caller: string, called: string, path: string])[] = [
  ["port-restricted/equal", "port-restricted/equal", "punch/udp"],
  ["port-restricted/random", "port-restricted/independent", "punch/udp"],
  ["symmetric/equal", "port-restricted/equal", "punch/udp"],
  ["symmetric/independent", "port-restricted/equal", "punch/udp"],
  ["port-restricted/random", "symmetric/independent", "punch/udp"],
  ["symmetric/independent", "symmetric/independent", "punch/udp"],
  ["symmetric/dependent", "symmetric/preserving", "punch/udp"],
  ["symmetric/random", "port-restricted/equal", "punch/udp"],
  ["port-restricted/equal", "symmetric/random", "punch/udp"],
  ["blocked/equal", "port-restricted/equal", "punch/tcp"],
];

describe.skipIf(!labEnabled)("punching", () => {
  for (const [a, b, path] of PAIRS) {
    test(
      `${a} opens ${b} by ${path}`,
      async () => {
        await using pair = await meet(a, b);
        const times: number[] = [];
        for (let i = 0; i < LOOPS; i++) times.push(await openOnce(pair, path));
        console.log(
          `punch: ${a} -> ${b}: median ${Math.round(median(times))} ms of ${times.map((ms) => Math.round(ms)).join(", ")}`,
        );
      },
      LIMIT_MS,
    );
  }
});

interface Pair extends AsyncDisposable {
  readonly alice: LabNode;
  readonly bob: LabNode;
}

async function openOnce({ alice, bob }: Pair, path: string): Promise<number> {
  const line = await bob.addr();
  const began = performance.now();
  const opened = await alice.get(`/p2p/open/con/${line}`);
  if (opened["path"] !== path) console.log(JSON.stringify(opened, undefined, 1));
  expect(opened).toMatchObject({ error: 0, path });
  await alice.get("/p2p/send/con/ECHO%20x");
  const echoed = await alice.get("/p2p/recv/con?timeout=5");
  const ms = performance.now() - began;
  expect(echoed).toMatchObject({ data: "x" });
  if (process.env["P2PD_PUNCH_SHOW"] === "1") console.log(JSON.stringify(opened["timeline"], undefined, 1));
  await alice.get("/p2p/close/con");
  return ms;
}

/** Two nodes that have measured their NATs, without IPv6. */
async function meet(a: string, b: string): Promise<Pair> {
  const lab = await Lab.create(twoHosts(parseRouterKind(a), parseRouterKind(b)));
  try {
    const broker = await lab.servers.mosquitto(0);
    const coturn = await lab.servers.coturn();
    for (const host of lab.hosts)
      await host.run(["ip", "-6", "addr", "flush", "dev", "eth0", "scope", "global"]);
    for (const router of lab.routers) await router.change({ link: { delayMs: ONE_WAY_MS } });
    const brokers = [`mqtt://${broker.endpoint.ip}:1883`];
    const stun = `stun:${coturn.endpoint.ip}:3478,stun:${coturn.alternate.ip}:3478`;
    const [alice, bob] = (await Promise.all(
      ["alice", "bob"].map((host) => startLabNode(lab, host, { brokers, stun })),
    )) as [LabNode, LabNode];
    for (const node of [alice, bob]) {
      await node.until("brokers", "up");
      await node.get("/p2p/nat");
    }
    return { alice, bob, [Symbol.asyncDispose]: () => lab.close() };
  } catch (error) {
    await lab.close();
    throw error;
  }
}
