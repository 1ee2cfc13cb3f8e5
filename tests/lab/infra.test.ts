/**
 * `p2pd infra` on the internet of a laboratory, and two daemons behind routers that know nothing but the line it printed:
 * as a new user does it in three terminals.
 */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { INTERNET, parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { type LabNode, startLabNode } from "./lab-node.ts";
import { Lab } from "./laboratory.ts";
import { linesOf } from "./natbox-control.ts";
import { enterNamespace } from "./shell.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const LIMIT_MS = 120_000;
const PROGRAM = join(import.meta.dir, "../../index.ts");
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
      const infra = await startInfra(lab);
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
      await infra.stop();
    },
    LIMIT_MS,
  );

  test(
    "a client behind a symmetric NAT is relayed over UDP, TCP and TCP allocations, and to no private or own address",
    async () => {
      await using lab = await Lab.create(
        twoHosts(parseRouterKind("symmetric/random"), parseRouterKind("open-internet")),
      );
      const infra = await startInfra(lab);
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
      await infra.stop();
    },
    LIMIT_MS,
  );

  test(
    "NAT behaviour is discovered with its two addresses as RFC 5780 has it",
    async () => {
      await using lab = await Lab.create(
        twoHosts(parseRouterKind("port-restricted"), parseRouterKind("open-internet")),
      );
      const infra = await startInfra(lab);
      const words = ["turnutils_natdiscovery", "-p", PORT, "-m", "-f", INTERNET.serverIp4(16)];
      const { stdout, stderr } = await lab.host("alice").run(words);
      expect(stdout + stderr).toContain("NAT with Endpoint Independent Mapping!");
      expect(stdout + stderr).toContain("NAT with Address and Port Dependent Filtering!");
      await infra.stop();
    },
    LIMIT_MS,
  );
});

interface LabInfra {
  /** The value of a flag in the printed line. */
  flag(name: string): string;
  status(): Promise<Record<string, unknown>>;
  /** Asks it to end; fails unless it ends well. */
  stop(): Promise<void>;
}

async function startInfra(lab: Lab): Promise<LabInfra> {
  const inside = enterNamespace(lab.internet);
  const ips = [INTERNET.serverIp4(16), INTERNET.serverIp4(17), INTERNET.serverIp6(16)].join(",");
  const child = Bun.spawn(
    [
      ...inside,
      process.execPath,
      PROGRAM,
      "infra",
      "--infra-ips",
      ips,
      "--data-dir",
      join(lab.directory, "infra"),
    ],
    {
      stdout: "pipe",
      stderr: "inherit",
      env: { ...process.env, P2PD_LOG_LEVEL: "error" },
      cwd: lab.directory,
    },
  );
  let line = "";
  for await (const one of linesOf(child.stdout)) {
    line = one;
    if (one.startsWith("p2pd ")) break;
  }
  const words = line.split(" ");
  return {
    flag(name) {
      const value = words[words.indexOf(name) + 1]?.replaceAll("'", "").split(",")[0];
      if (value === undefined || value === "p2pd") throw new Error(`${name} is not in: ${line}`);
      return value;
    },
    async status() {
      const get = `exec 3<>/dev/tcp/127.0.0.1/12380; printf 'GET /status HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3`;
      const output = await new Response(Bun.spawn([...inside, "bash", "-c", get]).stdout).text();
      return JSON.parse(output.slice(output.indexOf("\r\n\r\n"))) as Record<string, unknown>;
    },
    async stop() {
      child.kill("SIGTERM");
      expect(await child.exited).toBe(0);
    },
  };
}
