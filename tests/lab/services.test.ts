/** Real servers of one host used from another through `p2pd forward`: sshd and an HTTP server; strangers are refused. */
import { describe, expect, test } from "bun:test";
import { parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { type LabNode, startLabNode } from "./lab-node.ts";
import { meet, type Pair, withoutIp6 } from "./lab-pair.ts";
import { linesOf } from "./natbox-control.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const LIMIT_MS = 60_000;
const NATS = twoHosts(parseRouterKind("port-restricted"), parseRouterKind("open-internet"));
/** Well beyond what any buffer on the way holds. */
const OCTETS = 8 * 1024 * 1024;

describe.skipIf(!labEnabled)("servers of another host", () => {
  test(
    "sshd and an HTTP server are used through p2pd forward by the peer on the list, and by no other",
    async () => {
      await using pair = await meet(NATS, { before: withoutIp6 });
      const { alice, bob, lab } = pair;
      const file = `${lab.directory}/octets`;
      await Bun.write(file, crypto.getRandomValues(new Uint8Array(65_536)));
      await lab.host("bob").run(["truncate", "-s", String(OCTETS), file]);
      const sum = new Bun.CryptoHasher("sha256").update(await Bun.file(file).bytes()).digest("hex");
      await Promise.all([startSshd(pair), startHttp(pair, file)]);
      const allow = [alice.id];
      expect(await bob.put("/p2p/services/ssh", { to: "127.0.0.1:2200", allow })).toMatchObject({ error: 0 });
      expect(await bob.put("/p2p/services/web", { to: "127.0.0.1:8000", allow })).toMatchObject({ error: 0 });

      const addr = await bob.addr();
      await Promise.all([forward(alice, "2300", addr, "ssh"), forward(alice, "8300", addr, "web")]);
      const run = (command: string) => lab.host("alice").run(["sh", "-c", command]);
      const ssh = `ssh -p 2300 -i ${lab.directory}/user -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR root@127.0.0.1`;
      const sent = await run(`${ssh} sha256sum < ${file}`);
      expect([sent.stdout.slice(0, 64), sent.stderr]).toEqual([sum, ""]);
      const fetched = await run(`${ssh} cat ${file} | sha256sum`);
      expect(fetched.stdout.slice(0, 64)).toBe(sum);
      const web = "curl -sS --noproxy '*' --max-time 20 http://127.0.0.1:8300/";
      expect((await run(`${web} | sha256sum`)).stdout.slice(0, 64)).toBe(sum);
      // Several connections at once, each a connection of its own to the peer.
      const several = await run(`for i in 1 2 3 4 5; do ${web} | sha256sum & done; wait`);
      expect(several.stdout.trim().split("\n")).toEqual(Array(5).fill(`${sum}  -`));

      const carol = await startLabNode(lab, "alice", { name: "carol" });
      const refused = await carol.get(`/p2p/open/con/${addr}?service=ssh`);
      expect(refused["error"]).not.toBe(0);
      expect(String(refused["msg"])).toContain("the peer refused");
      await forward(carol, "8400", addr, "web");
      const stolen = await run(web.replace("8300", "8400"));
      expect([stolen.code === 0, stolen.stdout]).toEqual([false, ""]);
      console.log(`services: refused with ${JSON.stringify(refused["msg"])}`);
    },
    LIMIT_MS,
  );
});

/** Debian's sshd on loopback of Bob's host, with keys of its own. */
async function startSshd({ lab }: Pair): Promise<void> {
  const { directory } = lab;
  const host = lab.host("bob");
  for (const name of ["host", "user"]) {
    const made = await host.run([
      "ssh-keygen",
      "-q",
      "-t",
      "ed25519",
      "-N",
      "",
      "-f",
      `${directory}/${name}`,
    ]);
    expect(made.code).toBe(0);
  }
  const lines = [
    "Port 2200",
    "ListenAddress 127.0.0.1",
    `HostKey ${directory}/host`,
    `AuthorizedKeysFile ${directory}/user.pub`,
    `PidFile ${directory}/sshd.pid`,
    "PermitRootLogin yes",
    "PasswordAuthentication no",
    "StrictModes no",
    "UsePAM yes",
  ];
  await Bun.write(`${directory}/sshd_config`, `${lines.join("\n")}\n`);
  const command = `mkdir -p -m 0755 /run/sshd && exec /usr/sbin/sshd -D -e -f ${directory}/sshd_config`;
  host.spawn(["sh", "-c", command]);
  await listens(host, 2200);
}

async function startHttp({ lab }: Pair, file: string): Promise<void> {
  const host = lab.host("bob");
  const code = `Bun.serve({ hostname: "127.0.0.1", port: 8000, fetch: () => new Response(Bun.file(${JSON.stringify(file)})) })`;
  host.spawn([process.execPath, "-e", code]);
  await listens(host, 8000);
}

async function listens(host: ReturnType<Pair["lab"]["host"]>, port: number): Promise<void> {
  const probe = ["bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/${port}`];
  while ((await host.run(probe)).code !== 0) await Bun.sleep(25);
}

/** Resolves when the forwarding says that it listens. */
async function forward(node: LabNode, port: string, peer: string, service: string): Promise<void> {
  const { stdout } = node.start(["forward", port, peer, service]);
  const { value } = await linesOf(stdout)[Symbol.asyncIterator]().next();
  expect(value).toContain(`127.0.0.1:${port} leads to ${service}`);
}
