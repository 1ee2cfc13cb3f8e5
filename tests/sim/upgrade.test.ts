/** Connections that begin on a relay and go over to a direct path, with every octet in its place. */
import { afterAll, beforeAll, expect } from "bun:test";
import { loadSignaling } from "../../core/signal/signaling.ts";
import { twoHosts } from "../nat/topologies.ts";
import { nat } from "./punch-site.ts";
import { meetWithTurn } from "./relay-site.ts";
import { simTest } from "./sim-test.ts";
import { connect, talk } from "./talk.ts";

const SEEDS = [1, 2];
const lines: string[] = [];

beforeAll(loadSignaling);
afterAll(() => console.log(lines.join("\n")));

simTest(
  "what a relay began the punch behind it takes over, and the relay is given back",
  SEEDS,
  async (sim) => {
    const { alice, bob, server } = await meetWithTurn(sim, { config: { relay: "first" } });
    const [near, far] = await connect(alice, bob);
    expect(near.strategy).toBe("relay");
    const conversation = talk(sim, [near.pipe, far.pipe]);
    const began = sim.scheduler.nowMs;
    while (near.strategy === "relay" && sim.scheduler.nowMs - began < 10_000) await sim.sleep(10);
    lines.push(`${near.path} after ${(sim.scheduler.nowMs - began).toFixed(0)} ms on a relay`);
    expect(near.strategy).toBe("punch");
    await sim.sleep(2000);
    expect(far.path).toBe(near.path);
    expect(near.timeline.at(-1)).toMatchObject({ event: "moved", detail: "nothing was interrupted" });
    await conversation.finish();
    await sim.sleep(5000);
    expect(server.sockets.server.allocations.all.size).toBe(0);
    await Promise.all([alice.close(), bob.close()]);
  },
  { topology: twoHosts(nat("symmetric/random"), nat("port-restricted/equal")) },
);

simTest(
  "a relayed connection goes on looking, and takes the direct path that appears later",
  SEEDS,
  async (sim) => {
    const { alice, bob, server } = await meetWithTurn(sim);
    const [near, far] = await connect(alice, bob);
    expect(near.strategy).toBe("relay");
    const conversation = talk(sim, [near.pipe, far.pipe]);
    await sim.sleep(40_000);
    expect(near.strategy).toBe("relay");
    const { ipv4 } = sim.router("b");
    for (const protocol of ["tcp", "udp"] as const)
      ipv4.forwardPort(0, protocol, 10_001, { ip: sim.host("bob").ip(4), port: 10_001 }, 36_000_000);
    const began = sim.scheduler.nowMs;
    while (near.strategy === "relay" && sim.scheduler.nowMs - began < 120_000) await sim.sleep(100);
    lines.push(`${near.path} ${(sim.scheduler.nowMs - began).toFixed(0)} ms after a port was forwarded`);
    expect(near.strategy).toBe("direct");
    expect(sim.scheduler.nowMs - began).toBeLessThan(75_000);
    await conversation.finish();
    await sim.sleep(5000);
    expect(server.sockets.server.allocations.all.size).toBe(0);
    await Promise.all([alice.close(), bob.close()]);
  },
  { topology: twoHosts(nat("symmetric/random"), nat("symmetric/random")) },
);

simTest(
  "a relay that is lost is replaced by another path",
  SEEDS,
  async (sim) => {
    const { alice, bob } = await meetWithTurn(sim);
    const [near, far] = await connect(alice, bob);
    const conversation = talk(sim, [near.pipe, far.pipe]);
    await sim.sleep(2000);
    sim.router("a").reboot();
    const began = sim.scheduler.nowMs;
    await conversation.caughtUp(60_000);
    lines.push(
      `relay again ${(sim.scheduler.nowMs - began).toFixed(0)} ms after a router forgot its mappings`,
    );
    await conversation.finish();
    await Promise.all([alice.close(), bob.close()]);
  },
  { topology: twoHosts(nat("symmetric/random"), nat("symmetric/random")) },
);
