/** The configurations that docs/infra.md gives for servers of others, run as they stand there. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { INTERNET, parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { type LabNode, type LabNodeOptions, startLabNode } from "./lab-node.ts";
import type { LabProcess } from "./lab-process.ts";
import { Lab } from "./laboratory.ts";
import { enterNamespace, tryCommand } from "./shell.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const page = readFileSync(join(import.meta.dir, "../../docs/infra.md"), "utf8");
/** The addresses that the page uses. */
const EXAMPLES = ["192.0.2.1", "192.0.2.2"] as const;
const LIMIT_MS = 120_000;

describe.skipIf(!labEnabled)("docs/infra.md", () => {
  test(
    "its Mosquitto and its coturn serve two daemons with the lines beneath them, directly and as a relay",
    async () => {
      await using lab = await Lab.create(
        twoHosts(parseRouterKind("open-internet"), parseRouterKind("port-restricted/random")),
      );
      const path = join(lab.directory, "mosquitto.conf");
      await Bun.write(path, blockOf("mosquitto"));
      await lab.servers.start("mosquitto", ["mosquitto", "-c", path], () => lab.servers.listensTcp(1883));
      await startCoturn(lab, "coturn", 0);
      const flags = [...page.matchAll(/^ {4}p2pd (.*)$/gm)].map(([, words = ""]) => here(words));
      expect(flags).toHaveLength(2);
      const [alice, bob] = await startBoth(lab, { flags: flags.join(" ") });
      expect(await alice.get(`/p2p/open/one/${bob.id}`)).toMatchObject({ error: 0 });
      await alice.get("/p2p/close/one");
      expect(await relayed(alice, bob)).toBe("hello");
    },
    LIMIT_MS,
  );

  test(
    "its fleet of coturn relays with credentials that expire, by either server, and to no private address",
    async () => {
      const kind = parseRouterKind("symmetric/random");
      await using lab = await Lab.create(twoHosts(kind, kind));
      const broker = await lab.servers.mosquitto();
      const fleet = [
        await startCoturn(lab, "coturn-fleet", 0),
        await startCoturn(lab, "coturn-fleet", 1),
      ] as const;
      const flags = await runShell(here(blockOf("sh")));
      const brokers = [`mqtt://${broker.endpoint.ip}:1883`];
      const [alice, bob] = await startBoth(lab, { flags, brokers });
      expect(await relayed(alice, bob)).toBe("hello");
      // Each of the two alone.
      for (const server of fleet) {
        server.freeze();
        expect(await relayed(alice, bob)).toBe("hello");
        server.thaw();
      }
      const client = async (words: string): Promise<string> => {
        const command = `turnutils_uclient -n 2 -m 1 -c ${words} ${serverIp(0)}`;
        const { stdout, stderr } = await lab.host("bob").run(command.split(" "));
        return stdout + stderr;
      };
      expect(await client("-u bob -W a-long-random-secret -e 10.0.0.1")).toContain("error 403");
      expect(await client("-u bob -W another-secret -e 5.44.9.9")).toContain("Cannot complete Allocation");
    },
    LIMIT_MS,
  );
});

/** Address of a server of the lab in the place of the page's. */
function serverIp(number: 0 | 1): string {
  return INTERNET.serverIp4(16 + number);
}

function here(text: string): string {
  return text.replaceAll(EXAMPLES[0], serverIp(0)).replaceAll(EXAMPLES[1], serverIp(1));
}

/** The page's coturn at one of the two addresses. */
async function startCoturn(lab: Lab, block: string, number: 0 | 1): Promise<LabProcess> {
  const own = (name: string): string => join(lab.directory, `${name}-${number}`);
  await Bun.write(own("turnserver.conf"), blockOf(block).replaceAll(EXAMPLES[0], serverIp(number)));
  const files = ["-l", own("log"), "--pidfile", own("pid"), "--userdb", own("db")];
  const probe = [...enterNamespace(lab.internet), "bash", "-c", `exec 3<>/dev/tcp/${serverIp(number)}/3478`];
  return lab.servers.start("coturn", ["turnserver", "-c", own("turnserver.conf"), ...files], async () => {
    return (await tryCommand(probe)).code === 0;
  });
}

async function startBoth(lab: Lab, options: LabNodeOptions): Promise<readonly [LabNode, LabNode]> {
  for (const host of lab.hosts) {
    await host.run(["ip", "-6", "addr", "flush", "dev", "eth0", "scope", "global"]);
  }
  const [alice, bob] = (await Promise.all(
    ["alice", "bob"].map((host) => startLabNode(lab, host, options)),
  )) as [LabNode, LabNode];
  for (const node of [alice, bob]) for (const part of ["stun", "brokers"]) await node.until(part, "up");
  return [alice, bob];
}

/** What comes back from bob through a relay. */
async function relayed(alice: LabNode, bob: LabNode): Promise<unknown> {
  const opened = await alice.get(`/p2p/open/relayed/${bob.id}?strategies=relay&relay=first`);
  expect(opened).toMatchObject({ error: 0, strategy: "relay" });
  await alice.get("/p2p/send/relayed/ECHO%20hello");
  const { data } = await alice.get("/p2p/recv/relayed?timeout=5");
  await alice.get("/p2p/close/relayed");
  return data;
}

/** The flags that the page's lines give to the program. */
async function runShell(lines: string): Promise<string> {
  const script = `set -eu\np2pd() { printf '%s ' "$@"; }\n${lines}`;
  const child = Bun.spawn(["sh", "-c", script], { stdout: "pipe", stderr: "inherit" });
  const flags = await new Response(child.stdout).text();
  expect(await child.exited).toBe(0);
  return flags;
}

function blockOf(language: string): string {
  const part = page.slice(page.indexOf("## When to leave it"));
  const block = new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``).exec(part)?.[1];
  if (block === undefined) throw new Error(`docs/infra.md has no ${language} block`);
  return block;
}
