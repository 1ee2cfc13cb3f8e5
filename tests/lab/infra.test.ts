/**
 * `p2pd infra` on the internet of a laboratory, and two daemons behind routers that know nothing but the line it printed:
 * as a new user does it in three terminals.
 */
import { describe, expect, test } from "bun:test";
import { INTERNET, parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { type LabInfra, startLabInfra } from "./lab-infra.ts";
import { type LabNode, startLabNode } from "./lab-node.ts";
import { Lab } from "./laboratory.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const LIMIT_MS = 120_000;
const PORT = "3478";

describe.skipIf(!labEnabled)("p2pd infra", () => {
  test(
    "two daemons with the line that it printed meet by id and by address, send and close, and see where they are seen",
    async () => {
      await using lab = await Lab.create(
        twoHosts(parseRouterKind("open-internet"), parseRouterKind("port-restricted/random")),
      );
      const { infra, alice, bob } = await threeTerminals(lab);
      expect(await bob.addr()).toContain(lab.router("b").publicIp4);
      expect(await told(alice, "open", "first", bob.id)).toMatch(/^first: (reverse|punch)\/(tcp|udp) to /);
      expect(await told(bob, "open", "second", await alice.addr())).toMatch(/^second: direct\/(tcp|udp) to /);
      for (const [node, name] of [
        [alice, "first"],
        [bob, "second"],
      ] as const) {
        await node.get(`/p2p/send/${name}/ECHO%20hello`);
        expect(await node.get(`/p2p/recv/${name}?timeout=5`)).toMatchObject({ data: "hello" });
        expect(await node.get(`/p2p/close/${name}`)).toMatchObject({ error: 0, closed: name });
      }
      const status = await infra.status();
      expect(status).toMatchObject({ broker: { clients: 2 } });
      expect((status["turn"] as { bindings: number }).bindings).toBeGreaterThan(1);
      await Promise.all([alice.stop(), bob.stop()]);
      expect(await infra.stop()).toBe(0);
    },
    LIMIT_MS,
  );

  test(
    "two daemons with that line whose NATs let nothing direct through meet by its relay",
    async () => {
      const kind = parseRouterKind("symmetric/random");
      await using lab = await Lab.create(twoHosts(kind, kind));
      const { infra, alice, bob } = await threeTerminals(lab);
      expect(await told(alice, "open", "first", bob.id)).toMatch(/^first: relay\/turn-(tcp|udp) to /);
      await alice.get("/p2p/send/first/ECHO%20hello");
      expect(await alice.get("/p2p/recv/first?timeout=5")).toMatchObject({ data: "hello" });
      const { turn } = (await infra.status()) as { turn: { allocations: number; octetsToPeers: number } };
      expect(turn.allocations).toBeGreaterThan(0);
      expect(turn.octetsToPeers).toBeGreaterThan(0);
      await Promise.all([alice.stop(), bob.stop()]);
      expect(await infra.stop()).toBe(0);
    },
    LIMIT_MS,
  );

  test(
    "two daemons with that line behind routers that block UDP learn how TCP is mapped, and meet directly",
    async () => {
      const kind = parseRouterKind("blocked/random");
      await using lab = await Lab.create(twoHosts(kind, kind));
      const { infra, alice, bob } = await threeTerminals(lab);
      const { nics } = (await alice.get("/p2p/nat")) as { nics: { families: { nat: object }[] }[] };
      expect(nics[0]?.families[0]?.nat).toMatchObject({
        udp: { type: "blocked" },
        tcp: { mapping: "endpoint-independent" },
      });
      expect(await told(alice, "open", "first", await bob.addr())).toMatch(/^first: punch\/tcp to /);
      await Promise.all([alice.stop(), bob.stop()]);
      expect(await infra.stop()).toBe(0);
    },
    LIMIT_MS,
  );

  test(
    "a client behind a symmetric NAT is relayed over UDP, TCP and TCP allocations, and to no private or own address",
    async () => {
      await using lab = await Lab.create(
        twoHosts(parseRouterKind("symmetric/random"), parseRouterKind("open-internet")),
      );
      const infra = await startLabInfra(lab);
      const bob = lab.host("bob");
      bob.spawn(["turnutils_peer", "-L", bob.ip4, "-p", PORT]);
      const [, user = "", password = ""] = infra.flag("--turn-servers").split(/[:@]/);
      const client = async (peer: string, ...options: string[]): Promise<string> => {
        const words = `turnutils_uclient -u ${user} -w ${password} -p ${PORT} -n 10 -m 1 -c -e ${peer} -r ${PORT}`;
        const { stdout, stderr } = await lab
          .host("alice")
          .run([...words.split(" "), ...options, INTERNET.serverIp4(16)]);
        return stdout + stderr;
      };
      for (const options of [[], ["-t"], ["-T"]]) {
        const output = await client(bob.ip4, ...options);
        // The totals at the end: 10 for each of its connections, of which a TCP allocation has two.
        expect(output).toMatch(/: start_mclient: tot_send_msgs=([12]0), tot_recv_msgs=\1\n/);
        expect(output).toContain("Total lost packets 0 ");
      }
      // The last is another address of the server's machine.
      for (const peer of ["10.0.0.1", "127.0.0.1", INTERNET.serverIp4(20)]) {
        expect(await client(peer)).toContain("error 403");
      }
      expect(await infra.stop()).toBe(0);
    },
    LIMIT_MS,
  );

  test(
    "NAT behaviour is discovered with its two addresses as RFC 5780 has it",
    async () => {
      await using lab = await Lab.create(
        twoHosts(parseRouterKind("port-restricted"), parseRouterKind("open-internet")),
      );
      const infra = await startLabInfra(lab);
      const words = ["turnutils_natdiscovery", "-p", PORT, "-m", "-f", INTERNET.serverIp4(16)];
      const { stdout, stderr } = await lab.host("alice").run(words);
      expect(stdout + stderr).toContain("NAT with Endpoint Independent Mapping!");
      expect(stdout + stderr).toContain("NAT with Address and Port Dependent Filtering!");
      expect(await infra.stop()).toBe(0);
    },
    LIMIT_MS,
  );
});

/** Infra, and a daemon on each host that was started with nothing but its line. */
async function threeTerminals(lab: Lab): Promise<{ infra: LabInfra; alice: LabNode; bob: LabNode }> {
  for (const host of lab.hosts) {
    await host.run(["ip", "-6", "addr", "flush", "dev", "eth0", "scope", "global"]);
  }
  const infra = await startLabInfra(lab);
  const [alice, bob] = (await Promise.all(
    ["alice", "bob"].map((host) => startLabNode(lab, host, { flags: infra.clientFlags })),
  )) as [LabNode, LabNode];
  for (const node of [alice, bob]) {
    for (const part of ["stun", "nat", "brokers"]) await node.until(part, "up");
  }
  return { infra, alice, bob };
}

/** What a command of the program prints on the same host. */
async function told(node: LabNode, ...command: readonly string[]): Promise<string> {
  const child = node.start(command);
  const output = await new Response(child.stdout).text();
  expect(await child.exited).toBe(0);
  return output;
}
