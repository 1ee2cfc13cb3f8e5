/** Daemons behind real NATs in other networks: carriers, noise, refusals, two NICs, one router, IPv6, many at once. */
import { describe, expect, test } from "bun:test";
import { changeSettings, type NatSettingsChange } from "../nat/settings.ts";
import { parseRouterKind, oneRouter, type RouterKind, type Topology, twoHosts } from "../nat/topologies.ts";
import { type LabNode, median, startLabNode } from "./lab-node.ts";
import { meet, withoutIp6 } from "./lab-pair.ts";
import { Lab } from "./laboratory.ts";
import { openAndEcho } from "./relay-pair.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const LIMIT_MS = 120_000;
const ONE_WAY_MS = 25;
const NOISY_RUNS = Number(process.env["P2PD_NOISY_RUNS"] ?? 1);

function nat(name: string, change: NatSettingsChange = {}): RouterKind {
  const kind = parseRouterKind(name);
  return kind.kind === "box" ? { kind: "box", settings: changeSettings(kind.settings, change) } : kind;
}

/** Both ends have what they need, and the open must be direct by `path`. */
async function punched(alice: LabNode, bob: LabNode, path: RegExp): Promise<Record<string, unknown>> {
  await Promise.all([alice.get("/p2p/nat"), bob.get("/p2p/nat")]);
  const opened = await alice.get(`/p2p/open/con/${await bob.addr()}`);
  if (!path.test(String(opened["path"]))) console.log(JSON.stringify(opened, undefined, 1));
  expect(String(opened["path"])).toMatch(path);
  await alice.get("/p2p/send/con/ECHO%20x");
  expect(await alice.get("/p2p/recv/con?timeout=5")).toMatchObject({ data: "x" });
  return opened;
}

async function punchedIn(topology: Topology, path: RegExp, strategies?: string): Promise<void> {
  await using pair = await meet(topology, {
    before: withoutIp6,
    ...(strategies === undefined ? {} : { strategies }),
  });
  await punched(pair.alice, pair.bob, path);
}

const home = nat("port-restricted/equal");
const carrier = nat("port-restricted/random");

describe.skipIf(!labEnabled)("punching through", () => {
  test(
    "a carrier's NAT above each home's",
    () =>
      punchedIn(
        {
          routers: [
            { name: "carrier-a", nat: carrier, uplink: "internet" },
            { name: "carrier-b", nat: carrier, uplink: "internet" },
            { name: "a", nat: home, uplink: "carrier-a" },
            { name: "b", nat: home, uplink: "carrier-b" },
          ],
          hosts: [
            { name: "alice", nics: ["a"] },
            { name: "bob", nics: ["b"] },
          ],
        },
        /^punch\/udp$/,
      ),
    LIMIT_MS,
  );

  test(
    "two counters that others advance by 20 mappings a second, 19 times of 20",
    async () => {
      const times: number[] = [];
      for (let seed = 1; seed <= NOISY_RUNS; seed++) {
        const [a, b] = [seed, seed + NOISY_RUNS].map((one) =>
          nat("symmetric/independent", { backgroundPerSecond: 20, seed: one }),
        ) as [RouterKind, RouterKind];
        await using pair = await meet(twoHosts(a, b), { before: withoutIp6 });
        await Promise.all([pair.alice.get("/p2p/nat"), pair.bob.get("/p2p/nat")]);
        const { opened, ms, isEchoed } = await openAndEcho(pair);
        if (isEchoed && opened["path"] === "punch/udp") times.push(ms);
      }
      const ms = Math.round(median(times));
      console.log(`noise: ${times.length} of ${NOISY_RUNS} by punch/udp, median ${ms} ms`);
      expect(times.length).toBeGreaterThanOrEqual(0.95 * NOISY_RUNS);
    },
    NOISY_RUNS * LIMIT_MS,
  );

  for (const unsolicitedSyn of ["rst", "icmp"] as const) {
    test(
      `routers that answer unexpected SYNs by ${unsolicitedSyn}`,
      async () => {
        const [a, b] = [
          nat("port-restricted/equal", { unsolicitedSyn }),
          nat("symmetric/equal", { unsolicitedSyn }),
        ];
        await punchedIn(twoHosts(a, b), /^punch\/udp$/);
      },
      LIMIT_MS,
    );
  }

  for (const hairpinning of [true, false]) {
    test(
      `nothing but one router's LAN, hairpinning ${hairpinning}`,
      () => punchedIn(oneRouter(nat("symmetric/random", { hairpinning })), /^punch\//, "punch"),
      LIMIT_MS,
    );
  }

  for (const nics of [
    ["a", "a2"],
    ["a2", "a"],
  ]) {
    test(
      `the better one of two NICs, which is ${nics.join(" of ")}`,
      () =>
        punchedIn(
          {
            routers: [
              { name: "a", nat: home, uplink: "internet" },
              { name: "a2", nat: nat("symmetric/random"), uplink: "internet" },
              { name: "b", nat: nat("symmetric/equal"), uplink: "internet" },
            ],
            hosts: [
              { name: "alice", nics },
              { name: "bob", nics: ["b"] },
            ],
          },
          /^punch\/udp$/,
        ),
      LIMIT_MS,
    );
  }

  test(
    "IPv6 firewalls on both sides, where nothing passes IPv4",
    async () => {
      const closed = nat("symmetric/random");
      await using pair = await meet(twoHosts(closed, closed), { family: 6 });
      const opened = await punched(pair.alice, pair.bob, /^punch\//);
      expect(opened["route"]).toMatchObject({ af: 10 });
    },
    LIMIT_MS,
  );

  test(
    "two routers at once by ten nodes to ten others",
    async () => {
      const ten = Array.from({ length: 10 }, (_, i) => i);
      await using lab = await Lab.create({
        routers: [
          { name: "a", nat: nat("symmetric/independent"), uplink: "internet" },
          { name: "b", nat: home, uplink: "internet" },
        ],
        hosts: ["a", "b"].flatMap((side) => ten.map((i) => ({ name: `${side}${i}`, nics: [side] }))),
      });
      const broker = await lab.servers.mosquitto(0);
      const coturn = await lab.servers.coturn();
      await withoutIp6(lab);
      for (const router of lab.routers) await router.change({ link: { delayMs: ONE_WAY_MS } });
      const options = {
        brokers: [`mqtt://${broker.endpoint.ip}:1883`],
        stun: `stun:${coturn.endpoint.ip}:3478,stun:${coturn.alternate.ip}:3478`,
      };
      const nodes = new Map<string, LabNode>();
      for (const { name } of lab.hosts) {
        const node = await startLabNode(lab, name, options);
        await node.until("brokers", "up");
        await node.get("/p2p/nat");
        nodes.set(name, node);
      }
      const of = (side: string, i: number): LabNode => nodes.get(`${side}${i}`) as LabNode;
      // Ten move one counter: a window may be missed, and the next round's TCP be first.
      await Promise.all(ten.map((i) => punched(of("a", i), of("b", i), /^punch\//)));
    },
    LIMIT_MS,
  );
});
