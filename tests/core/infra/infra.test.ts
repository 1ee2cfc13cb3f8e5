/** The servers started together: what runs, what clients are told, what is refused before anything starts. */
import { expect, test } from "bun:test";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { clientLine } from "../../../core/infra/client-line.ts";
import { startInfra } from "../../../core/infra/infra.ts";
import { createLog } from "../../../core/log.ts";
import { createRealWorld } from "../../../core/net/real-world.ts";
import { defaultConfig } from "../../../core/node/load-config.ts";
import { readTurnServer } from "../../../core/node/config-values.ts";
import { infraMetrics, infraPage, infraStatus } from "../../../routes/infra-pages.ts";
import { serveInfraStatus } from "../../../routes/infra-status.ts";
import { portOf, startTestInfra } from "./infra-options.ts";

const world = createRealWorld();
const silent = createLog({ level: "error", format: "text", wallMs: () => 0, write: () => undefined });

test("the line for clients has all three servers, with the places where they listen", async () => {
  await using running = await startTestInfra();
  const { clientLine: line } = running.infra;
  const stun = portOf(running, "stun and turn over udp");
  expect(line).toBe(
    `p2pd --stun-servers stun:127.0.0.1:${stun} --mqtt-brokers mqtt://127.0.0.1:${portOf(running, "mqtt")} ` +
      `--turn-servers turn:user:pass@127.0.0.1:${stun}`,
  );
});

test.each([
  [["broker"], ["mqtt", "mqtt over websocket"], "p2pd --mqtt-brokers mqtt://127.0.0.1:"],
  [["stun"], ["stun over udp", "stun over tcp"], "p2pd --stun-servers stun:127.0.0.1:"],
  [["turn"], ["turn over udp", "turn over tcp"], "p2pd --turn-servers turn:user:pass@127.0.0.1:"],
] as const)("of the servers %p alone can run", async (infraServers, names, line) => {
  await using running = await startTestInfra({ infraServers });
  expect(running.infra.listening.map(({ server }) => server)).toEqual([...names]);
  expect(running.infra.clientLine).toStartWith(line);
  expect(running.infra.clientLine.split(" ")).toHaveLength(3);
});

test("a password that a shell or a URL would misread is quoted in the line, and read back from it", () => {
  const user = { name: "it's", password: "a:b,c@d$(e)" };
  const line = clientLine({ stun: [], mqtt: [], turn: [{ ip: "2001:db8::1", port: 3478 }], turns: [], user });
  const printed = Bun.spawnSync([
    "sh",
    "-c",
    line.replace("p2pd --turn-servers", "printf %s"),
  ]).stdout.toString();
  expect(readTurnServer(printed)).toMatchObject({ username: user.name, password: user.password });
});

test("the password of the first user is the same after a restart; its secret is for the owner alone", async () => {
  await using running = await startTestInfra({ infraUsers: [] });
  const file = join(running.directory, "infra-secret");
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const line = running.infra.clientLine.replaceAll(/:[0-9]+(?= |$)/g, "");
  const config = defaultConfig({
    dataDir: running.directory,
    infraIps: ["127.0.0.1"],
    infraPort: 0,
    infraMqttPort: 0,
    infraWebSocketPort: 0,
  });
  const again = await startInfra(world, config, silent);
  expect(again.clientLine.replaceAll(/:[0-9]+(?= |$)/g, "")).toBe(line);
  expect(line).not.toContain(readFileSync(file, "utf8").trim());
  await again.close();
  writeFileSync(file, "nonsense");
  expect(await failureOf(startInfra(world, config, silent))).toContain("does not hold a secret");
});

test.each([
  [{ infraIps: ["127.0.0.1", "127.0.0.2", "127.0.0.3"] }, "one or two different addresses of a family"],
  [{ infraIps: ["0.0.0.0"] }, "no wildcard"],
  [{ infraPublicIps: ["5.44.0.1", "5.44.0.2"] }, "expected one address for each of 127.0.0.1"],
  [{ infraTlsCertificate: "/nowhere/cert.pem" }, "takes both infraTlsCertificate and infraTlsKey"],
  [
    { infraTlsCertificate: "/nowhere/cert.pem", infraTlsKey: "/nowhere/key.pem" },
    "/nowhere/cert.pem cannot be read",
  ],
])("%o is refused in words, and leaves nothing open", async (changes, words) => {
  expect(await failureOf(startTestInfra(changes))).toContain(words);
});

test("a port that is taken is named, and what was open is closed again", async () => {
  await using running = await startTestInfra();
  const infraPort = portOf(running, "stun and turn over udp");
  expect(await failureOf(startTestInfra({ infraPort }))).toContain(`127.0.0.1:${infraPort}`);
});

test("the status port tells page, JSON and metrics to this machine, and no password", async () => {
  await using running = await startTestInfra();
  const status = await serveInfraStatus(world, running.infra, { ip: "127.0.0.1", port: 0 });
  const base = `http://127.0.0.1:${status.local.port}`;
  const page = await (await fetch(`${base}/`)).text();
  const json = await (await fetch(`${base}/status`)).json();
  const metrics = await (await fetch(`${base}/metrics`)).text();
  expect(json).toMatchObject({ error: 0, turn: { allocations: 0 }, broker: { clients: 0, retained: 0 } });
  expect(metrics).toMatch(/^# HELP p2pd_infra_uptime_seconds .*\.\n# TYPE p2pd_infra_uptime_seconds gauge\n/);
  for (const line of metrics.trim().split("\n")) {
    expect(line).toMatch(/^(# (HELP|TYPE) \w+ .+|p2pd_infra_\w+(\{\w+="[\w ]+"\})? [0-9]+)$/);
  }
  expect(page).toContain("Allocations that stand");
  expect(page + JSON.stringify(json) + metrics).not.toContain("pass");
  expect((await fetch(`${base}/nothing`)).status).toBe(404);
  expect((await fetch(`${base}/`, { method: "POST" })).status).toBe(405);
  expect((await fetch(`${base}/`, { headers: { host: "evil.example" } })).status).toBe(403);
  const head = await fetch(`${base}/`, { method: "HEAD" });
  expect([head.status, await head.text()]).toEqual([200, ""]);
  status.close();
});

test("counts appear in all three forms under their names", async () => {
  await using running = await startTestInfra({ infraServers: ["stun", "turn"] });
  const { infra } = running;
  if (infra.turn === undefined) throw new Error("no turn");
  infra.turn.server.counts.packetsToPeers = 1234;
  infra.turn.server.counts.errors.set(486, 3);
  expect(infraMetrics(infra, 0)).toContain('p2pd_infra_turn_packets_total{to="peer"} 1234\n');
  expect(infraMetrics(infra, 0)).toContain('p2pd_infra_turn_errors_total{code="486"} 3\n');
  expect(infraPage(infra, 0)).toContain("<td>1,234</td>");
  expect(infraStatus(infra, 0)).toMatchObject({ turn: { packetsToPeers: 1234, errors: { 486: 3 } } });
});

function failureOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "nothing failed",
    (thrown: Error) => thrown.message,
  );
}
