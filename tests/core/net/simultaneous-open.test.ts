import { afterAll, expect, test } from "bun:test";

const labEnabled = process.env.P2PD_LAB === "1" && process.platform === "linux";
const left = `p2pdA${process.pid}`;
const right = `p2pdB${process.pid}`;
const worldFile = new URL("../../../core/net/real-world.ts", import.meta.url).pathname;
const credentialsFile = new URL("./credentials.ts", import.meta.url).pathname;

afterAll(() => {
  if (labEnabled) for (const name of [left, right]) Bun.spawnSync(["ip", "netns", "del", name]);
});

test.skipIf(!labEnabled)(
  "two connects through firewalls that drop what they did not ask for meet, and TLS runs in both roles",
  async () => {
    createNetwork();
    const first = runConnect(left, "10.77.0.1", "10.77.0.2", "server");
    const fromFirst = first.stdout.pipeThrough(new TextDecoderStream())[Symbol.asyncIterator]();
    // Its SYN has left and is dropped at the other side's firewall; the second one's lets both through.
    expect((await fromFirst.next()).value).toContain("SYN sent");
    const second = runConnect(right, "10.77.0.2", "10.77.0.1", "client");
    expect((await fromFirst.next()).value).toContain("heard: from client");
    expect(await new Response(second.stdout).text()).toContain("heard: from server");
  },
  20_000,
);

function createNetwork(): void {
  run("ip", "netns", "add", left);
  run("ip", "netns", "add", right);
  run("ip", "link", "add", "wire0", "netns", left, "type", "veth", "peer", "name", "wire0", "netns", right);
  for (const [name, ip] of [
    [left, "10.77.0.1/24"],
    [right, "10.77.0.2/24"],
  ] as const) {
    const inside = ["ip", "netns", "exec", name] as const;
    run(...inside, "ip", "addr", "add", ip, "dev", "wire0");
    run(...inside, "ip", "link", "set", "wire0", "up");
    const rules = "ct state established,related accept; iifname wire0 drop;";
    run(...inside, "nft", `table inet fw { chain in { type filter hook input priority 0; ${rules} }; }`);
  }
}

function runConnect(namespace: string, local: string, remote: string, role: "client" | "server") {
  const program = `
    import { createRealWorld } from ${JSON.stringify(worldFile)};
    import { createTestIdentity } from ${JSON.stringify(credentialsFile)};
    const world = createRealWorld();
    const connecting = world.connectTcp({
      local: { ip: "${local}", port: 4000 }, remote: { ip: "${remote}", port: 4000 },
      shared: true, device: "wire0", timeoutMs: 10000,
    });
    console.log("SYN sent");
    const raw = await connecting;
    const { credentials } = createTestIdentity();
    const stream = await world.secure(raw, { role: "${role}", credentials, timeoutMs: 5000 });
    stream.attach({
      data: (bytes) => console.log("heard: " + Buffer.from(bytes)),
      drain() {}, end() {}, close: () => process.exit(),
    });
    stream.write(new TextEncoder().encode("from ${role}"));
    stream.end();
  `;
  return Bun.spawn(["ip", "netns", "exec", namespace, process.execPath, "-e", program], {
    stdout: "pipe",
    stderr: "inherit",
  });
}

function run(...command: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(command);
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr.toString()}`);
}
