/** `p2pd demo` as it is typed: what it tells, what it carries, what it leaves behind, and how it ends when it fails. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runProgram } from "../../../routes/program/program.ts";
import { type TestTerminal, testTerminal } from "./test-terminal.ts";

const program = join(import.meta.dir, "../../../index.ts");
const top = mkdtempSync(join(tmpdir(), "p2pd-demo-test-"));

afterAll(() => rmSync(top, { recursive: true, force: true }));

test("a file of random octets is carried between two nodes, every step is told, and nothing is left", async () => {
  const directory = emptyDirectory();
  const child = spawn(["demo"], directory);
  const [told, complained] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  expect(complained).toBe("");
  expect(await child.exited).toBe(0);
  const steps = [
    /p2pd --stun-servers stun:127\.0\.0\.1:\d+ --mqtt-brokers mqtt:\/\/127\.0\.0\.1:\d+ --turn-servers \S+/,
    /Two nodes are up/,
    /p2pd1~/,
    /A has opened B by its id: direct\/tcp to 127\.0\.0\.1:\d+ after \d+ ms, TLS_/,
    /A sends a file of random octets, 16\.0 MiB/,
    /B has all of it after \d+\.\d\d s, \d+ MiB\/s/,
    /A has closed the connection/,
    /A has opened B through the relay: relay\/turn-\w+ to 127\.0\.0\.1:\d+ after \d+ ms, TLS_/,
    /That is closed as well/,
    /Nodes and servers are closed, and their files are removed/,
  ];
  const places = steps.map((step) => told.search(step));
  expect(places).not.toContain(-1);
  expect(places).toEqual(places.toSorted((a, b) => a - b));
  const hashes = told.match(/^ +[0-9a-f]{64}$/gm) ?? [];
  expect(hashes).toHaveLength(4);
  expect(new Set(hashes).size).toBe(1);
  expect(readdirSync(directory)).toEqual([]);
});

test("a file that is named is carried, whatever is in it and whatever is configured", async () => {
  const directory = emptyDirectory();
  const terminal = testTerminal(directory, { P2PD_INTERFACES: "none-such", P2PD_STRATEGIES: "punch" });
  const octets = new TextEncoder().encode(`ECHO ${"words ".repeat(100_000)}`);
  writeFileSync(join(directory, "letter.txt"), octets);
  expect(await runProgram(["demo", "letter.txt"], terminal)).toBe(0);
  const told = terminal.printed.join("\n");
  expect(told).toContain("A sends letter.txt, 0.6 MiB");
  expect(told.split(Bun.SHA256.hash(octets, "hex"))).toHaveLength(5);
});

test("an empty file is carried as well, and several demos at once do not meet", async () => {
  const terminals = await Promise.all(
    [1, 2, 3].map(async () => {
      const directory = emptyDirectory();
      writeFileSync(join(directory, "empty"), "");
      const terminal = testTerminal(directory);
      expect(await runProgram(["demo", "empty"], terminal)).toBe(0);
      return terminal;
    }),
  );
  const ids = terminals.flatMap(({ printed }) => printed.filter((line) => /^ +[AB] {2}A/.test(line)));
  expect(new Set(ids).size).toBe(6);
});

test.each([
  ["missing", "FILE missing cannot be read: "],
  [".", "FILE . is no file"],
])("FILE %p ends with 1 and one line, before anything is started", async (file, expected) => {
  const terminal = testTerminal(emptyDirectory());
  expect(await runProgram(["demo", file], terminal)).toBe(1);
  expect(terminal.printed).toEqual([]);
  expect(terminal.complaints).toHaveLength(1);
  expect(terminal.complaints[0]).toStartWith(`p2pd: ${expected}`);
});

test("a step that fails is named, and what was started is closed and removed", async () => {
  const file = join(top, "large");
  writeFileSync(file, new Uint8Array(16 * 1024 * 1024));
  // No file of this process may be as large as the copy would be.
  const directory = emptyDirectory();
  const child = spawn(["demo", file], directory, ["bash", "-c", 'ulimit -f 8192; exec "$@"', "bash"]);
  expect(await child.exited).toBe(1);
  expect(await new Response(child.stderr).text()).toMatch(
    /^p2pd: B's copy \S+ cannot be written: EFBIG.*\n$/,
  );
  expect(readdirSync(directory)).toEqual([]);
});

test("a signal ends it with 1 and everything removed, also while a file is on its way", async () => {
  for (const step of [/Two nodes are up/, /A sends /]) {
    const directory = emptyDirectory();
    const terminal: TestTerminal = testTerminal(directory);
    const running = runProgram(["demo"], terminal);
    await terminal.line(step);
    terminal.terminate();
    expect(await running).toBe(1);
    expect(terminal.complaints).toEqual(["p2pd: stopped by SIGTERM"]);
    expect(terminal.printed.join("\n")).not.toContain("are closed");
  }
});

function emptyDirectory(): string {
  return mkdtempSync(join(top, "d-"));
}

/** In a process whose temporary files are in `directory`. */
function spawn(words: readonly string[], directory: string, before: readonly string[] = []) {
  return Bun.spawn([...before, process.execPath, program, ...words], {
    cwd: top,
    env: { PATH: process.env["PATH"], HOME: top, TMPDIR: directory },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
}
