/** Who may use the API: Host, Origin and token, on every route there is. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createRealWorld } from "../../core/net/real-world.ts";
import { type Api, startApi } from "../../routes/api.ts";
import { createGuard } from "../../routes/guard.ts";
import { createLoopbackNode, type LoopbackNode } from "./loopback-node.ts";
import { connectRaw, jsonOf, statusOf } from "./raw-client.ts";

const world = createRealWorld();
let node: LoopbackNode;
let open: Api;
let locked: Api;

beforeAll(async () => {
  node = await createLoopbackNode(world);
  open = await startApi(world, node, { apiHost: "127.0.0.1", apiPort: 0 });
  locked = await startApi(world, node, { apiHost: "127.0.0.1", apiPort: 0, apiToken: "secret" });
  await node.open("con", "self", { service: "echo" });
});

afterAll(async () => {
  await open.close();
  await locked.close();
  await node.stop();
});

const UPGRADE = "Connection: Upgrade\r\nUpgrade: p2pd\r\n";
const WEBSOCKET =
  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const NODE_ROUTES: readonly (readonly [string, string, string])[] = [
  ["GET", "/version", ""],
  ["GET", "/p2p/ifs", ""],
  ["GET", "/addr", ""],
  ["GET", "/p2p/open/x/self", ""],
  ["GET", "/p2p/con/con", ""],
  ["GET", "/p2p/cons", ""],
  ["GET", "/p2p/send/con/hi", ""],
  ["GET", "/p2p/recv/con/timeout/0", ""],
  ["POST", "/p2p/binary/con", "Content-Length: 0\r\n"],
  ["GET", "/p2p/sub/con", ""],
  ["GET", "/p2p/accept/timeout/0", ""],
  ["GET", "/p2p/events", ""],
  ["GET", "/p2p/status", ""],
  ["GET", "/p2p/services", ""],
  ["DELETE", "/p2p/services/none", ""],
  ["GET", "/p2p/close/none", ""],
  ["GET", "/p2p/pipe/con", ""],
  ["GET", "/tunnel/con", UPGRADE],
  ["GET", "/p2p/pipe/con", WEBSOCKET],
  ["GET", "/nothing", ""],
  ["PUT", "/version", ""],
  ["HEAD", "/version", ""],
];
const ROUTES: typeof NODE_ROUTES = [
  ...NODE_ROUTES,
  ["OPTIONS", "/version", ""],
  ["GET", "/", ""],
  ["GET", "/swagger", ""],
  ["GET", "/swagger/json", ""],
  ["GET", "/swagger/ui.js", ""],
];

test.each(ROUTES)("%s %s refuses a foreign Host and a foreign Origin (%j)", async (verb, path, more) => {
  for (const wrong of [
    "Host: evil.example\r\n",
    "Host: 127.0.0.1.evil.example\r\n",
    "Host: localhost\r\nOrigin: https://evil.example\r\n",
    "Host: localhost\r\nOrigin: http://localhost.evil.example\r\n",
    "Host: localhost\r\nOrigin: null\r\n",
  ]) {
    const text = await converse(open, `${verb} ${path} HTTP/1.1\r\n${wrong}${more}\r\n`);
    expect(statusOf(text)).toBe(403);
    if (verb !== "HEAD") expect(jsonOf(text)["error"]).toBe(17);
    expect(text).not.toContain("ccess-Control-Allow-Origin");
  }
});

test.each(NODE_ROUTES)("%s %s needs the token where there is one (%j)", async (verb, path, more) => {
  for (const wrong of [
    "",
    "Authorization: Bearer wrong\r\n",
    "Authorization: Basic c2VjcmV0\r\n",
    "Origin: null\r\n",
  ]) {
    const text = await converse(locked, `${verb} ${path} HTTP/1.1\r\nHost: localhost\r\n${wrong}${more}\r\n`);
    expect(statusOf(text)).toBe(wrong.startsWith("Origin") ? 403 : 401);
  }
});

test("the token is taken as a header and in the query, and lets a null Origin in", async () => {
  const asked = (path: string, headers: Record<string, string> = {}) =>
    fetch(`${locked.url}${path}`, { headers }).then(({ status }) => status);
  expect(await asked("version", { authorization: "Bearer secret" })).toBe(200);
  expect(await asked("version?token=secret")).toBe(200);
  expect(await asked("version?x=1&token=secret")).toBe(200);
  expect(await asked("version?token=wrong")).toBe(401);
  expect(await asked("version?token=secret", { origin: "null" })).toBe(200);
  const text = await converse(
    locked,
    `GET /p2p/pipe/con?token=secret HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n${UPGRADE}\r\n`,
    "\r\n\r\n",
  );
  expect(statusOf(text)).toBe(101);
});

test("the pages and a preflight need no token: they tell nothing of the node", async () => {
  for (const path of ["", "docs", "swagger", "swagger/start.js", "swagger/json"]) {
    expect((await fetch(`${locked.url}${path}`)).status).toBe(200);
  }
});

test.each([
  ["localhost", true],
  ["LOCALHOST:12333", true],
  ["127.0.0.1", true],
  ["127.8.9.10:80", true],
  ["[::1]:12333", true],
  ["[::1]", true],
  ["p2pd.lan:12333", true],
  ["", false],
  ["localhost:", false],
  ["localhost:123456", false],
  ["localhost.", false],
  ["xlocalhost", false],
  ["127.0.0.1.nip.io", false],
  ["user@localhost", false],
  ["localhost/x", false],
  ["localhost, localhost", false],
  ["[::1", false],
  ["[::2]", false],
  ["128.0.0.1", false],
])("Host %s: welcome is %p", (host, welcome) => {
  const guard = createGuard({ apiHost: "p2pd.lan" });
  const refusal = guard.check({ header: (name) => (name === "host" ? host : null), url: "/" });
  expect(refusal === undefined).toBe(welcome);
});

test("an IPv6 address that the API is bound to is a Host of its own", () => {
  const guard = createGuard({ apiHost: "fd00::1" });
  const check = (host: string) =>
    guard.check({ header: (name) => (name === "host" ? host : null), url: "/" });
  expect(check("[fd00::1]:12333")).toBeUndefined();
  expect(check("[fd00::2]:12333")?.code).toBe("foreign-request");
});

async function converse(to: Api, request: string, until?: string): Promise<string> {
  const client = await connectRaw(to.local);
  client.send(request);
  const isWhole = (text: string): boolean => {
    const head = text.indexOf("\r\n\r\n");
    const length = /content-length: ([0-9]+)/i.exec(text)?.[1];
    if (head < 0) return false;
    return until !== undefined || request.startsWith("HEAD") || text.length >= head + 4 + Number(length ?? 0);
  };
  const text = await client.until(isWhole);
  client.destroy();
  return text;
}
