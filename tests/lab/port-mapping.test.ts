/** Daemons behind real miniupnpd: what is mapped, by which protocol, who can connect by it, and when it is gone. */
import { describe, expect, test } from "bun:test";
import { changeSettings } from "../nat/settings.ts";
import { carrierNat, parseRouterKind, type RouterKind, twoHosts } from "../nat/topologies.ts";
import { type Answer, type LabNode, startLabNode } from "./lab-node.ts";
import { Lab } from "./laboratory.ts";
import { command, enterNamespace } from "./shell.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const LIMIT_MS = 60_000;
/** A router that begins anew within seconds of its beginning does not show it by its epoch (RFC 6887 section 8.5). */
const EPOCH_SHOWS_MS = 5000;

/** Nobody can open a connection to whoever is behind it, and no UDP passes it. */
const HARD = hardNat();
const KERNEL = parseRouterKind("kernel");

/** What a router's LAN side drops: the first octet of a datagram to 5351 is the version, 0 NAT-PMP and 2 PCP. */
const NO_PCP = "udp dport 5351 @th,64,8 2 drop";
const NO_NAT_PMP = "udp dport 5351 @th,64,8 0 drop";
const NO_5351 = "udp dport 5351 drop";
const NO_SSDP = "udp dport 1900 drop";

interface Setting {
  readonly name: string;
  readonly miniupnpd: Readonly<Record<string, string>>;
  readonly drop: readonly string[];
  readonly protocol: readonly string[];
  /** Families that are mapped. */
  readonly families: readonly (4 | 6)[];
}

const SETTINGS: readonly Setting[] = [
  { name: "all protocols", miniupnpd: {}, drop: [], protocol: ["pcp", "nat-pmp", "upnp"], families: [4, 6] },
  { name: "NAT-PMP alone", miniupnpd: {}, drop: [NO_PCP, NO_SSDP], protocol: ["nat-pmp"], families: [4] },
  { name: "PCP alone", miniupnpd: {}, drop: [NO_NAT_PMP, NO_SSDP], protocol: ["pcp"], families: [4, 6] },
  { name: "UPnP alone", miniupnpd: {}, drop: [NO_5351], protocol: ["upnp"], families: [4, 6] },
  {
    name: "an IGD 1 description",
    miniupnpd: { force_igd_desc_v1: "yes" },
    drop: [NO_5351],
    protocol: ["upnp"],
    families: [4],
  },
  {
    name: "secure mode",
    miniupnpd: { secure_mode: "yes" },
    drop: [NO_5351],
    protocol: ["upnp"],
    families: [4, 6],
  },
];

