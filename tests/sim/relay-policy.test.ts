/** When a relay begins, what is told when there is none, and what becomes of a connection whose relay goes. */
import { beforeAll, expect } from "bun:test";
import { P2pdError } from "../../core/errors.ts";
import { loadSignaling } from "../../core/signal/signaling.ts";
import type { TimelineEntry } from "../../core/node/node-api.ts";
import { twoHosts } from "../nat/topologies.ts";
import { nat, openAndEcho, timed } from "./punch-site.ts";
import { meetWithTurn } from "./relay-site.ts";
import type { SimNode } from "./sim-node.ts";
import { simTest } from "./sim-test.ts";
import { startTurnServer } from "./turn-server.ts";

beforeAll(loadSignaling);

const topology = (a: string, b: string) => ({ topology: twoHosts(nat(a), nat(b)) });
const RANDOM = topology("symmetric/random", "symmetric/random");
const PUNCHABLE = topology("port-restricted/equal", "port-restricted/equal");

simTest(
  "with relay=never nothing is allocated, and the failure says so beside the routers' reason",
  [1],
  async (sim) => {
    const { alice, bob, server } = await meetWithTurn(sim, { config: { relay: "never" } });
    const error = await failureOf(openAndEcho(sim, alice, bob));
    expect(error.message).toContain("relay: relay=never");
    expect(error.message).toContain("both sides get a random port for each destination");
    expect(server.sockets.server.counts.allocated).toBe(0);
    expect(partOf(alice, "relay")).toMatchObject({ state: "off" });
    expect(partOf(alice, "relay")?.detail).toContain("relay=never");
    await Promise.all([alice.close(), bob.close()]);
  },
  RANDOM,
);

simTest(
  "an open may ask for another policy than the configuration",
  [1],
  async (sim) => {
    const { alice, bob } = await meetWithTurn(sim);
    const error = await failureOf(openAndEcho(sim, alice, bob, { relay: "never" }));
    expect(error.message).toContain("relay: relay=never");
    const { connection, ms } = await timed(sim, alice, bob, { relay: "first" });
    expect(connection.path).toBe("relay/turn-udp");
    expect(ms).toBeLessThan(500);
    await Promise.all([alice.close(), bob.close()]);
  },
  RANDOM,
);

simTest(
  "where holes are likely no relay is allocated for an open",
  [1, 2],
  async (sim) => {
    const { alice, bob, server } = await meetWithTurn(sim);
    const before = server.sockets.server.counts.allocated;
    const { connection } = await timed(sim, alice, bob);
    expect(connection.path).toBe("punch/udp");
    await sim.sleep(5000);
    expect(server.sockets.server.counts.allocated).toBe(before);
    await Promise.all([alice.close(), bob.close()]);
  },
  PUNCHABLE,
);

simTest(
  "with relay=first a hole that stands sooner is taken all the same, and the allocation given back",
  [1, 2],
  async (sim) => {
    const { alice, bob, server } = await meetWithTurn(sim, { config: { relay: "first" } });
    const before = server.sockets.server.counts.allocated;
    const { connection } = await timed(sim, alice, bob);
    expect(connection.path).toBe("punch/udp");
    await sim.sleep(10_000);
    expect(server.sockets.server.counts.allocated).toBeGreaterThan(before);
    expect(server.sockets.server.allocations.all.size).toBe(0);
    await Promise.all([alice.close(), bob.close()]);
  },
  PUNCHABLE,
);

for (const relayAfterMs of [1500, 200]) {
  simTest(
    `where the others neither succeed nor fail the relay begins after relayAfterMs, ${relayAfterMs} ms`,
    [1],
    async (sim) => {
      const config = { strategies: ["direct", "relay"], relayAfterMs } as const;
      const { alice, bob } = await meetWithTurn(sim, { config });
      const { connection } = await timed(sim, alice, bob);
      expect(connection.path).toBe("relay/turn-udp");
      const begun = connection.timeline.find(({ event }) => event === "begins") as TimelineEntry;
      expect(begun.ms).toBeCloseTo(relayAfterMs, 0);
      expect(begun.detail).toBe(`no path within ${relayAfterMs} ms`);
      await Promise.all([alice.close(), bob.close()]);
    },
    PUNCHABLE,
  );
}

simTest(
  "where a search is needed the relay carries meanwhile, and what the search finds takes over",
  [1],
  async (sim) => {
    const { alice, bob, server } = await meetWithTurn(sim);
    const { connection, ms } = await timed(sim, alice, bob);
    expect([connection.path, ms < 500]).toEqual(["relay/turn-udp", true]);
    await sim.sleep(10_000);
    expect(connection.path).toBe("punch/udp");
    const seen = connection.timeline.filter(({ event }) => event === "authenticated");
    expect(seen.map(({ strategy }) => strategy)).toEqual(["relay", "punch"]);
    await connection.pipe.send("ECHO still there");
    expect((await connection.pipe.recv("all", 5000))?.bytes).toEqual(Buffer.from("still there"));
    expect(server.sockets.server.allocations.all.size).toBe(0);
    await Promise.all([alice.close(), bob.close()]);
  },
  topology("port-restricted/equal", "symmetric/random"),
);

simTest(
  "the status tells what a server relays over, before any open and whatever did not pass",
  [1],
  async (sim) => {
    const { alice, bob } = await meetWithTurn(sim, { bob: "udp" });
    await sim.sleep(10_000);
    const partOfServer = ({ node }: SimNode) => node.status().find(({ part }) => part.startsWith("turn "));
    expect(partOfServer(alice)).toMatchObject({ part: "turn 5.44.1.13:3478/udp", state: "up" });
    expect(partOfServer(alice)?.detail).toContain("user user; relays over TCP, last allocated in ");
    expect(partOfServer(bob)?.detail).toContain("relays over UDP");
    await Promise.all([alice.close(), bob.close()]);
  },
  topology("blocked/random", "symmetric/random"),
);

