/** Nodes that ask simulated routers for forwarded ports: good routers over days, and bad ones of every sort. */
import { expect, test } from "bun:test";
import { decodeAddress } from "../../core/wire/address.ts";
import type { PortMappingPlace } from "../../core/node/port-mapping-report.ts";
import { carrierNat, parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { describeRouter, http, type MappingRouterOptions, startMappingRouter } from "./mapping-router.ts";
import { runSim } from "./run-sim.ts";
import { type SimNode, startSimNode } from "./sim-node.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";
import { startStunServer } from "./stun-server.ts";

const PORT = 10_001;
const topology = twoHosts(parseRouterKind("port-restricted/equal"), parseRouterKind("symmetric/random"));
const PROTOCOLS = [
  ["pcp", { pcp: true }],
  ["nat-pmp", { natPmp: true }],
  ["upnp", { upnp: true }],
] as const;

function place4({ node }: SimNode): PortMappingPlace {
  const found = node.portMapping().places.find(({ family }) => family === 4);
  if (found === undefined) throw new Error("no place was asked for IPv4");
  return found;
}

function startMapped(sim: Simulation, options: Parameters<typeof startSimNode>[1] = {}): Promise<SimNode> {
  return startSimNode(sim.host("alice"), { portMapping: true, ...options });
}

for (const [protocol, options] of PROTOCOLS) {
  simTest(
    `by ${protocol} a port is forwarded, its lease is renewed for hours, and it ends with the node`,
    [1],
    async (sim) => {
      const router = await startMappingRouter(sim, "a", { ...options, lifetimeSeconds: 3600 });
      const alice = await startMapped(sim);
      await sim.sleep(2000);
      expect(place4(alice)).toMatchObject({ state: "mapped", mappings: [{ protocol }, { protocol }] });
      await sim.sleep(3 * 3_600_000);
      expect(router.forwarded().toSorted()).toEqual([`tcp ${PORT}`, `udp ${PORT}`]);
      await alice.close();
      expect(router.forwarded()).toEqual([]);
    },
    { topology, limitMs: 20_000_000 },
  );

  simTest(
    `by ${protocol} a forwarded port is back within 10 s of a restart of the router, and follows its address`,
    [1, 2, 3],
    async (sim) => {
      const router = await startMappingRouter(sim, "a", options);
      const alice = await startMapped(sim);
      await sim.sleep(20_000 + sim.random.between(0, 6000));
      router.restart();
      expect(router.forwarded()).toEqual([]);
      await sim.sleep(10_000);
      expect(router.forwarded()).toHaveLength(2);
      await sim.sleep(sim.random.between(0, 6000));
      sim.router("a").setExternalIp("5.44.11.99");
      router.restart();
      await sim.sleep(10_000);
      expect(place4(alice).externalIp).toBe("5.44.11.99");
      expect(alice.node.address()).toContain("_5.44.11.99_5.44.11.99_10001_open-internet_");
      await alice.close();
    },
    { topology },
  );
}

simTest(
  "an external port that differs is in the address line, and a peer behind a symmetric NAT opens by it directly",
  [1, 2],
  async (sim) => {
    await startMappingRouter(sim, "a", { pcp: true, portFor: () => PORT + 777 });
    const alice = await startMapped(sim);
    await sim.sleep(1000);
    const [first, ...rest] = decodeAddress(alice.node.address()).nics;
    const ip = sim.router("a").ipv4.externalIp;
    expect(first).toMatchObject({ external: ip, address: ip, port: PORT + 777, nat: "open-internet" });
    expect(rest.every(({ port }) => port === PORT)).toBe(true);
    expect(place4(alice).reachable).toBe("unknown");
    const bob = await startSimNode(sim.host("bob"));
    sim.host("bob").changeNic("eth0", {
      addresses: sim
        .host("bob")
        .world.nics()
        .flatMap(({ name, addresses }) =>
          name === "eth0" ? addresses.filter(({ family }) => family === 4) : [],
        ),
    });
    const opened = await bob.node.open("alice", alice.node.address(), { strategies: ["direct"] });
    expect(opened.strategy).toBe("direct");
    await sim.sleep(500);
    expect(place4(alice).reachable).toBe("verified");
    await Promise.all([alice.close(), bob.close()]);
  },
  { topology },
);

simTest(
  "the router's address decides, with what servers see, whether the port is called reachable",
  [1],
  async (sim) => {
    const server = sim.addServer("stun", { addresses: 2 });
    await startStunServer(server.world, { addresses: [server.ip()] });
    await startMappingRouter(sim, "a", { natPmp: true });
    const alice = await startMapped(sim, { stunServers: [{ host: server.ip(), port: 3478 }] });
    await sim.sleep(8000);
    expect(place4(alice)).toMatchObject({ reachable: "no", doubleNat: true, externalIp: "100.64.10.11" });
    expect(alice.node.address()).not.toContain("open-internet");
    expect(alice.node.status().find(({ part }) => part === "portmap")?.detail).toContain("double NAT");
    expect((await alice.node.nat(false)).advice.join("\n")).toContain("double NAT");
    await alice.close();
  },
  {
    topology: carrierNat(
      parseRouterKind("port-restricted/equal"),
      parseRouterKind("port-restricted/equal"),
      parseRouterKind("symmetric/random"),
    ),
  },
);

simTest(
  "a router whose public address is not the one that servers see is said to stand behind another NAT",
  [1],
  async (sim) => {
    const server = sim.addServer("stun", { addresses: 2 });
    await startStunServer(server.world, { addresses: [server.ip()] });
    await startMappingRouter(sim, "a", { pcp: true, externalIp: "5.47.1.1" });
    const alice = await startMapped(sim, { stunServers: [{ host: server.ip(), port: 3478 }] });
    await sim.sleep(8000);
    expect(place4(alice)).toMatchObject({ state: "mapped", reachable: "no", doubleNat: true });
    // It may be the other line of a router with two: worth a try to a peer, and no promise.
    expect(alice.node.address()).toContain(`_5.47.1.1_5.47.1.1_${PORT}_unknown_unknown_0`);
    await alice.close();
  },
  { topology },
);

test("where nobody answers nothing waits, and the search becomes rare", async () => {
  await runSim({ seed: 1, topology }, async (sim) => {
    const alice = await startMapped(sim);
    await sim.sleep(3000);
    expect(place4(alice)).toMatchObject({ state: "none", reachable: "none" });
    const { sent } = alice.node.portMapping().packets;
    await sim.sleep(3_000_000);
    expect(alice.node.portMapping().packets.sent).toBeLessThan(12 * sent);
    const began = sim.scheduler.nowMs;
    await alice.close();
    expect(sim.scheduler.nowMs - began).toBeLessThan(1000);
  });
});

interface BadRouter {
  readonly router: MappingRouterOptions;
  /** What is mapped in the end; none: nothing may be. */
  readonly mapped?: { readonly port?: number; readonly lifetimeSeconds?: number };
  /** A word of the reason. */
  readonly why?: RegExp;
  /** Ports that another machine of the LAN holds. */
  readonly taken?: readonly number[];
  readonly never?: readonly string[];
  /** It maps although it says that it does not. */
  readonly lies?: boolean;
}

const internet = "http://5.44.1.10:5000/igd.xml";

const BAD_ROUTERS: Readonly<Record<string, BadRouter>> = {
  "knows only permanent mappings": {
    router: {
      upnp: true,
      soap: (action, values) =>
        action === "AddPortMapping" && values["NewLeaseDuration"] !== "0" ? 725 : undefined,
    },
    mapped: { port: PORT, lifetimeSeconds: 0 },
  },
  "has given the port to another machine": {
    router: { upnp: true },
    taken: [PORT],
    mapped: {},
    never: ["upnp DeletePortMapping"],
  },
  "has a conflict with our own stale entry": {
    router: { upnp: true, soap: staleOnce() },
    mapped: { port: PORT },
  },
  "wants both ports equal": {
    router: {
      upnp: true,
      soap: (action, values) =>
        action === "AddPortMapping" && values["NewExternalPort"] !== values["NewInternalPort"]
          ? 724
          : undefined,
    },
    mapped: { port: PORT },
  },
  "refuses every port": {
    router: { upnp: true, soap: (action) => (action === "AddPortMapping" ? 718 : undefined) },
    why: /718/,
  },
  "forbids it": {
    router: { upnp: true, soap: (action) => (action === "AddPortMapping" ? 606 : undefined) },
    why: /606/,
  },
  "is not connected": { router: { upnp: true, externalIp: "0.0.0.0" }, why: /no external address/ },
  "describes itself by a bomb of entities": {
    router: {
      upnp: true,
      description: `<!DOCTYPE r [<!ENTITY a "${"x".repeat(1000)}"><!ENTITY b "${"&a;".repeat(1000)}">]><root>${"&b;".repeat(1000)}</root>`,
    },
    why: /document type/,
  },
  "describes itself without end": {
    router: { upnp: true, get: () => `HTTP/1.1 200 OK\r\n\r\n${"<a>".repeat(100_000)}` },
    why: /131072/,
  },
  "never describes itself": { router: { upnp: true, get: () => "" }, why: /did not answer/ },
  "redirects to the internet": {
    router: {
      upnp: true,
      get: () => `HTTP/1.1 302 Found\r\nLocation: ${internet}\r\nContent-Length: 0\r\n\r\n`,
    },
    why: /status 302/,
  },
  "says that its description is on the internet": {
    router: { upnp: true, location: internet },
    why: /no device answered/,
    never: ["upnp description"],
  },
  "is controlled at the internet": {
    router: { upnp: true, description: describeRouter("http://5.44.1.10:5000/control") },
    why: /no service/,
  },
  "is controlled at another host of the LAN": {
    router: { upnp: true, description: describeRouter("http://192.168.10.101:5000/control") },
    why: /no service/,
  },
  "answers calls with nonsense": { router: { upnp: true, soap: () => http("<html>") }, why: /no XML/ },
  "answers calls with another's answer": {
    router: { upnp: true, soap: () => http("<a><OtherResponse/></a>") },
    why: /no answer/,
  },
  "answers PCP too short": {
    router: { pcp: true, bend: (answer) => answer.subarray(0, 20) },
    why: /did not answer/,
  },
  "answers PCP with another nonce": { router: { pcp: true, bend: flipAt(30) }, why: /did not answer/ },
  "answers PCP for another port": { router: { pcp: true, bend: flipAt(41) }, why: /did not answer/ },
  "answers PCP with a life of nothing": {
    router: { pcp: true, bend: (answer) => (answer[1] === 0x81 ? answer.fill(0, 4, 8) : answer) },
    why: /without a port or a lifetime/,
  },
  "answers NAT-PMP too long": {
    router: { natPmp: true, bend: (answer) => Uint8Array.of(...answer, 0, 0, 0, 0, 0) },
    why: /did not answer/,
  },
  "answers NAT-PMP with port 0": {
    router: { natPmp: true, bend: (answer) => (answer.length === 16 ? answer.fill(0, 10, 12) : answer) },
    why: /without a port or a lifetime/,
  },
  "refuses by NAT-PMP": {
    router: { natPmp: true, bend: (answer) => (answer.length === 16 ? answer.fill(2, 3, 4) : answer) },
    why: /forbidden/,
    lies: true,
  },
  "answers PCP only to be silent when asked to map, and speaks UPnP too": {
    router: { pcp: true, upnp: true, bend: (answer) => (answer[1] === 0x81 ? undefined : answer) },
    mapped: { port: PORT },
  },
};

for (const [name, bad] of Object.entries(BAD_ROUTERS)) {
  simTest(
    `a router that ${name}`,
    [1],
    async (sim) => {
      const router = await startMappingRouter(sim, "a", bad.router);
      const bobs = { ip: "192.168.10.77", port: 4000 };
      for (const port of bad.taken ?? [])
        for (const protocol of ["tcp", "udp"] as const)
          sim.router("a").ipv4.forwardPort(0, protocol, port, bobs, 1e9);
      const alice = await startMapped(sim);
      await sim.sleep(5000);
      const place = place4(alice);
      const reasons = Object.values(place.outcomes).join("; ");
      if (bad.why !== undefined) expect(reasons).toMatch(bad.why);
      expect(place.mappings.length > 0, reasons).toBe(bad.mapped !== undefined);
      for (const { external, lifetimeSeconds } of place.mappings) {
        if (bad.mapped?.port === undefined) expect(bad.taken ?? []).not.toContain(external.port);
        else expect(external.port).toBe(bad.mapped.port);
        expect(lifetimeSeconds).toBe(bad.mapped?.lifetimeSeconds ?? 7200);
      }
      for (const what of bad.never ?? []) expect(router.heard.get(what) ?? 0).toBe(0);
      await alice.close();
      if (bad.lies === true) return;
      expect(router.forwarded().toSorted()).toEqual(
        (bad.taken ?? []).flatMap((port) => [`tcp ${port}`, `udp ${port}`]),
      );
    },
    { topology },
  );
}

simTest(
  "of two routers that answer the gateway is taken, and another one only where the gateway says nothing",
  [1, 2],
  async (sim) => {
    const segment = sim.router("a").lan;
    const addresses = [{ ip: "192.168.10.50", family: 4, prefixLength: 24 }] as const;
    const other = sim.addHost("other", [{ name: "eth0", metric: 1, segment, addresses, gateway: {} }]);
    const stranger = await startMappingRouter(sim, "a", { upnp: true, host: other });
    const gateway = await startMappingRouter(sim, "a", { upnp: true });
    const alice = await startMapped(sim);
    await sim.sleep(3000);
    expect(place4(alice).state).toBe("mapped");
    expect(stranger.heard.get("upnp description") ?? 0).toBe(0);
    expect(gateway.heard.get("upnp AddPortMapping")).toBe(2);
    await alice.close();
    gateway.close();
    const again = await startMapped(sim);
    await sim.sleep(3000);
    expect(place4(again).state).toBe("mapped");
    expect(stranger.heard.get("upnp AddPortMapping")).toBe(2);
    await again.close();
  },
  { topology },
);

simTest(
  "answers of a neighbour in the router's place are not believed",
  [1],
  async (sim) => {
    const segment = sim.router("a").lan;
    const addresses = [{ ip: "192.168.10.50", family: 4, prefixLength: 24 }] as const;
    const other = sim.addHost("other", [{ name: "eth0", metric: 1, segment, addresses, gateway: {} }]);
    const alice = await startMapped(sim);
    const socket = await other.world.openUdp({ local: { ip: "192.168.10.50", port: 5351 } });
    const forged = Uint8Array.from([0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 1]);
    // To every port that her questions could come from.
    for (let port = 32_768; port < 61_000; port++) socket.send(forged, { ip: sim.host("alice").ip(), port });
    await sim.sleep(5000);
    expect(place4(alice)).toMatchObject({ state: "none" });
    expect(alice.node.portMapping().packets.ignored).toBeGreaterThan(0);
    await alice.close();
  },
  { topology },
);

function flipAt(index: number): (answer: Uint8Array) => Uint8Array {
  return (answer) => {
    if (answer.length > index) answer[index] = (answer[index] ?? 0) ^ 1;
    return answer;
  };
}

/** The entry is there from an earlier run until it is deleted, and cannot be renewed. */
function staleOnce(): NonNullable<MappingRouterOptions["soap"]> {
  const stale = new Set(["TCP", "UDP"]);
  const entry = `<a><GetSpecificPortMappingEntryResponse><NewInternalPort>${PORT}</NewInternalPort><NewInternalClient>192.168.10.100</NewInternalClient></GetSpecificPortMappingEntryResponse></a>`;
  return (action, values) => {
    const protocol = values["NewProtocol"] ?? "";
    if (!stale.has(protocol)) return undefined;
    if (action === "AddPortMapping") return 718;
    if (action === "GetSpecificPortMappingEntry") return http(entry);
    if (action !== "DeletePortMapping") return undefined;
    stale.delete(protocol);
    return http("<a><DeletePortMappingResponse/></a>");
  };
}
