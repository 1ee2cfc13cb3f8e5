/** The REST API as curl sees it: every route, its aliases, and what is told to requests that are wrong. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createRealWorld } from "../../core/net/real-world.ts";
import { encodeAddress } from "../../core/wire/address.ts";
import { type Api, startApi } from "../../routes/api.ts";
import { createLoopbackNode, type LoopbackNode } from "./loopback-node.ts";
import { connectRaw } from "./raw-client.ts";

const world = createRealWorld();
let node: LoopbackNode;
let api: Api;
let counter = 0;

beforeAll(async () => {
  node = await createLoopbackNode(world);
  api = await startApi(world, node, { apiHost: "127.0.0.1", apiPort: 0 });
});

afterAll(async () => {
  await api.close();
  await node.stop();
});

test("a session as P2PD's users know it: open, con, send, recv, close", async () => {
  const opened = await get("/p2p/open/con/self");
  expect(opened).toMatchObject({ status: 200, error: 0, name: "con", con_name: "con", strategy: "direct" });
  expect(opened["laddr"]).toEqual(["127.0.0.1", expect.any(Number)]);
  expect(opened["if"]).toEqual({ name: "lo", offset: 0 });
  expect(await get("/p2p/open/con/self")).toMatchObject({
    status: 409,
    error: 2,
    msg: "Con name already exists.",
  });
  expect(await get("/p2p/con/con")).toMatchObject({ error: 0, path: "direct/tcp", sent: 0 });
  expect(await get("/p2p/send/con/ECHO%20gr%C3%BC%C3%9Fe")).toMatchObject({
    error: 0,
    con_name: "con",
    sent: 12,
  });
  expect(await get("/p2p/recv/con")).toMatchObject({
    error: 0,
    con_name: "con",
    client_tup: ["127.0.0.1", expect.any(Number)],
    data: "grüße",
    encoding: "utf-8",
  });
  expect(((await get("/p2p/cons"))["cons"] as object[]).length).toBe(1);
  expect(await get("/p2p/close/con")).toMatchObject({ error: 0, closed: "con" });
  expect(await get("/p2p/con/con")).toMatchObject({ status: 404, error: 4 });
});

test("the bare paths of 3.x mean the same, and an unknown /info is error 7 there", async () => {
  const name = await open("echo");
  expect(await get(`/info/${name}`)).toMatchObject({ error: 0, name });
  expect(await get(`/send/${name}/hi`)).toMatchObject({ error: 0, sent: 2 });
  expect(await get(`/recv/${name}/timeout/5`)).toMatchObject({ error: 0, data: "hi" });
  expect(await get(`/close/${name}`)).toMatchObject({ closed: name });
  expect(await get("/info/nobody")).toMatchObject({
    status: 404,
    error: 7,
    msg: "con nobody does not exist",
  });
  expect(await get("/p2p/info/nobody")).toMatchObject({ status: 404, error: 4 });
  for (const path of ["/addr", "/ifs", "/cons", "/services"]) expect((await get(path))["error"]).toBe(0);
});

test("version, addresses and status tell of the node", async () => {
  expect(await get("/version")).toMatchObject({ title: "P2PD", version: "0.0.0", error: 0 });
  expect(await get("/p2p/addr")).toMatchObject({ addr: "the-address", id: "SELF", error: 0 });
  expect(await get("/p2p/status")).toMatchObject({ parts: [{ part: "listener" }], api: { lateHeads: 0 } });
});

test("the NATs are told, awaited and measured again", async () => {
  expect(await get("/p2p/nat")).toMatchObject({ status: 200, error: 0, nics: [], advice: [] });
  expect(await get("/nat?wait=false")).toMatchObject({ error: 0 });
  expect(await get("/p2p/nat?wait=maybe")).toMatchObject({ status: 400, error: 11, field: "wait" });
  expect(await get("/p2p/nat/refresh")).toMatchObject({ status: 405 });
  const refreshed = await fetch(`${api.url}p2p/nat/refresh`, { method: "POST" });
  expect(await refreshed.json()).toMatchObject({ error: 0, nics: [] });
});

test("forwarded ports are told in values and in words, by both names", async () => {
  const told = { status: 200, error: 0, state: "off", places: [] };
  expect(await get("/portmap")).toMatchObject(told);
  expect(await get("/p2p/portmap")).toMatchObject({
    ...told,
    summary: ["port mapping is switched off (portMapping)"],
  });
});

test("a failed open names every attempt, and a fault of the program is no end of it", async () => {
  expect(await get("/p2p/open/x/somebody")).toMatchObject({
    status: 502,
    error: 3,
    attempts: [{ candidate: "somebody", reason: "refused" }],
  });
  expect(await get("/p2p/open/broken/self")).toMatchObject({ status: 500, error: 31 });
});

test("receiving: nothing after the default wait and nothing at once are 6, a timeout that was asked for is 5", async () => {
  const name = await open();
  expect(await get(`/p2p/recv/${name}?timeout=0`)).toMatchObject({ status: 404, error: 6 });
  expect(await get(`/p2p/recv/${name}/timeout/0.01`)).toMatchObject({ status: 504, error: 5 });
  const before = performance.now();
  expect(await get(`/p2p/recv/${name}`)).toMatchObject({ status: 404, error: 6 });
  expect(performance.now() - before).toBeGreaterThan(1900);
  expect(await get(`/p2p/recv/${name}?sub=none`)).toMatchObject({ status: 404, error: 12 });
});

test("octets that are no UTF-8 come as latin1, and as they are from binary", async () => {
  const name = await open("echo");
  const octets = new Uint8Array([0, 255, 254, 65]);
  expect(await call("POST", `/p2p/binary/${name}`, octets)).toMatchObject({ error: 0, sent: 4 });
  expect(await get(`/p2p/recv/${name}`)).toMatchObject({ data: "\u0000ÿþA", encoding: "latin1" });
  await call("POST", `/binary/${name}`, octets);
  const answer = await fetch(`${api.url}binary/${name}?timeout=2`);
  expect(answer.headers.get("content-type")).toBe("application/octet-stream");
  expect(new Uint8Array(await answer.arrayBuffer())).toEqual(octets);
  expect(await get(`/p2p/binary/${name}?timeout=0`)).toMatchObject({ status: 404, error: 6 });
});

test("a body of 8 MiB is sent whole, and one that is shorter than its length is not called sent", async () => {
  const name = await open();
  expect(await call("POST", `/p2p/binary/${name}`, new Uint8Array(8 << 20))).toMatchObject({ sent: 8 << 20 });
  const client = await connectRaw(api.local);
  client.send(`POST /p2p/binary/${name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nshort`);
  client.end();
  expect(await client.ended).not.toContain('"error":0');
  expect((await get("/version"))["status"]).toBe(200);
});

test("subscriptions are opened, listed, taken from and removed", async () => {
  const name = await open("echo");
  const path = `/p2p/sub/${name}/name/greetings/msg_p/%5Ehel%2Flo/addr_p/127`;
  expect(await get(path)).toMatchObject({
    error: 0,
    con_name: name,
    sub_name: "greetings",
    sub: ["^hel/lo", "127"],
  });
  expect(await get(path)).toMatchObject({ status: 409, error: 9 });
  expect(await get(`/sub/${name}/name/all`)).toMatchObject({ status: 409, error: 10 });
  expect(await get(`/sub/${name}/name/bad/msg_p/(`)).toMatchObject({ status: 400, error: 11 });
  expect(await get(`/sub/${name}/name/empty/msg_p//addr_p/`)).toMatchObject({ error: 0, sub: ["", ""] });
  expect(await call("DELETE", `/sub/${name}/name/empty/`)).toMatchObject({ error: 0, unsub: "empty" });
  expect(((await get(`/sub/${name}`))["subs"] as object[]).length).toBe(2);
  await get(`/p2p/send/${name}/hel%2Flo`);
  expect(await get(`/p2p/recv/${name}?sub=greetings`)).toMatchObject({ data: "hel/lo" });
  expect(await call("DELETE", `/p2p/sub/${name}/name/greetings`)).toMatchObject({
    error: 0,
    unsub: "greetings",
  });
  expect(await call("DELETE", `/p2p/sub/${name}/name/greetings`)).toMatchObject({ status: 404, error: 12 });
  expect(await call("DELETE", `/p2p/sub/${name}`)).toMatchObject({ status: 400, error: 11 });
});

test("patterns without a subscription have a queue of their own from the first receive on", async () => {
  const name = await open("echo");
  expect(await get(`/p2p/recv/${name}/msg_p/%5Eyes/timeout/0`)).toMatchObject({ error: 6 });
  await get(`/p2p/send/${name}/yes%201`);
  expect(await get(`/p2p/recv/${name}?msg_p=%5Eyes`)).toMatchObject({ data: "yes 1" });
});

test("accept names the next incoming connection, and a client that goes away takes none", async () => {
  const left = new AbortController();
  const gone = fetch(`${api.url}p2p/accept`, { signal: left.signal }).catch(() => "gone");
  await waiters(1);
  left.abort();
  expect(await gone).toBe("gone");
  await waiters(0);
  const waiting = get("/p2p/accept?timeout=5");
  await waiters(1);
  await node.incoming("in-1");
  expect(await waiting).toMatchObject({ error: 0, name: "in-1", direction: "in" });
  expect(await get("/p2p/accept/timeout/0.01")).toMatchObject({ status: 504, error: 5 });
});

test("events are streamed as they happen", async () => {
  const answer = await fetch(`${api.url}p2p/events`);
  expect(answer.headers.get("content-type")).toBe("text/event-stream");
  const reader = (answer.body as ReadableStream<Uint8Array>).getReader();
  let text = "";
  const until = async (end: string): Promise<void> => {
    while (!text.includes(end)) text += new TextDecoder().decode((await reader.read()).value);
  };
  await until("\n\n");
  node.emit({ event: "closed", data: { name: "a\nb" } });
  await until("data:");
  expect(text).toContain('event: closed\ndata: {"name":"a\\nb"}\n\n');
  await reader.cancel();
});

test("services are offered, shown and withdrawn", async () => {
  const ssh = { to: "127.0.0.1:22", allow: ["A"] };
  expect(await put("/p2p/services/ssh", ssh)).toMatchObject({ error: 0, name: "ssh", ...ssh });
  expect(await get("/p2p/services/ssh")).toMatchObject(ssh);
  expect(((await get("/p2p/services"))["services"] as object[]).length).toBe(2);
  expect(await call("DELETE", "/p2p/services/ssh")).toMatchObject({ error: 0, deleted: "ssh" });
  expect(await get("/p2p/services/ssh")).toMatchObject({ status: 404, error: 13 });
  expect(await put("/p2p/services/echo", ssh)).toMatchObject({ status: 409, error: 10 });
});

test.each([
  ["no body", "", "the body"],
  ["no JSON", "{", "the body"],
  ["no UTF-8", new Uint8Array([0xff]), "the body"],
  ["a missing field", "{}", "to"],
  ["a field of another type", '{"to":22}', "to"],
  ["an unknown field", '{"to":"127.0.0.1:22","tow":1}', "tow"],
  ["a list of other things", '{"to":"127.0.0.1:22","allow":[1]}', "allow.0"],
])("a service with %s gets 400 and the field's name", async (_, body, field) => {
  const answer = await call("PUT", "/p2p/services/x", body);
  expect(answer).toMatchObject({ status: 400, error: 11, field });
  expect(answer["msg"]).toContain("expected");
});

test("a body of JSON above 64 KiB is refused, with and without a length", async () => {
  const long = JSON.stringify({ to: "x".repeat(70_000) });
  expect(await call("PUT", "/p2p/services/x", long)).toMatchObject({ status: 413, error: 16 });
  const stream = new ReadableStream({
    start(controller) {
      controller.enqueue(new TextEncoder().encode(long));
      controller.close();
    },
  });
  expect(await call("PUT", "/p2p/services/x", stream)).toMatchObject({ status: 413, error: 16 });
});

test.each([
  ["/p2p/send//hello", "the path"],
  ["/p2p/con/%ff", "the path"],
  ["/p2p/con/%zz", "the path"],
  ["/p2p/con/%", "the path"],
  ["/p2p/recv/x?timeout=abc", "timeout"],
  ["/p2p/recv/x?timeout=-1", "timeout"],
  ["/p2p/recv/x?timeout=3601", "timeout"],
  ["/p2p/recv/x/timeout/abc", "timeout"],
  ["/p2p/recv/x/timeout", "timeout"],
  ["/p2p/recv/x/timeuot/1", "a parameter in the path"],
  ["/p2p/open/x/self?relay=perhaps", "relay"],
  ["/p2p/open/x/self?strategies=direct,luck", "strategies"],
  ["/p2p/open/x/self?transport=pigeon", "transport"],
])("GET %s is a 400 that names %s", async (path, field) => {
  const answer = await get(path);
  expect(answer).toMatchObject({ status: 400, error: 11, field });
  expect(answer["msg"]).toContain("expected");
});

test("a name of 10 kB is a 400 that shows only its beginning", async () => {
  const answer = await get(`/p2p/con/${"n".repeat(10_000)}`);
  expect(answer).toMatchObject({ status: 400, error: 11, field: "name" });
  expect(String(answer["msg"]).length).toBeLessThan(300);
});

test("an address is explained field by field, and a wrong one by its wrong field", async () => {
  const address = encodeAddress({
    id: `A${"g".repeat(43)}`,
    machine: "a".repeat(11),
    brokers: [],
    nics: [
      {
        index: 0,
        family: 4,
        address: "192.0.2.1",
        port: 20000,
        nat: "open-internet",
        delta: "not-applicable",
        deltaValue: 0,
      },
    ],
  });
  const answer = await get(`/p2p/addr/explain/${address}`);
  expect(answer).toMatchObject({ error: 0, addr: address, address: { nics: [{ address: "192.0.2.1" }] } });
  expect((answer["fields"] as object[]).length).toBeGreaterThan(5);
  expect(await get(`/addr/explain/${address.replace("192.0.2.1", "192.0.2.x")}`)).toMatchObject({
    status: 400,
    error: 11,
    field: "nic 1 address",
    position: expect.any(Number),
  });
});

test("options of open reach the node, and what is not asked for does not", async () => {
  const asked: unknown[] = [];
  const original = node.open.bind(node);
  node.open = (name, target, options) => {
    asked.push(options);
    return original(name, target, options);
  };
  await get(`/p2p/open/o-1/self`);
  await get(`/p2p/open/o-2/self/service/echo/strategies/direct,punch?relay=never&transport=tcp&timeout=1.5`);
  node.open = original;
  expect(asked).toEqual([
    {},
    { service: "echo", strategies: ["direct", "punch"], relay: "never", transport: "tcp", timeoutMs: 1500 },
  ]);
});

test("unknown paths are error 1, wrong verbs 405 with Allow, and nothing hangs", async () => {
  for (const verb of ["GET", "PUT", "DELETE", "POST", "PATCH", "OPTIONS"]) {
    expect(await call(verb, "/nothing/here")).toMatchObject({ status: 404, error: 1 });
  }
  const answer = await fetch(`${api.url}version`, { method: "PUT" });
  expect([answer.status, answer.headers.get("allow")]).toEqual([405, "GET, HEAD, OPTIONS"]);
  expect(((await answer.json()) as { error: number }).error).toBe(1);
  const sub = await fetch(`${api.url}p2p/sub/x`, { method: "PUT" });
  expect(sub.headers.get("allow")).toBe("GET, DELETE, OPTIONS");
  const pipe = await fetch(`${api.url}p2p/pipe/x`, { method: "POST" });
  expect([pipe.status, pipe.headers.get("allow")]).toEqual([405, "GET, OPTIONS"]);
});

test("HEAD answers without a body where a GET changes nothing, and only there", async () => {
  const head = await fetch(`${api.url}version`, { method: "HEAD" });
  expect([head.status, await head.text()]).toEqual([200, ""]);
  const name = await open();
  const refused = await fetch(`${api.url}p2p/close/${name}`, { method: "HEAD" });
  expect(refused.status).toBe(405);
  expect((await get(`/p2p/con/${name}`))["status"]).toBe(200);
});

test("a preflight of a page of this machine is answered, and the answers can be read by it", async () => {
  const origin = "http://localhost:5173";
  const preflight = await fetch(`${api.url}p2p/services/ssh`, {
    method: "OPTIONS",
    headers: {
      origin,
      "access-control-request-method": "PUT",
      "access-control-request-headers": "content-type",
      "access-control-request-private-network": "true",
    },
  });
  expect(preflight.status).toBe(204);
  expect(preflight.headers.get("access-control-allow-origin")).toBe(origin);
  expect(preflight.headers.get("access-control-allow-methods")).toContain("PUT");
  expect(preflight.headers.get("access-control-allow-headers")).toBe("content-type");
  expect(preflight.headers.get("access-control-allow-private-network")).toBe("true");
  for (const path of ["version", "nothing", "p2p/recv/nobody", "swagger"]) {
    const answer = await fetch(api.url + path, { headers: { origin } });
    expect(answer.headers.get("access-control-allow-origin")).toBe(origin);
    await answer.text();
  }
});

type Answer = Record<string, unknown> & { status: number };

function get(path: string): Promise<Answer> {
  return call("GET", path);
}

function put(path: string, body: unknown): Promise<Answer> {
  return call("PUT", path, JSON.stringify(body));
}

async function call(
  method: string,
  path: string,
  body?: string | Uint8Array<ArrayBuffer> | ReadableStream,
): Promise<Answer> {
  const answer = await fetch(api.url.slice(0, -1) + path, {
    method,
    ...(body === undefined ? {} : { body }),
  });
  return { ...((await answer.json()) as Record<string, unknown>), status: answer.status };
}

async function waiters(count: number): Promise<void> {
  while (node.waiting() !== count) await Bun.sleep(1);
}

async function open(service?: string): Promise<string> {
  const name = `con-${++counter}`;
  await node.open(name, "self", service === undefined ? {} : { service });
  return name;
}
