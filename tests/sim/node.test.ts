/** Whole nodes in the simulation: everything above the World is what users run. */
import { expect, test } from "bun:test";
import type { Connection } from "../../core/node/node-api.ts";
import { carrierNat, parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { codeOf } from "./code-of.ts";
import { runSim } from "./run-sim.ts";
import { startSimNode } from "./sim-node.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";
import { startStunServer } from "./stun-server.ts";

const firewalled = parseRouterKind("port-restricted/equal");
const open = parseRouterKind("open-internet");

simTest(
  "self is opened through the node's own listener, and echoes",
  [1, 2],
  async (sim) => {
    const alice = await startSimNode(sim.host("alice"));
    const connection = await alice.node.open("me", "self");
    expect(await ask(connection, "ECHO hello")).toBe("hello");
    await alice.close();
  },
  { topology: twoHosts(firewalled, firewalled) },
);

simTest(
  "a node opens another by its address and they talk; the other finds it in its queue",
  [1, 2],
  async (sim) => {
    const [alice, bob] = [await startSimNode(sim.host("alice")), await startSimNode(sim.host("bob"))];
    const opened = await bob.node.open("alice", alice.node.address());
    expect(opened.peer.id).toBe(alice.node.id);
    expect(await ask(opened, "ECHO still nobody")).toBe("still nobody");
    const accepted = await alice.node.accept(1000);
    expect(accepted?.peer.id).toBe(bob.node.id);
    const heard = opened.pipe.recv("all", 1000);
    await accepted?.pipe.send("now somebody");
    expect(new TextDecoder().decode((await heard).bytes)).toBe("now somebody");
    await Promise.all([alice.close(), bob.close()]);
  },
  { topology: twoHosts(open, firewalled) },
);

simTest(
  "a node behind a NAT learns its outside address, and cannot be opened from outside",
  [1],
  async (sim) => {
    const host = sim.addServer("stun", { addresses: 2 });
    sim.names.set("stun.example.org", [host.ip(), host.ip(6)]);
    await startStunServer(host.world, { addresses: [host.ip()] });
    const stunServers = [{ host: "stun.example.org", port: 3478 }];
    const alice = await startSimNode(sim.host("alice"), { stunServers });
    const bob = await startSimNode(sim.host("bob"));
    await sim.sleep(10_000);
    expect(JSON.stringify(alice.node.status())).toContain(sim.router("carrier").ipv4.externalIp);
    expect(await codeOf(bob.node.open("alice", alice.node.address()))).toBe("connect-failed");
    await Promise.all([alice.close(), bob.close()]);
  },
  { topology: carrierNat(firewalled, firewalled, firewalled) },
);

test("two nodes that talk leave the same trace twice", async () => {
  const run = async (): Promise<string> => {
    const topology = twoHosts(open, firewalled);
    const { sim } = await runSim({ seed: 4, topology }, twoNodes);
    return `${sim.trace.count} ${sim.trace.digest}`;
  };
  expect(await run()).toBe(await run());
});

async function twoNodes(sim: Simulation): Promise<void> {
  const [alice, bob] = [await startSimNode(sim.host("alice")), await startSimNode(sim.host("bob"))];
  const opened = await bob.node.open("alice", alice.node.address(), { service: "echo" });
  await opened.pipe.send(new Uint8Array(100_000));
  await sim.sleep(5000);
  await Promise.all([alice.close(), bob.close()]);
}

async function ask({ pipe }: Connection, question: string): Promise<string> {
  await pipe.send(question);
  const answer = await pipe.recv("all", 5000);
  return new TextDecoder().decode(answer.bytes);
}
