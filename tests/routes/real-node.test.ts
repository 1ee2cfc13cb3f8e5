/** The API before a real node: connections to itself over TCP, TLS 1.3 and its own listener. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRealWorld } from "../../core/net/real-world.ts";
import { Node } from "../../core/node/node.ts";
import { type Api, startApi } from "../../routes/api.ts";
import { connectRaw } from "./raw-client.ts";

const world = createRealWorld();
const dataDir = mkdtempSync(join(tmpdir(), "p2pd-test-"));
let node: Node;
let api: Api;

beforeAll(async () => {
  node = await Node.start(world, {
    dataDir,
    listenPort: 0,
    stunServers: [],
    mqttBrokers: [],
    turnServers: [],
    ntpServers: [],
    portMapping: false,
    strategies: ["direct"],
    relay: "never",
    relayAfterMs: 1500,
    resumeForMs: 60_000,
  });
  api = await startApi(world, node, { apiHost: "127.0.0.1", apiPort: 0 });
});

afterAll(async () => {
  await api.close();
  await node.close();
  rmSync(dataDir, { recursive: true });
});

test("open, send, receive, subscribe and close over a connection to self", async () => {
  expect(await get("/p2p/open/con/self")).toMatchObject({
    error: 0,
    name: "con",
    strategy: "direct",
    transport: "tcp",
  });
  expect(await get("/p2p/open/con/self")).toMatchObject({ status: 409, error: 2 });
  expect(await get("/p2p/send/con/ECHO%20hello")).toMatchObject({ error: 0, sent: 10 });
  expect(await get("/p2p/recv/con")).toMatchObject({ error: 0, data: "hello" });
  expect(await get("/p2p/sub/con/name/s/msg_p/%5Ey/addr_p/127")).toMatchObject({ error: 0, sub_name: "s" });
  await get("/p2p/send/con/ECHO%20yes");
  expect(await get("/p2p/recv/con?sub=s&timeout=5")).toMatchObject({ data: "yes" });
  expect(await get("/p2p/con/con")).toMatchObject({
    error: 0,
    cipher: expect.stringContaining("TLS_"),
    cost: { packets: 0, datagrams: 0, syns: 0, stunRequests: 0 },
  });
  expect(await get("/p2p/close/con")).toMatchObject({ closed: "con" });
  expect(await get("/p2p/con/con")).toMatchObject({ status: 404, error: 4 });
});

test("the node's own address is explained, and it opens too", async () => {
  const { addr } = await get("/p2p/addr");
  expect(await get(`/p2p/addr/explain/${String(addr)}`)).toMatchObject({
    error: 0,
    address: { id: node.id },
  });
  expect(await get(`/p2p/addr/explain/self`)).toMatchObject({ error: 0, addr });
  expect(await get("/p2p/open/x/nonsense")).toMatchObject({
    status: expect.any(Number),
    error: expect.any(Number),
  });
  expect((await get("/p2p/open/x/nonsense"))["error"]).not.toBe(0);
});

test("16 MiB through a pipe to the echo service and back, with the end of each direction", async () => {
  expect(await get("/p2p/open/pipe/self?service=echo")).toMatchObject({ error: 0, service: "echo" });
  const payload = new Uint8Array(16 << 20).map((_, i) => (i * 31 + (i >> 10)) & 255);
  const client = await connectRaw(api.local);
  client.send("GET /p2p/pipe/pipe HTTP/1.1\r\nHost: localhost\r\n\r\n");
  client.send(payload);
  client.end();
  await client.ended;
  expect(Bun.SHA256.hash(client.octets(), "hex")).toBe(Bun.SHA256.hash(payload, "hex"));
});

test("built-in services are shown and cannot be replaced or withdrawn", async () => {
  const names = ((await get("/p2p/services"))["services"] as { name: string }[]).map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(["echo", "discard"]));
  const answer = await fetch(`${api.url}p2p/services/echo`, { method: "DELETE" });
  expect([answer.status, ((await answer.json()) as { error: number }).error]).toEqual([409, 10]);
});

async function get(path: string): Promise<Record<string, unknown>> {
  const answer = await fetch(api.url.slice(0, -1) + path);
  return { ...((await answer.json()) as Record<string, unknown>), status: answer.status };
}
