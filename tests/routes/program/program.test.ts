import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runProgram } from "../../../routes/program/program.ts";
import { type TestTerminal, testTerminal } from "./test-terminal.ts";

const top = mkdtempSync(join(tmpdir(), "p2pd-program-"));
const apiSocket = join(top, "api.sock");
let directories = 0;
/** The daemon that the commands below are clients of, in this process. */
let daemon: TestTerminal;
let ended: Promise<number>;
let port = "";

beforeAll(async () => {
  daemon = testTerminal(join(top, "daemon"), {
    P2PD_API_PORT: "0",
    P2PD_API_TOKEN: "a-token",
    P2PD_API_SOCKET: apiSocket,
  });
  ended = runProgram([], daemon);
  const line = await Promise.race([daemon.line(/ answers on /), ended.then(() => daemon.complaints.join())]);
  port = /:([0-9]+)\//.exec(line)?.[1] ?? line;
});

afterAll(async () => {
  daemon.terminate();
  await ended;
  rmSync(top, { recursive: true, force: true });
});

test("the daemon says where it answers and which node it is", () => {
  expect(daemon.printed[0]).toMatch(
    /^P2PD [0-9.]+ answers on http:\/\/127\.0\.0\.1:[0-9]+\/ \(node A[A-Za-z0-9_-]{43}\)$/,
  );
});

test("id and addr are those of the running daemon", async () => {
  const id = await client(["id"]);
  expect(id.printed).toEqual([/node (\S+)\)/.exec(daemon.printed[0] as string)?.[1] as string]);
  const { printed } = await client(["addr"]);
  expect(printed[0]).toContain(id.printed[0] as string);
  const explained = await client(["addr", printed[0] as string]);
  expect(explained.printed[0]).toMatch(new RegExp(`^id +${id.printed[0]}  the node`, "m"));
});

test("nat says what is known, in words and as JSON, and fails where nothing is", async () => {
  const words = await client(["nat"], 1);
  expect(words.printed.join("\n")).toMatch(/no stunServers are configured|No NIC leads to a server/);
  const json = await client(["nat", "--json"], 1);
  expect(JSON.parse(json.printed.join("\n"))).toEqual({ nics: expect.any(Array), advice: [] });
});

test("open leaves a connection of that name with the daemon", async () => {
  const { printed } = await client(["open", "mine", "self"]);
  expect(printed[0]).toMatch(/^mine: direct\/tcp to \S+:[0-9]+, TLS_/);
  expect(printed[1]).toMatch(/^ +[0-9.]+ ms  direct   127\.0\.0\.1:[0-9]+\/tcp  connecting: this machine$/);
  expect(printed.join("\n")).toMatch(/ ms  direct .* authenticated: TLS_/);
  const again = await client(["open", "mine", "self"], 1);
  expect(again.complaints).toHaveLength(1);
  expect(again.complaints[0]).toMatch(/^p2pd: .*mine/);
  const wrong = await client(["open", "other", "self", "--service", "no-such"], 1);
  expect(wrong.complaints[0]).toContain("no-such");
  expect(wrong.printed.at(-1)).toMatch(/ ms  direct .* refused: this node offers no service "no-such"$/);
});

test("nc carries standard input through the daemon to a service and back", async () => {
  const sent = crypto.getRandomValues(new Uint8Array(60_000));
  const { bytes } = await client(["nc", "self", "--service", "echo"], 0, sent);
  expect(Buffer.compare(bytes(), sent)).toBe(0);
  const answer = await fetch(`http://127.0.0.1:${port}/p2p/cons`, {
    headers: { authorization: "Bearer a-token" },
  });
  expect(await answer.text()).not.toContain("nc-");
});

test("nc works without a daemon, through a node of its own", async () => {
  const sent = crypto.getRandomValues(new Uint8Array(60_000));
  const terminal = await run(["nc", "self", "--service", "echo"], 0, { P2PD_API_PORT: "1" }, sent);
  expect(Buffer.compare(terminal.bytes(), sent)).toBe(0);
});