simTest(
  "a wrong password is said in the failure and in the status, without the password",
  [1],
  async (sim) => {
    const { alice, bob } = await meetWithTurn(sim, { password: "secret-guess" });
    const error = await failureOf(openAndEcho(sim, alice, bob));
    expect(error.message).toContain("does not accept the user or the password (401");
    const status = alice.node.status().find(({ part }) => part.startsWith("turn "));
    expect(status).toMatchObject({ state: "down" });
    expect(status?.detail).toContain("does not accept the user or the password (401");
    expect(JSON.stringify([error.detail, alice.node.status()])).not.toContain("secret-guess");
    await Promise.all([alice.close(), bob.close()]);
  },
  RANDOM,
);

simTest(
  "a full server and a user's quota are said by their names",
  [1],
  async (sim) => {
    for (const [turn, words] of [
      [{ allocations: 0 }, "has no capacity left (508"],
      [{ perAccount: 0 }, "gives this user no more allocations (486"],
    ] as const) {
      const name = words.slice(4, 9).trim();
      const { alice, bob } = await meetWithTurn(sim, { turn, name });
      expect((await failureOf(openAndEcho(sim, alice, bob))).message).toContain(words);
      await Promise.all([alice.close(), bob.close()]);
    }
  },
  RANDOM,
);

simTest(
  "a server that is silent costs nothing beside one that answers, and alone it is named",
  [1],
  async (sim) => {
    const silent = { host: "5.44.1.99", port: 3478, transport: "udp", username: "u", password: "p" } as const;
    const both = await meetWithTurn(sim, { more: [silent] });
    const { connection, ms } = await timed(sim, both.alice, both.bob);
    expect(connection.path).toBe("relay/turn-udp");
    expect(ms).toBeLessThan(500);
    await Promise.all([both.alice.close(), both.bob.close()]);
    const alone = await meetWithTurn(sim, { alice: undefined, more: [silent], name: "other" });
    const { message } = await failureOf(openAndEcho(sim, alone.alice, alone.bob));
    expect(message).toContain("5.44.1.99:3478");
    expect(message).toContain("no TURN servers are configured there");
    await Promise.all([alone.alice.close(), alone.bob.close()]);
  },
  RANDOM,
);

simTest(
  "no TURN server on either side: the failure says what to configure",
  [1],
  async (sim) => {
    const { alice, bob } = await meetWithTurn(sim, { alice: undefined });
    const { message } = await failureOf(openAndEcho(sim, alice, bob));
    expect(message).toContain("no turnServers are configured here");
    expect(message).toContain("no TURN servers are configured there");
    expect(partOf(alice, "relay")).toMatchObject({ state: "off" });
    await Promise.all([alice.close(), bob.close()]);
  },
  RANDOM,
);

simTest(
  "a peer that allows no relays says so, after the reason why there is no direct path",
  [1],
  async (sim) => {
    const { alice, bob } = await meetWithTurn(sim, { bobConfig: { relay: "never" } });
    const { message } = await failureOf(openAndEcho(sim, alice, bob));
    expect(message).toMatch(/both sides get a random port .*relays are not allowed there/);
    await Promise.all([alice.close(), bob.close()]);
  },
  RANDOM,
);

for (const transport of ["udp", "tcp"] as const) {
  simTest(
    `a relay over ${transport} that vanishes and that nothing replaces ends the connection on both sides`,
    [1],
    async (sim) => {
      const { alice, bob, server } = await meetWithTurn(sim, { alice: transport });
      const { connection } = await timed(sim, alice, bob, { transport });
      server.sockets.close();
      await sim.sleep(120_000);
      const isGone = (node: SimNode): boolean => node.node.connections().length === 0;
      expect([isGone(alice), isGone(bob)]).toEqual([true, true]);
      await connection.pipe.closed.catch(() => undefined);
      await Promise.all([alice.close(), bob.close()]);
    },
    RANDOM,
  );
}

for (const transport of ["udp", "tcp"] as const) {
  simTest(
    `a relay over ${transport} that vanishes is replaced by one on another server`,
    [1],
    async (sim) => {
      const second = await startTurnServer(sim, "second", { delayMs: 10 });
      const { alice, bob, server } = await meetWithTurn(sim, { more: [second.at("udp")] });
      const options = transport === "tcp" ? ({ transport } as const) : {};
      const { connection } = await timed(sim, alice, bob, options);
      expect(server.sockets.server.allocations.all.size).toBe(1);
      server.sockets.close();
      await sim.sleep(40_000);
      await connection.pipe.send("ECHO still there");
      expect((await connection.pipe.recv("all", 5000))?.bytes).toEqual(Buffer.from("still there"));
      expect(second.sockets.server.allocations.all.size).toBe(1);
      await alice.node.close("bob");
      await sim.sleep(5000);
      expect(second.sockets.server.allocations.all.size).toBe(0);
      await Promise.all([alice.close(), bob.close()]);
    },
    RANDOM,
  );
}

function partOf({ node }: SimNode, name: string) {
  return node.status().find(({ part }) => part === name);
}

async function failureOf(work: Promise<unknown>): Promise<P2pdError> {
  try {
    await work;
  } catch (thrown) {
    if (thrown instanceof P2pdError) return thrown;
    throw thrown;
  }
  throw new Error("it did not fail");
}
