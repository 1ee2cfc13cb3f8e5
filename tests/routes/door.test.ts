/** The front door: heads that are slow, long, malformed or many, and what it lets through unchanged. */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRealWorld } from "../../core/net/real-world.ts";
import type { World } from "../../core/net/world.ts";
import { type Api, type ApiConfig, type ApiOptions, startApi } from "../../routes/api.ts";
import { createLoopbackNode, type LoopbackNode } from "./loopback-node.ts";
import { connectRaw, jsonOf, statusOf } from "./raw-client.ts";

const world = createRealWorld();
const directory = mkdtempSync(join(tmpdir(), "p2pd-test-"));
const LIMITS = { headOctets: 1000, headTimeoutMs: 10_000, unfinishedHeads: 4, keepAliveMs: 120_000 };
let node: LoopbackNode;
let api: Api;
const opened: Api[] = [];

beforeAll(async () => {
  node = await createLoopbackNode(world);
  api = await startApi(world, node, { apiHost: "127.0.0.1", apiPort: 0 }, { doorLimits: LIMITS });
});

afterEach(async () => {
  for (const one of opened.splice(0)) await one.close();
});

afterAll(async () => {
  await api.close();
  await node.stop();
  rmSync(directory, { recursive: true });
});

test("a head that comes octet by octet is answered, and so are requests in one segment, in order", async () => {
  const client = await connectRaw(api.local);
  for (const letter of "GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n") {
    client.send(letter);
    await Bun.sleep(0);
  }
  await client.until((text) => text.includes('"P2PD"'));
  client.send(
    "GET /p2p/addr HTTP/1.1\r\nHost: localhost\r\n\r\nGET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\nGET /p2p/cons HTTP/1.1\r\nHost: localhost\r\n\r\n",
  );
  const text = await client.until((text) => text.includes('"cons"'));
  expect(text.indexOf("the-address")).toBeLessThan(text.indexOf("no-such-route"));
  client.destroy();
});

test.each([
  ["bare LF", "GET /version HTTP/1.1\nHost: localhost\n\n", 400],
  ["no request at all", "\x00\x01\x02", 400],
  ["a request line of two words", "GET /version\r\n\r\n", 400],
  ["a method that nobody knows", "BREW /version HTTP/1.1\r\nHost: localhost\r\n\r\n", 501],
  ["no Host", "GET /version HTTP/1.1\r\nAccept: */*\r\n\r\n", 400],
  ["a version of the future", "GET /version HTTP/2.0\r\n\r\n", 505],
  ["more octets than allowed", `GET /version HTTP/1.1\r\nX: ${"x".repeat(1000)}`, 431],
])("a head with %s is answered in JSON and closed", async (_, head, status) => {
  const text = await converse(api, head);
  expect(statusOf(text)).toBe(status);
  expect(jsonOf(text)["error"]).toBe(status === 431 ? 16 : 11);
});

test("a TLS handshake is told that this is plain HTTP", async () => {
  const client = await connectRaw(api.local);
  client.send(new Uint8Array([0x16, 3, 1, 0, 200]));
  expect(String(jsonOf(await client.ended)["msg"])).toContain("http://");
});

test("empty lines ahead of a request, HTTP/1.0 and an absolute target are understood", async () => {
  const host = "Host: localhost\r\n\r\n";
  expect(statusOf(await converse(api, `GET /version HTTP/1.0\r\n${host}`, "}"))).toBe(200);
  expect(statusOf(await converse(api, `\r\nGET /version HTTP/1.1\r\n${host}`, "}"))).toBe(200);
  expect(statusOf(await converse(api, `GET http://localhost/version HTTP/1.1\r\n${host}`, "}"))).toBe(200);
});

test("a head that never ends is answered with 408, and counted", async () => {
  const slow = await start({}, { doorLimits: { ...LIMITS, headTimeoutMs: 40 } });
  const [first, second] = await Promise.all([connectRaw(slow.local), connectRaw(slow.local)]);
  first.send("GET /ver");
  const texts = await Promise.all([first.ended, second.ended]);
  expect(texts.map(statusOf)).toEqual([408, 408]);
  expect(jsonOf(texts[0])["msg"]).toContain("0.04 s");
  expect(await countsOf(slow)).toMatchObject({ lateHeads: 2 });
});

test("beyond the allowed number of unfinished heads the oldest gives way", async () => {
  const crowd = await Promise.all(Array.from({ length: 4 }, () => connectRaw(api.local)));
  for (const client of crowd) client.send("G");
  const before = Number((await countsOf(api))["crowdedOut"]);
  expect(before).toBeGreaterThan(0);
  expect((await fetch(`${api.url}version`)).status).toBe(200);
  for (const client of crowd) client.destroy();
});

test("a connection that is silent after its answer is closed, and one that waits for its answer is not", async () => {
  const brief = await start({}, { doorLimits: { ...LIMITS, keepAliveMs: 20 } });
  const waiting = fetch(`${brief.url}p2p/accept?timeout=0.2`);
  const client = await connectRaw(brief.local);
  client.send("GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n");
  expect(statusOf(await client.ended)).toBe(200);
  expect((await waiting).status).toBe(504);
  expect(Number((await countsOf(brief))["idled"])).toBeGreaterThan(0);
});

test("a client that goes away in the middle of its head leaves nothing behind", async () => {
  const client = await connectRaw(api.local);
  client.send("GET /ver");
  client.end();
  expect(await client.ended).toBe("");
});

