/** An allocation that waits for its peer: who is let in, who is turned away, and how long it lasts. */
import { expect } from "bun:test";
import type { BarePath } from "../../core/connect/race.ts";
import { holdRelay, type HeldRelay } from "../../core/connect/relay-hold.ts";
import type { SecureStream } from "../../core/net/world.ts";
import { openTurn } from "../../core/turn/open-turn.ts";
import { createTestIdentity, type TestIdentity } from "../core/net/credentials.ts";
import { parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { collectStream } from "./collect-stream.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";
import { type SimTurnServer, startTurnServer } from "./turn-server.ts";

const [alice, bob, mallory] = [createTestIdentity(), createTestIdentity(), createTestIdentity()];
const topology = twoHosts(parseRouterKind("symmetric/random"), parseRouterKind("symmetric/random"));

for (const transport of ["udp", "tcp"] as const) {
  simTest(
    `over ${transport} one with another key is turned away, the peer is taken, and the end of its path ends the allocation`,
    [1, 2],
    async (sim) => {
      const { held, server, notes } = await hold(sim, transport);
      held.permit([externalIp(sim)]);
      await sim.sleep(100);
      const wrong = await come(sim, held, transport, mallory).catch(() => undefined);
      await sim.sleep(1000);
      expect(notes.join()).toContain("turned away");
      wrong?.abort();
      const far = await come(sim, held, transport, bob);
      const { stream } = await held.arrived;
      expect(stream.peerKey).toEqual(bob.key);
      expect(stream.local.ip).toBe(sim.host("alice").ip(4));
      const [here, there] = [collectStream(stream), collectStream(far)];
      stream.write(Buffer.from("to bob"));
      far.write(Buffer.from("to alice"));
      stream.end();
      far.end();
      expect(Buffer.from(await here.ended).toString()).toBe("to alice");
      expect(Buffer.from(await there.ended).toString()).toBe("to bob");
      await sim.sleep(5000);
      expect(server.sockets.server.allocations.all.size).toBe(0);
    },
    { topology },
  );

  simTest(
    `over ${transport} a second path of the peer is closed, and the first goes on`,
    [1],
    async (sim) => {
      const { held } = await hold(sim, transport);
      held.permit([externalIp(sim)]);
      await sim.sleep(100);
      const both = await Promise.all([
        come(sim, held, transport, bob),
        come(sim, held, transport, bob).catch(() => undefined),
      ]);
      const { stream } = await held.arrived;
      const heard: string[] = [];
      const closed: SecureStream[] = [];
      for (const far of both) {
        far?.attach({
          data: (bytes) => heard.push(Buffer.from(bytes).toString()),
          drain: () => undefined,
          end: () => undefined,
          close: () => closed.push(far),
        });
      }
      await sim.sleep(5000);
      stream.write(Buffer.from("still there"));
      await sim.sleep(1000);
      expect(heard).toEqual(["still there"]);
      expect(closed.length).toBe(both.filter((far) => far !== undefined).length - 1);
    },
    { topology },
  );

  simTest(
    `over ${transport} every path is given to who asks for all, and the allocation lasts as long as the last of them`,
    [1],
    async (sim) => {
      const paths: BarePath[] = [];
      const { held, server } = await hold(sim, transport, (path) => paths.push(path));
      held.permit([externalIp(sim)]);
      await sim.sleep(100);
      await Promise.all([come(sim, held, transport, bob), come(sim, held, transport, bob)]);
      await sim.sleep(1000);
      expect(paths.length).toBe(2);
      const size = (): number => server.sockets.server.allocations.all.size;
      held.close();
      paths[0]?.stream.abort();
      await sim.sleep(5000);
      expect(size()).toBe(1);
      paths[1]?.stream.abort();
      await sim.sleep(5000);
      expect(size()).toBe(0);
    },
    { topology },
  );
}

simTest(
  "one that nobody comes to is given back when it is closed, and who asks for private addresses is told",
  [1],
  async (sim) => {
    const { held, server, notes } = await hold(sim, "udp");
    held.permit(["10.0.0.1", "2a01:5a40::1"]);
    await sim.sleep(1000);
    expect(notes).toHaveLength(1);
    expect(notes[0]).toContain(
      "not let in 10.0.0.1: the TURN server 5.44.1.10:3478 does not relay to that peer",
    );
    held.close();
    await sim.sleep(1000);
    expect(server.sockets.server.allocations.all.size).toBe(0);
  },
  { topology },
);

async function hold(
  sim: Simulation,
  transport: "udp" | "tcp",
  accept?: (path: BarePath) => void,
): Promise<{ held: HeldRelay; server: SimTurnServer; notes: string[] }> {
  const server = await startTurnServer(sim);
  const { world } = sim.host("alice");
  const notes: string[] = [];
  const turn = await openTurn(world, server.at(transport), {
    relayed: transport,
    families: [4],
    localIp: sim.host("alice").ip(4),
  });
  const held = await holdRelay(world, turn, {
    transport,
    credentials: alice.credentials,
    peerKey: bob.key,
    note: (event, detail) => notes.push(`${event} ${detail}`),
    ...(accept === undefined ? {} : { accept }),
  });
  return { held, server, notes };
}

/** Connects to the relayed address from bob's host, with this key. */
async function come(
  sim: Simulation,
  { at }: HeldRelay,
  transport: "udp" | "tcp",
  { credentials }: TestIdentity,
): Promise<SecureStream> {
  const { world } = sim.host("bob");
  const common = { timeoutMs: 5000 };
  if (transport === "tcp") {
    const raw = await world.connectTcp({ remote: at, ...common });
    return world.secure(raw, { role: "client", credentials, expectedKey: alice.key, ...common });
  }
  const endpoint = await world.openQuic?.({ local: { ip: sim.host("bob").ip(4), port: 0 }, credentials });
  if (endpoint === undefined) throw new Error("there is no QUIC");
  return endpoint.connect({ remote: at, expectedKey: alice.key, ...common });
}

function externalIp(sim: Simulation): string {
  return sim.router("b").ipv4.externalIp;
}
