/** The configurations that docs/infra.md gives for servers of others, run as they stand there. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { INTERNET, parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { type LabNode, startLabNode } from "./lab-node.ts";
import { Lab } from "./laboratory.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const page = readFileSync(join(import.meta.dir, "../../docs/infra.md"), "utf8");
/** The address that the page uses. */
const EXAMPLE = "192.0.2.1";

describe.skipIf(!labEnabled)("docs/infra.md", () => {
  test("its Mosquitto and its coturn serve two daemons and a TURN client with the lines beneath them", async () => {
    await using lab = await Lab.create(
      twoHosts(parseRouterKind("open-internet"), parseRouterKind("port-restricted/random")),
    );
    const ip = INTERNET.serverIp4(16);
    const here = (text: string): string => text.replaceAll(EXAMPLE, ip);
    const files = {
      mosquitto: join(lab.directory, "mosquitto.conf"),
      coturn: join(lab.directory, "turn.conf"),
    };
    for (const name of ["mosquitto", "coturn"] as const) await Bun.write(files[name], here(blockOf(name)));
    await lab.servers.start("mosquitto", ["mosquitto", "-c", files.mosquitto], () =>
      lab.servers.listensTcp(1883),
    );
    const own = `-n -l ${lab.directory}/log --pidfile ${lab.directory}/pid --userdb ${lab.directory}/db`;
    const coturn = ["turnserver", "-c", files.coturn, ...own.split(" ").slice(1)];
    await lab.servers.start("coturn", coturn, () => lab.servers.listensTcp(3478));

    const options = { brokers: [here(flagOf("--mqtt-brokers"))], stun: here(flagOf("--stun-servers")) };
    const [alice, bob] = (await Promise.all(
      ["alice", "bob"].map((host) => startLabNode(lab, host, options)),
    )) as [LabNode, LabNode];
    for (const node of [alice, bob]) {
      await node.until("stun", "up");
      await node.until("brokers", "up");
    }
    expect(await alice.get(`/p2p/open/con/${bob.id}`)).toMatchObject({ error: 0 });

    const [, user = "", password = ""] = flagOf("--turn-servers").split(/[:@]/);
    const peer = lab.host("alice");
    peer.spawn(["turnutils_peer", "-L", peer.ip4, "-p", "3478"]);
    const words = `turnutils_uclient -u ${user} -w ${password} -n 10 -m 1 -c -e ${peer.ip4} -r 3478 ${ip}`;
    const { stdout, stderr } = await lab.host("bob").run(words.split(" "));
    expect(stdout + stderr).toContain("tot_send_msgs=10, tot_recv_msgs=10");
  }, 120_000);
});

function blockOf(language: string): string {
  const block = new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``).exec(page)?.[1];
  if (block === undefined) throw new Error(`docs/infra.md has no ${language} block`);
  return block;
}

/** The value of a flag in the command lines that are indented below the configurations. */
function flagOf(flag: string): string {
  const value = new RegExp(`^    p2pd .*${flag} (\\S+)`, "m").exec(
    page.slice(page.indexOf("When to leave")),
  )?.[1];
  if (value === undefined) throw new Error(`docs/infra.md has no line with ${flag}`);
  return value;
}