test("without unix sockets the HTTP server stands on a loopback port, and all is the same", async () => {
  const { unix: _, ...rest } = world;
  const other = await startApi(rest, node, { apiHost: "localhost", apiPort: 0 });
  opened.push(other);
  expect((await fetch(`http://127.0.0.1:${other.local.port}/version`)).status).toBe(200);
  const wanted = { apiHost: "127.0.0.1", apiPort: 0, apiSocket: "/tmp/x" };
  expect(await startApi(rest, node, wanted).catch((error: Error) => error.message)).toContain("apiSocket");
});

test("when the HTTP server cannot be reached the door says so with 503", async () => {
  const refusing: World = {
    ...world,
    unix: { listen: () => Promise.reject(new Error("no")), connect: () => Promise.reject(new Error("gone")) },
  };
  const other = await startApi(refusing, node, { apiHost: "127.0.0.1", apiPort: 0 });
  opened.push(other);
  const text = await converse(other, "GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n");
  expect([statusOf(text), jsonOf(text)["error"]]).toEqual([503, 28]);
});

test("a port that another program has is an error that names it and the way out", async () => {
  const { port } = api.local;
  const failure = await startApi(world, node, { apiHost: "127.0.0.1", apiPort: port }).catch(
    (error: Error) => error,
  );
  expect(failure).toMatchObject({ code: "address-in-use" });
  expect((failure as Error).message).toContain(`127.0.0.1:${port}`);
  expect((failure as Error).message).toContain("--api-port");
});

test("a unix socket offers the API to its owner alone, pipes included, whatever Host and Origin say", async () => {
  const path = join(directory, "api.sock");
  const both = await start({ apiSocket: path, apiToken: "secret" });
  expect(statSync(path).mode & 0o777).toBe(0o600);
  const client = await connectRaw(path);
  client.send("GET /version HTTP/1.1\r\nHost: anything.example\r\nOrigin: http://evil.example\r\n\r\n");
  expect(statusOf(await client.until((text) => text.includes('"P2PD"')))).toBe(200);
  client.destroy();
  await node.open("by-socket", "self", { service: "echo" });
  const pipe = await connectRaw(path);
  pipe.send("GET /p2p/pipe/by-socket HTTP/1.1\r\n\r\nhello");
  expect(await pipe.until((text) => text.length >= 5)).toBe("hello");
  pipe.destroy();
  expect(
    await startApi(world, node, { apiHost: "127.0.0.1", apiPort: 0, apiSocket: path }).catch(
      (e: Error) => e.message,
    ),
  ).toContain(path);
  await both.close();
});

test("a socket file that nobody listens on is replaced, and a file of another kind is not", async () => {
  const stale = join(directory, "stale.sock");
  const holder = Bun.spawn({
    cmd: [
      process.execPath,
      "-e",
      `Bun.listen({ unix: ${JSON.stringify(stale)}, socket: { data() {} } }); console.log("up")`,
    ],
    stdout: "pipe",
  });
  await holder.stdout.getReader().read();
  holder.kill("SIGKILL");
  await holder.exited;
  const again = await start({ apiSocket: stale });
  const client = await connectRaw(stale);
  client.send("GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n");
  await client.until((text) => text.includes('"P2PD"'));
  client.destroy();
  await again.close();
  const file = join(directory, "notes.txt");
  writeFileSync(file, "mine");
  expect(
    await startApi(world, node, { apiHost: "127.0.0.1", apiPort: 0, apiSocket: file }).catch(
      (e: Error) => e.message,
    ),
  ).toContain(file);
});

test("a client of events that reads nothing is dropped and counted, and others get theirs", async () => {
  const small = await start({}, { eventLimits: { unreadOctets: 100_000, heartbeatMs: 5 } });
  const idle = await Bun.connect({
    hostname: small.local.ip,
    port: small.local.port,
    socket: {
      open: (socket) => void socket.write("GET /p2p/events HTTP/1.1\r\nHost: localhost\r\n\r\n"),
      data: (socket) => socket.pause(),
    },
  });
  while ((await countsOf(small))["eventClients"] !== 1) await Bun.sleep(1);
  while ((await countsOf(small))["slowEventClients"] !== 1)
    node.emit({ event: "status", data: { text: "x".repeat(200_000) } });
  expect(await countsOf(small)).toMatchObject({ eventClients: 0 });
  idle.terminate();
  const answer = await fetch(`${small.url}p2p/events`);
  const reader = (answer.body as ReadableStream<Uint8Array>).getReader();
  let text = "";
  while (!text.includes("still here")) text += new TextDecoder().decode((await reader.read()).value);
  await reader.cancel();
});

async function start(config: Partial<ApiConfig>, options: ApiOptions = {}): Promise<Api> {
  const started = await startApi(world, node, { apiHost: "127.0.0.1", apiPort: 0, ...config }, options);
  opened.push(started);
  return started;
}

async function converse(to: Api, request: string, until?: string): Promise<string> {
  const client = await connectRaw(to.local);
  client.send(request);
  const text = await (until === undefined ? client.ended : client.until((text) => text.includes(until)));
  client.destroy();
  return text;
}

async function countsOf(of: Api): Promise<Record<string, unknown>> {
  const answer = (await (await fetch(`${of.url}p2p/status`)).json()) as { api: Record<string, unknown> };
  return answer.api;
}
