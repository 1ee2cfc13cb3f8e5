/** Whole nodes that no direct path joins, and what a relay does for them: when it begins, by which carrier, in what time. */
import { beforeAll, expect } from "bun:test";
import { loadSignaling } from "../../core/signal/signaling.ts";
import { twoHosts } from "../nat/topologies.ts";
import { nat, timed } from "./punch-site.ts";
import { startMqttBroker } from "./mqtt-broker.ts";
import { meetWithTurn, type MeetWithTurnOptions } from "./relay-site.ts";
import { simTest } from "./sim-test.ts";

beforeAll(loadSignaling);

const topology = (a: string, b: string) => ({ topology: twoHosts(nat(a), nat(b)) });
const RANDOM = topology("symmetric/random", "symmetric/random");

simTest(
  "where both ports are random the relay begins at once: the first echo is there within 700 ms, and nothing stays",
  [1, 2, 3],
  async (sim) => {
    const { alice, bob, server } = await meetWithTurn(sim);
    const { connection, ms } = await timed(sim, alice, bob);
    console.log(`relay=last, ruled out: ${Math.round(ms)} ms`);
    expect(connection).toMatchObject({ strategy: "relay", path: "relay/turn-udp", transport: "udp" });
    expect(ms).toBeLessThan(700);
    expect(bob.node.connections()).toMatchObject([{ strategy: "relay", path: "relay/turn-udp" }]);
    await alice.node.close("bob");
    await sim.sleep(5000);
    expect(server.sockets.server.allocations.all.size).toBe(0);
    await Promise.all([alice.close(), bob.close()]);
  },
  RANDOM,
);

const ALONE = { strategies: ["relay"] } as const;

/** Routers, who has a server and by which link, what is asked for, and the path it must get. */
const CARRIERS: readonly (readonly [
  what: string,
  routers: readonly [string, string],
  options: MeetWithTurnOptions & { readonly transport?: "tcp" | "udp" },
  path: string,
  limitMs: number,
])[] = [
  [
    "over a link of TCP, QUIC",
    ["symmetric/random", "symmetric/random"],
    { alice: "tcp" },
    "relay/turn-tcp",
    500,
  ],
  [
    "over a TCP allocation, TLS",
    ["symmetric/random", "symmetric/random"],
    { alice: "udp", transport: "tcp" },
    "relay/turn-tcp",
    700,
  ],
  [
    "with UDP blocked at the caller",
    ["blocked/random", "symmetric/random"],
    { alice: "udp", config: ALONE },
    "relay/turn-tcp",
    700,
  ],
  [
    "with UDP blocked at the called",
    ["symmetric/random", "blocked/random"],
    { alice: "udp", config: ALONE },
    "relay/turn-tcp",
    700,
  ],
  [
    "with UDP blocked at both",
    ["blocked/random", "blocked/random"],
    { alice: "udp", config: ALONE },
    "relay/turn-tcp",
    700,
  ],
  [
    "from a relay of the called to one of the caller on the same server, where UDP cannot leave",
    ["symmetric/random", "blocked/random"],
    { alice: "udp", bob: "tcp", transport: "udp", config: ALONE },
    "relay/turn-udp",
    900,
  ],
  [
    "from a relay of the called to one of the caller on another server, where UDP cannot leave",
    ["symmetric/random", "blocked/random"],
    { alice: "udp", bob: "tcp", isApart: true, transport: "udp", config: ALONE },
    "relay/turn-udp",
    900,
  ],
  [
    "by the server of the called, where the caller's own is full",
    ["symmetric/random", "symmetric/random"],
    { alice: "udp", bob: "udp", isApart: true, turn: { allocations: 0 } },
    "relay/turn-udp",
    900,
  ],
  [
    "by the server of the called, where the caller has none",
    ["symmetric/random", "symmetric/random"],
    { alice: undefined, bob: "udp" },
    "relay/turn-udp",
    700,
  ],
  [
    "by a TCP allocation of the called, with UDP blocked at both",
    ["blocked/random", "blocked/random"],
    { alice: undefined, bob: "udp", config: ALONE },
    "relay/turn-tcp",
    700,
  ],
];

for (const [what, [a, b], options, path, limitMs] of CARRIERS) {
  simTest(
    `${what}: relayed and echoed, and given back`,
    [1],
    async (sim) => {
      const { transport } = options;
      const { alice, bob, servers } = await meetWithTurn(sim, options);
      const open = transport === undefined ? {} : { transport };
      const { connection, ms } = await timed(sim, alice, bob, open);
      console.log(`${what}: ${connection.path} (${connection.transport}) ${Math.round(ms)} ms`);
      if (process.env["SHOW"] === "1") console.log(connection.timeline);
      expect(connection.path).toBe(path);
      expect(ms).toBeLessThan(limitMs);
      expect(bob.node.connections()).toMatchObject([{ strategy: "relay", path }]);
      // A change of the network ends what leaves from an address that is gone: it must be one of the host's own.
      for (const [name, { node }] of Object.entries({ alice, bob })) {
        expect(node.connections().map(({ pipe }) => pipe.local.ip)).toEqual([sim.host(name).ip(4)]);
      }
      await alice.node.close("bob");
      await sim.sleep(5000);
      for (const { sockets } of servers) expect(sockets.server.allocations.all.size).toBe(0);
      await Promise.all([alice.close(), bob.close()]);
    },
    topology(a, b),
  );
}

simTest(
  "where no broker carries the word of where the called comes from, it is said again, and the same relay stands",
  [1, 2, 3],
  async (sim) => {
    const host = sim.addServer("frozen");
    const broker = await startMqttBroker(host.world, host.ip(4));
    const { alice, bob } = await meetWithTurn(sim, {
      alice: "udp",
      bob: "tcp",
      isApart: true,
      config: { ...ALONE, mqttBrokers: [broker.url] },
    });
    const opening = timed(sim, alice, bob, { transport: "udp" });
    // The called has answered, and has no allocation yet.
    await sim.sleep(180);
    broker.freeze(true);
    await sim.sleep(500);
    broker.freeze(false);
    const { connection, ms } = await opening;
    expect(connection.path).toBe("relay/turn-udp");
    expect(ms).toBeGreaterThan(680);
    expect(ms).toBeLessThan(2500);
    await Promise.all([alice.close(), bob.close()]);
  },
  topology("symmetric/random", "blocked/random"),
);

const lossy = { link: { delayMs: 25, jitterMs: 5, loss: 0.1 } };
const LOSSY_SEEDS = Array.from({ length: 12 }, (_, i) => i + 1);

for (const transport of ["udp", "tcp"] as const) {
  simTest(
    `where each router loses a tenth of all packets, a relay over ${transport} stands in 8 s all the same`,
    LOSSY_SEEDS,
    async (sim) => {
      const { alice, bob, server } = await meetWithTurn(sim, { config: ALONE });
      const { ms } = await timed(sim, alice, bob, transport === "tcp" ? { transport } : {});
      expect(ms).toBeLessThan(8000);
      await alice.node.close("bob");
      await sim.sleep(60_000);
      expect(server.sockets.server.allocations.all.size).toBe(0);
      await Promise.all([alice.close(), bob.close()]);
    },
    { topology: twoHosts(nat("symmetric/random", lossy), nat("symmetric/random", lossy)) },
  );
}