test("at a terminal nc ends when the peer has ended", async () => {
  const input = new ReadableStream<Uint8Array>({
    start: (controller) => {
      controller.enqueue(new TextEncoder().encode("x"));
    },
  });
  const terminal = testTerminal(directory(), clientEnv(), input, true);
  const running = runProgram(["nc", "self", "--service", "echo"], terminal);
  const headers = { authorization: "Bearer a-token" };
  const api = `http://127.0.0.1:${port}/p2p`;
  let name = "";
  while (name === "" || terminal.bytes().length === 0) {
    name = /"name":"(nc-[^"]+)"/.exec(await (await fetch(`${api}/cons`, { headers })).text())?.[1] ?? "";
  }
  await fetch(`${api}/con/${name}`, { method: "DELETE", headers });
  expect([0, 1]).toContain(await running);
});

test("id and addr are known without a daemon, and stay the same", async () => {
  const own = directory();
  const env = { P2PD_API_PORT: "1", P2PD_DATA_DIR: own };
  const id = (await run(["id"], 0, env)).printed[0] as string;
  expect(id).toMatch(/^A[A-Za-z0-9_-]{43}$/);
  expect((await run(["addr"], 0, env)).printed[0]).toContain(id);
  expect((await run(["id"], 0, env)).printed[0]).toBe(id);
});

test("portmap tells in words, anew on demand, or as the API does", async () => {
  const off = ["port mapping is switched off (portMapping)"];
  expect((await client(["portmap"])).printed).toEqual(off);
  expect((await client(["portmap", "--refresh"])).printed).toEqual(off);
  const { printed } = await client(["portmap", "--json"]);
  expect(JSON.parse(printed.join("\n"))).toMatchObject({ error: 0, state: "off", places: [], summary: off });
});

test("open without a daemon says how to start one", async () => {
  const { complaints } = await run(["open", "a", "self"], 1, { P2PD_API_PORT: "1" });
  expect(complaints).toEqual(["p2pd: no daemon answers on http://127.0.0.1:1/; `p2pd` starts one"]);
});

test("a wrong token is told in the daemon's words", async () => {
  for (const words of [["addr"], ["open", "a", "self"], ["nc", "self"]]) {
    const { complaints } = await run(words, 1, { P2PD_API_PORT: port, P2PD_API_TOKEN: "another" });
    expect(complaints[0]).toMatch(/token/i);
  }
});

test("what answers without being P2PD is recognised", async () => {
  for (const body of ["<html>", "[1]", "{}"]) {
    using server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response(body) });
    const { complaints } = await run(["addr"], 1, { P2PD_API_PORT: String(server.port) });
    expect(complaints[0]).toContain("is not P2PD");
  }
});

test("a pipe that the daemon refuses ends nc with the daemon's words", async () => {
  const raddr = ["127.0.0.1", 1];
  for (const said of ["the connection was closed meanwhile", undefined]) {
    using server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: (request) =>
        request.url.includes("/pipe/")
          ? Response.json({ error: 20, msg: said }, { status: 410 })
          : Response.json({ error: 0, raddr }),
    });
    const { complaints } = await run(["nc", "self"], 1, { P2PD_API_PORT: String(server.port) });
    expect(complaints[0]).toContain(said ?? "refused the pipe");
  }
});

test("a daemon that hangs up is told from one that does not run", async () => {
  using listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { open: (socket) => void socket.end(), data: () => undefined },
  });
  const { complaints } = await run(["addr"], 1, { P2PD_API_PORT: String(listener.port) });
  expect(complaints[0]).toContain("did not answer");
});

test("the local socket serves commands as the port does, without a token", async () => {
  expect(daemon.printed).toContain(`api: answers on ${apiSocket} as well`);
  const sent = crypto.getRandomValues(new Uint8Array(1000));
  const { bytes } = await run(["nc", "self", "--service", "echo"], 0, { P2PD_API_SOCKET: apiSocket }, sent);
  expect(Buffer.compare(bytes(), sent)).toBe(0);
});

