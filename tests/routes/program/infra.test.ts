/** `p2pd infra` as it is typed: what it prints, how it ends, and what it says of wrong words. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runProgram } from "../../../routes/program/program.ts";
import { type TestTerminal, testTerminal } from "./test-terminal.ts";

const top = mkdtempSync(join(tmpdir(), "p2pd-infra-program-"));
const PORTS = ["--infra-port", "0", "--infra-mqtt-port", "0", "--infra-web-socket-port", "0"];
const words = ["infra", "--infra-ips", "127.0.0.1", ...PORTS, "--infra-status-port", "0"];

afterAll(() => rmSync(top, { recursive: true, force: true }));

test("it says where everything is, gives the line for clients, and ends in order when asked to", async () => {
  const terminal = testTerminal(join(top, "one"));
  const ended = runProgram(words, terminal);
  const line = await terminal.line(/^p2pd /);
  expect(line).toMatch(
    /^p2pd --stun-servers stun:127\.0\.0\.1:\d+ --mqtt-brokers mqtt:\/\/127\.0\.0\.1:\d+ --turn-servers turn:p2pd:[\w-]{24}@127\.0\.0\.1:\d+$/,
  );
  const status = /^status: (http:\S+)$/m.exec(terminal.printed.join("\n"))?.[1];
  expect((await fetch(`${status}status`)).status).toBe(200);
  terminal.terminate();
  expect(await ended).toBe(0);
  expect(await fetch(`${status}status`).then(String, () => "closed")).toBe("closed");
});

test("its settings may stand in p2pd.toml and the environment as well", async () => {
  const directory = join(top, "two");
  const terminal = testTerminal(directory, { P2PD_INFRA_SERVERS: "broker" });
  await Bun.write(join(directory, "p2pd.toml"), 'infraRealm = "mine"\ninfraMaxClients = 7\n');
  const ended = runProgram(words, terminal);
  expect(await terminal.line(/^p2pd /)).toMatch(/^p2pd --mqtt-brokers \S+$/);
  terminal.terminate();
  expect(await ended).toBe(0);
});

test.each([
  [["--infra-relay-ports", "9-1"], "expected FIRST-LAST"],
  [["--infra-allow-peers", "10.0.0.0/33"], "expected IP addresses or prefixes"],
  [["--infra-servers", "web"], "expected one or more of broker, stun, turn"],
  [["--infra-users", "nobody"], "expected USER:PASSWORD"],
  [["--infra-ips", "0.0.0.0"], "no wildcard"],
])("%p ends with 2 and one line that says what was expected", async (more, expected) => {
  const terminal: TestTerminal = testTerminal(join(top, "wrong"));
  expect(await runProgram([...words, ...more], terminal)).toBe(2);
  const complaints = terminal.complaints.filter((line) => line.startsWith("p2pd: "));
  expect(complaints).toHaveLength(1);
  expect(complaints[0]).toContain(expected);
});

test("a secret that was spoilt ends with 1 and the name of its file", async () => {
  const directory = join(top, "spoilt");
  const terminal = testTerminal(directory);
  await Bun.write(join(directory, "infra-secret"), "short");
  expect(await runProgram(words, terminal)).toBe(1);
  expect(terminal.complaints.join()).toContain("infra-secret does not hold a secret");
});
