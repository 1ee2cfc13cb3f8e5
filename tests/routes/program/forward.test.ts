import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runProgram } from "../../../routes/program/program.ts";
import { type TestTerminal, testTerminal } from "./test-terminal.ts";

const top = mkdtempSync(join(tmpdir(), "p2pd-forward-"));
const running: { terminal: TestTerminal; ended: Promise<number> }[] = [];
const web = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("the page") });
let alice = "";
let bob = "";

beforeAll(async () => {
  [alice, bob] = (await Promise.all(["alice", "bob"].map((name) => daemon(name)))) as [string, string];
});

afterAll(async () => {
  for (const { terminal, ended } of running.toReversed()) {
    terminal.terminate();
    await ended;
  }
  await web.stop(true);
  rmSync(top, { recursive: true, force: true });
});

test("a service that one node offers is used at a port of the other, by a name of its address book", async () => {
  const id = await said(alice, ["id"]);
  expect(await said(bob, ["offer", "web", `127.0.0.1:${web.port}`, "--allow", id])).toBe(
    `web: 127.0.0.1:${web.port} is offered to ${id}`,
  );
  const address = await said(bob, ["addr"]);
  const bobId = await said(bob, ["id"]);
  expect(await said(alice, ["peers", "bob", address])).toBe(`bob  ${bobId}`);
  expect(await said(alice, ["peers"])).toBe(`bob  ${bobId}`);
  const port = await forward(alice, "bob");
  for (let i = 0; i < 3; i++) {
    const answer = await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: "close" } });
    expect(await answer.text()).toBe("the page");
  }
});

test("a peer that is not on the list is refused, and the reason is told", async () => {
  await said(bob, ["offer", "closed", `127.0.0.1:${web.port}`, "--allow", await said(bob, ["id"])]);
  const port = await forward(alice, "bob", "closed");
  const terminal = running.at(-1)?.terminal as TestTerminal;
  await fetch(`http://127.0.0.1:${port}/`).then(
    () => expect.unreachable(),
    () => undefined,
  );
  expect(terminal.complaints.join()).toContain('the service "closed" is not offered to');
});

test("what cannot be a port, an offer or a daemon is refused", async () => {
  const env = { P2PD_API_PORT: alice };
  const code = async (words: string[], own = env): Promise<number> =>
    runProgram(words, testTerminal(join(top, "client"), own));
  expect(await code(["forward", "x", "bob", "web"])).toBe(2);
  expect(await code(["offer", "web", "nowhere"])).toBe(1);
  expect(await code(["forward", "0", "bob", "web"], { P2PD_API_PORT: "1" })).toBe(1);
});

async function start(words: readonly string[], name: string, env: Record<string, string>, pattern: RegExp) {
  const terminal = testTerminal(join(top, name), env);
  const ended = runProgram(words, terminal);
  running.push({ terminal, ended });
  const line = await Promise.race([terminal.line(pattern), ended.then(() => terminal.complaints.join())]);
  return pattern.exec(line)?.[1] ?? line;
}

function daemon(name: string): Promise<string> {
  return start([], name, { P2PD_API_PORT: "0" }, /answers on http:\/\/127\.0\.0\.1:([0-9]+)\//);
}

function forward(apiPort: string, peer: string, service = "web"): Promise<string> {
  const words = ["forward", "0", peer, service];
  return start(words, "client", { P2PD_API_PORT: apiPort }, /^127\.0\.0\.1:([0-9]+) leads to /);
}

async function said(apiPort: string, words: readonly string[]): Promise<string> {
  const terminal = testTerminal(join(top, "client"), { P2PD_API_PORT: apiPort });
  expect([await runProgram(words, terminal), terminal.complaints]).toEqual([0, []]);
  return terminal.printed.join("\n");
}
