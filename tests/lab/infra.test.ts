/**
 * `p2pd infra` on the internet of a laboratory, and two daemons behind routers that know nothing but the line it printed:
 * as a new user does it in three terminals.
 */
import { describe, expect, test } from "bun:test";
import { INTERNET, parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { startLabInfra } from "./lab-infra.ts";
import { type LabNode, startLabNode } from "./lab-node.ts";
import { Lab } from "./laboratory.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const LIMIT_MS = 120_000;
const PORT = "3478";

describe.skipIf(!labEnabled)("p2pd infra", () => {
  test(
    "two daemons with the line that it printed meet by id, and see where they are seen",
    async () => {
      await using lab = await Lab.create(
        twoHosts(parseRouterKind("open-internet"), parseRouterKind("port-restricted/random")),
      );
      for (const host of lab.hosts) {
        await host.run(["ip", "-6", "addr", "flush", "dev", "eth0", "scope", "global"]);
      }
      const infra = await startLabInfra(lab);
      const options = { brokers: [infra.flag("--mqtt-brokers")], stun: infra.flag("--stun-servers") };
      const [alice, bob] = (await Promise.all(
        ["alice", "bob"].map((host) => startLabNode(lab, host, options)),
      )) as [LabNode, LabNode];
      for (const node of [alice, bob]) {
        await node.until("stun", "up");
        await node.until("brokers", "up");
      }
      expect(await bob.addr()).toContain(lab.router("b").publicIp4);
      const opened = await alice.get(`/p2p/open/con/${bob.id}`);
      expect(opened).toMatchObject({ error: 0, strategy: "reverse", peer: { id: bob.id } });
      await alice.get("/p2p/send/con/ECHO%20hello");
      expect(await alice.get("/p2p/recv/con?timeout=5")).toMatchObject({ data: "hello" });
      const status = await infra.status();
      expect(status).toMatchObject({ broker: { clients: 2 } });
      expect((status["turn"] as { bindings: number }).bindings).toBeGreaterThan(1);
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
        expect(await client(bob.ip4, ...options)).toContain("tot_send_msgs=10, tot_recv_msgs=10");
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