describe.skipIf(!labEnabled)("port mapping", () => {
  test.each(SETTINGS.map((setting) => [setting.name, setting] as const))(
    "%s: mapped within 2 s, opened directly from behind a symmetric NAT without UDP, gone 1 s after the exit",
    async (name, { miniupnpd, drop, protocol, families }) => {
      await using lab = await Lab.create(twoHosts(KERNEL, HARD));
      await using _daemon = await lab.router("a").startPortMapping(miniupnpd);
      await dropAt(lab, "a", drop);
      const alice = await startNode(lab, "alice");
      for (const family of families) {
        const place = await placeOnce(alice, family, ({ state }) => state === "mapped");
        expect(protocol).toContain(place.mappings[0]?.protocol ?? "none");
        expect(place.mappings.map(({ transport }) => transport)).toEqual(["tcp", "udp"]);
        expect(place.mappedAfterMs).toBeLessThan(2000);
        report(
          `${name}, IPv${family}: ${place.mappings[0]?.protocol} in ${place.mappedAfterMs?.toFixed(0)} ms`,
        );
      }
      report(`${name}: ${JSON.stringify((await alice.get("/p2p/portmap"))["packets"])}`);
      expect(await forwards(lab, "a")).toBe(2 * families.length);
      const bob = await startNode(lab, "bob", { portMapping: false });
      for (const family of families) {
        const line = onlyFamily(await alice.addr(), family);
        const opened = await bob.get(`/p2p/open/v${family}/${line}?strategies=direct&timeout=5`);
        expect(opened).toMatchObject({ error: 0, path: "direct/tcp", peer: { id: alice.id } });
        await placeOnce(alice, family, ({ reachable }) => reachable === "verified");
      }
      await alice.stop();
      expect(await forwards(lab, "a")).toBe(0);
    },
    LIMIT_MS,
  );

  test(
    "made again within 10 s of a restart of the router, and of a change of its address; by PCP and by UPnP",
    async () => {
      await Promise.all([outlives("PCP", []), outlives("UPnP", [NO_5351])]);
    },
    LIMIT_MS,
  );

  test(
    "where nobody answers, nothing waits: the search is given up in 3 s and the exit takes less than 1 s",
    async () => {
      await using lab = await Lab.create(twoHosts(KERNEL, HARD));
      await dropAt(lab, "a", ["meta l4proto udp drop"]);
      const alice = await startNode(lab, "alice");
      const place = await placeOnce(alice, 4, ({ state }) => state === "none");
      expect(place).toMatchObject({ reachable: "none", mappings: [] });
      expect(Object.keys(place.outcomes).toSorted()).toEqual(["nat-pmp", "pcp", "upnp"]);
      expect(await alice.addr()).not.toContain("open-internet");
      report(`nobody answers: ${JSON.stringify((await alice.get("/p2p/portmap"))["packets"])}`);
      const began = performance.now();
      await alice.stop();
      expect(performance.now() - began).toBeLessThan(1000);
    },
    LIMIT_MS,
  );

  test(
    "a carrier's NAT above the home router is recognised and said; nothing is called reachable",
    async () => {
      await using lab = await Lab.create(carrierNat(parseRouterKind("port-restricted"), KERNEL, HARD));
      await using _daemon = await lab.router("a").startPortMapping();
      const coturn = await lab.servers.coturn();
      const alice = await startNode(lab, "alice", { stun: `stun:${coturn.endpoint.ip}:3478` });
      const place = await placeOnce(
        alice,
        4,
        ({ state, doubleNat }) => state === "none" && doubleNat === true,
      );
      expect(place.reachable).toBe("none");
      const { summary } = await alice.get("/p2p/portmap");
      expect(JSON.stringify(summary)).toContain("double NAT");
      const { advice } = await alice.get("/p2p/nat?wait=false");
      expect(JSON.stringify(advice)).toContain("double NAT");
      expect(await alice.addr()).not.toContain("open-internet");
    },
    LIMIT_MS,
  );

  test(
    "what a killed node left on the router is taken over by the next run, and ended by it",
    async () => {
      await using lab = await Lab.create(twoHosts(KERNEL, HARD));
      await using _daemon = await lab.router("a").startPortMapping();
      const first = await startNode(lab, "alice");
      await placeOnce(first, 4, ({ state }) => state === "mapped");
      await placeOnce(first, 6, ({ state }) => state === "mapped");
      await first.kill();
      expect(await forwards(lab, "a")).toBe(4);
      // Another port: what was left must go, not merely be renewed.
      const second = await startNode(lab, "alice", { listenPort: 23_456 });
      const { mappings } = await placeOnce(second, 4, ({ state }) => state === "mapped");
      expect(mappings.map(({ external }) => external[1])).toEqual([23_456, 23_456]);
      await placeOnce(second, 6, ({ state }) => state === "mapped");
      expect(await forwards(lab, "a")).toBe(4);
      await second.stop();
      expect(await forwards(lab, "a")).toBe(0);
    },
    LIMIT_MS,
  );
});