test.each([
  [["fly"], "unknown command 'fly'"],
  [["adr"], "unknown command 'adr'; did you mean addr?"],
  [["--api-prot", "1"], "unknown option '--api-prot' (Did you mean --api-port?)"],
  [["--api-port"], "argument missing"],
  [["open", "a"], "missing required argument 'ADDR'"],
  [["nc", "a", "b"], "too many arguments"],
  [["--api-port", "x"], 'flag: --api-port is "x"; expected a port'],
  [["id", "--log-level", "loud"], "flag: --log-level"],
])("the words %p are refused in one line, with exit code 2", async (words, reason) => {
  const { complaints } = await run(words, 2);
  expect(complaints).toHaveLength(1);
  expect(complaints[0]).toStartWith("p2pd: ");
  expect(complaints[0]).toContain(reason);
});

test("a failure shows where it came from at log level debug alone", async () => {
  const words = ["addr", "p2pd1~nothing"];
  expect((await run(words, 1)).complaints).toHaveLength(1);
  const { complaints } = await run([...words, "--log-level", "debug"], 1);
  expect(complaints.join("\n")).toMatch(/\n\s+at /);
});

test("help lists the commands and every setting, and version is one line", async () => {
  const { printed } = await run(["--help"], 0);
  for (const word of ["addr", "id", "open", "nc", "--relay-after-ms", "--api-token"]) {
    expect(printed.join("\n")).toContain(word);
  }
  expect((await run(["--version"], 0)).printed[0]).toMatch(/^[0-9]+\.[0-9]+\.[0-9]+$/);
  expect((await run(["nc", "--help"], 0)).printed.join("\n")).toContain("--service");
});

test("a taken port, an unusable directory and a corrupt key end the daemon with a reason", async () => {
  const taken = await run([], 1, { P2PD_API_PORT: port });
  expect(taken.complaints[0]).toContain(`127.0.0.1:${port}`);
  const file = join(top, "a-file");
  writeFileSync(file, "");
  const unusable = await run([], 2, { P2PD_API_PORT: "0", P2PD_DATA_DIR: join(file, "node") });
  expect(unusable.complaints[0]).toContain(join(file, "node"));
  const own = directory();
  await run(["id"], 0, { P2PD_API_PORT: "1", P2PD_DATA_DIR: own });
  writeFileSync(join(own, "node-key.pem"), "rubbish");
  const corrupt = await run([], 1, { P2PD_API_PORT: "0", P2PD_DATA_DIR: own });
  expect(corrupt.complaints).toHaveLength(1);
  expect(corrupt.complaints[0]).toContain(join(own, "node-key.pem"));
});

test("an unknown variable is a warning in the log", async () => {
  const { complaints } = await run(["id"], 0, { P2PD_API_PORT: "1", P2PD_API_PROT: "1" });
  expect(complaints[0]).toContain("did you mean P2PD_API_PORT?");
});

function directory(): string {
  return mkdtempSync(join(top, `${directories++}-`));
}

function clientEnv(): Record<string, string> {
  return { P2PD_API_PORT: port, P2PD_API_TOKEN: "a-token" };
}

/** Runs a command as a client of the daemon. */
function client(words: readonly string[], code = 0, input?: Uint8Array): Promise<TestTerminal> {
  return run(words, code, clientEnv(), input);
}

async function run(
  words: readonly string[],
  code: number,
  env: Readonly<Record<string, string>> = {},
  input?: Uint8Array,
): Promise<TestTerminal> {
  const terminal = testTerminal(directory(), env, input);
  const result = await runProgram(words, terminal);
  expect([result, terminal.complaints.slice(0, result === code ? 0 : 9)]).toEqual([code, []]);
  return terminal;
}
