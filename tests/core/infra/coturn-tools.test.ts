/**
 * Our servers under clients that other people wrote: coturn's and mosquitto's, over real sockets of this machine. Needs
 * `turnutils_*`, `mosquitto_*` and `openssl`; runs where P2PD_LAB=1.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../signal/brokers.ts";
import { portOf, startTestInfra, type TestInfra } from "./infra-options.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const SECRET = "shared-secret";
const LIMIT_MS = 60_000;

describe.skipIf(!labEnabled)("under coturn's tools", () => {
  let running: TestInfra;
  let directory: string | undefined;
  let peer: Bun.Subprocess;
  let peerPort = "";

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "p2pd-tools-"));
    const [key, certificate] = [join(directory, "key.pem"), join(directory, "cert.pem")];
    const request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    await run([...request.split(" "), "-subj", "/CN=turn", "-keyout", key, "-out", certificate]);
    running = await startTestInfra({
      infraIps: ["127.0.0.1", "127.0.0.2", "::1"],
      infraAllowPeers: [
        { ip: "127.0.0.0", prefixLength: 8 },
        { ip: "::1", prefixLength: 128 },
      ],
      infraSecret: SECRET,
      infraTlsCertificate: certificate,
      infraTlsKey: key,
    });
    peerPort = String(await freePort());
    peer = Bun.spawn(["turnutils_peer", "-L", "127.0.0.1", "-L", "::1", "-p", peerPort], {
      stdout: "ignore",
      stderr: "ignore",
    });
  }, LIMIT_MS);

  afterAll(async () => {
    peer?.kill();
    await peer?.exited;
    await running?.[Symbol.asyncDispose]();
    if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
  });

  test.concurrent.each([
    ["channels over UDP", []],
    ["indications over UDP", ["-s"]],
    ["channels over TCP", ["-t"]],
    ["indications over TCP", ["-t", "-s"]],
    ["channels over TLS", ["-t", "-S"]],
    ["TCP allocations", ["-T"]],
    ["TCP allocations over TLS", ["-T", "-S"]],
    ["both families at once", ["-X"]],
    ["an even port without a reserved one", ["-c"]],
    ["indications that forbid fragments", ["-g", "-s"]],
    ["datagrams of 1400 octets", ["-l", "1400"]],
  ] as const)(
    "turnutils_uclient gets back every message: %s",
    async (_, options) => {
      const output = await uclient(running, ["-u", "user", "-w", "pass", ...options], peerPort);
      expect(output).toMatch(/tot_send_msgs=20, tot_recv_msgs=20\b/);
      expect(output).toContain("Total lost packets 0 ");
    },
    LIMIT_MS,
  );

  test(
    "turnutils_uclient with a credential that expires, made of the shared secret",
    async () => {
      const output = await uclient(running, ["-u", "bob", "-W", SECRET], peerPort);
      expect(output).toContain("Total lost packets 0 ");
      expect(running.log.some((line) => /allocation made.*user="[0-9]+:bob"/.test(line))).toBe(true);
    },
    LIMIT_MS,
  );

  test(
    "turnutils_uclient with a wrong password gets nothing",
    async () => {
      const output = await uclient(running, ["-u", "user", "-w", "wrong"], peerPort);
      expect(output).toContain("Cannot complete Allocation");
    },
    LIMIT_MS,
  );

  test(
    "turnutils_stunclient and turnutils_natdiscovery see what RFC 5780 promises",
    async () => {
      const port = String(portOf(running, "stun and turn over udp"));
      const stun = await run(["turnutils_stunclient", "-p", port, "127.0.0.1"]);
      expect(stun).toMatch(/UDP reflexive addr: 127\.0\.0\.1:[0-9]+/);
      const other = /Other addr: : (127\.0\.0\.2:[0-9]+)/.exec(stun)?.[1];
      const found = await run(["turnutils_natdiscovery", "-p", port, "-m", "-f", "-P", "127.0.0.1"]);
      expect(found).toContain("NAT with Endpoint Independent Mapping!");
      expect(found).toContain("NAT with Endpoint Independent Filtering!");
      expect(found).toContain(`Response origin: : ${other}`);
    },
    LIMIT_MS,
  );

  test(
    "mosquitto_sub hears what mosquitto_pub says, and what it retained",
    async () => {
      const at = ["-h", "127.0.0.1", "-p", String(portOf(running, "mqtt")), "-q", "2"];
      await run(["mosquitto_pub", ...at, "-t", "kept", "-m", "for later", "-r"]);
      expect(await run(["mosquitto_sub", ...at, "-t", "kept", "-C", "1"])).toBe("for later\n");
      const sub = Bun.spawn(["mosquitto_sub", ...at, "-t", "live", "-t", "kept", "-C", "2"], {
        stdout: "pipe",
      });
      const reader = sub.stdout.getReader();
      // The retained message says that the subscriptions stand.
      expect(Buffer.from((await reader.read()).value ?? []).toString()).toBe("for later\n");
      await run(["mosquitto_pub", ...at, "-t", "live", "-m", "now"]);
      expect(Buffer.from((await reader.read()).value ?? []).toString()).toBe("now\n");
      expect(await sub.exited).toBe(0);
    },
    LIMIT_MS,
  );
});

function uclient(running: TestInfra, options: readonly string[], peerPort: string): Promise<string> {
  const port = portOf(running, `stun and turn over ${options.includes("-S") ? "tls" : "udp"}`);
  const base = ["-p", String(port), "-e", "127.0.0.1", "-r", peerPort, "-n", "10", "-m", "2"];
  return run(["turnutils_uclient", ...base, ...options, "127.0.0.1"]);
}

/** What a command says, whatever its exit code. */
async function run(command: readonly string[]): Promise<string> {
  const child = Bun.spawn([...command], { stdout: "pipe", stderr: "pipe" });
  const [out, errors] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  await child.exited;
  return out + (command[0]?.startsWith("mosquitto") === true ? "" : errors);
}