/** A router restarts, and then moves to another address; the node's mapping and address line follow. */
async function outlives(name: string, drop: readonly string[]): Promise<void> {
  await using lab = await Lab.create(twoHosts(KERNEL, HARD));
  const router = lab.router("a");
  const first = await router.startPortMapping();
  await dropAt(lab, "a", drop);
  const coturn = await lab.servers.coturn();
  const alice = await startNode(lab, "alice", { stun: `stun:${coturn.endpoint.ip}:3478` });
  await placeOnce(alice, 4, ({ state }) => state === "mapped");
  expect(await alice.addr()).toContain(`_${router.publicIp4}_${router.publicIp4}_`);

  await Bun.sleep(EPOCH_SHOWS_MS);
  await first.kill();
  await using _second = await router.startPortMapping();
  const restarted = performance.now();
  for (; performance.now() - restarted < 10_000; await Bun.sleep(50))
    if ((await forwards(lab, "a")) === 4) break;
  expect(await forwards(lab, "a")).toBe(4);
  report(`${name}: mapped again ${seconds(restarted)} s after a restart`);

  await Bun.sleep(EPOCH_SHOWS_MS);
  const next = router.nextPublicIp4;
  await router.setAddress(next);
  const moved = performance.now();
  await placeOnce(alice, 4, ({ externalIp, doubleNat }) => externalIp === next && doubleNat === false);
  report(`${name}: at the new address ${seconds(moved)} s after it changed`);
  expect(performance.now() - moved).toBeLessThan(10_000);
  expect(await alice.addr()).toContain(`_${next}_${next}_`);
  const bob = await startNode(lab, "bob", { portMapping: false });
  const line = onlyFamily(await alice.addr(), 4);
  expect(await bob.get(`/p2p/open/con/${line}?strategies=direct&timeout=5`)).toMatchObject({ error: 0 });
}

interface Place {
  readonly family: number;
  readonly state: string;
  readonly reachable: string;
  readonly doubleNat?: boolean;
  readonly externalIp?: string;
  readonly mappedAfterMs?: number;
  readonly outcomes: Record<string, string>;
  readonly mappings: readonly {
    readonly protocol: string;
    readonly transport: string;
    readonly external: readonly [string, number];
  }[];
}

function startNode(
  lab: Lab,
  host: string,
  options: { stun?: string; portMapping?: boolean; listenPort?: number } = {},
): Promise<LabNode> {
  const { stun, portMapping = true, listenPort } = options;
  return startLabNode(lab, host, {
    ...(stun === undefined ? {} : { stun }),
    env: {
      P2PD_PORT_MAPPING: portMapping ? "on" : "off",
      ...(listenPort === undefined ? {} : { P2PD_LISTEN_PORT: String(listenPort) }),
    },
  });
}

/** What the daemon says of its place of that family, once it meets the condition. */
async function placeOnce(node: LabNode, family: number, is: (place: Place) => boolean): Promise<Place> {
  let answer: Answer = {};
  for (const deadline = performance.now() + 15_000; performance.now() < deadline; await Bun.sleep(20)) {
    answer = await node.get("/p2p/portmap");
    const found = (answer["places"] as Place[]).find((place) => place.family === family && is(place));
    if (found !== undefined) return found;
  }
  throw new Error(`IPv${family} never came to be so: ${JSON.stringify(answer)}`);
}

/** How many ports and pin holes a router lets in. */
async function forwards(lab: Lab, router: string): Promise<number> {
  const list = ["nft", "list", "chain", "inet", "filter", "miniupnpd"];
  const rules = await command([...enterNamespace(lab.router(router).namespace), ...list]);
  return rules.split("\n").filter((line) => line.trim().endsWith("accept")).length;
}

/** Makes a router deaf, on its LAN side, for what matches. */
async function dropAt(lab: Lab, router: string, matches: readonly string[]): Promise<void> {
  const rules = matches.map((match) => `iifname "lan0" ${match}\n`).join("");
  const table = `table inet deaf {\nchain input {\ntype filter hook input priority 0;\n${rules}}\n}\n`;
  await command([...enterNamespace(lab.router(router).namespace), "nft", "-f", "-"], table);
}

/** The line with the entries of one family. */
function onlyFamily(line: string, family: number): string {
  const sections = line.split("~");
  const entries = (sections.at(-1) as string)
    .split(",")
    .filter((entry) => entry.split("_")[1] === String(family));
  return [...sections.slice(0, -1), entries.join(",")].join("~");
}

function hardNat(): RouterKind {
  const kind = parseRouterKind("symmetric/random");
  if (kind.kind !== "box") throw new Error("a symmetric NAT is a box");
  return { kind: "box", settings: changeSettings(kind.settings, { udp: { blocked: true } }) };
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(1);
}

function report(text: string): void {
  console.log(`port mapping: ${text}`);
}
