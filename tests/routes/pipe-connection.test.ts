/** A connection that becomes a pipe: the three forms, their errors, and what is carried. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createRealWorld } from "../../core/net/real-world.ts";
import { type Api, startApi } from "../../routes/api.ts";
import { createLoopbackNode, type LoopbackNode } from "./loopback-node.ts";
import { connectRaw, jsonOf, statusOf } from "./raw-client.ts";

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

test("a plain GET is answered by raw octets at once, without a response head", async () => {
  const client = await openPipe("GET /p2p/pipe/NAME HTTP/1.1\r\nHost: localhost\r\n\r\n");
  client.send("hello");
  expect(await client.until((text) => text.length >= 5)).toBe("hello");
  client.destroy();
});

test("octets behind the head in the same segment are the pipe's", async () => {
  const client = await openPipe(
    "GET /tunnel/NAME HTTP/1.1\r\nHost: localhost\r\n\r\nGET /version HTTP/1.1\r\n\r\n",
  );
  expect(await client.until((text) => text.length >= 25)).toBe("GET /version HTTP/1.1\r\n\r\n");
  client.destroy();
});

test("a head that comes octet by octet makes a pipe too, from a client that sends no Host", async () => {
  const name = await openEcho();
  const client = await connectRaw(api.local);
  for (const letter of `GET /pipe/${name} HTTP/1.0\r\n\r\nxyz`) {
    client.send(letter);
    await Bun.sleep(0);
  }
  expect(await client.until((text) => text.length >= 3)).toBe("xyz");
  client.destroy();
});

test("Upgrade: p2pd is answered by 101 and then octets", async () => {
  const client = await openPipe(
    "GET /p2p/tunnel/NAME HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: p2pd\r\n\r\nhello",
  );
  const text = await client.until((text) => text.endsWith("hello"));
  expect(statusOf(text)).toBe(101);
  expect(text).toContain("upgrade: p2pd\r\n");
  client.destroy();
});

test("an absolute target is understood", async () => {
  const client = await openPipe(
    "GET http://localhost:1/p2p/pipe/NAME?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\nhello",
  );
  expect(await client.until((text) => text.length >= 5)).toBe("hello");
  client.destroy();
});

test("an end of the client is passed on, and what is under way still arrives", async () => {
  const client = await openPipe("GET /p2p/pipe/NAME HTTP/1.1\r\nHost: localhost\r\n\r\n");
  client.send("last words");
  client.end();
  expect(await client.ended).toBe("last words");
});

test("a pipe that is asked for twice is busy, in every form", async () => {
  const name = await openEcho();
  const first = await connectRaw(api.local);
  first.send(`GET /p2p/pipe/${name} HTTP/1.1\r\nHost: localhost\r\n\r\nx`);
  await first.until((text) => text === "x");
  for (const more of ["", "Connection: Upgrade\r\nUpgrade: p2pd\r\n", WEBSOCKET]) {
    const text = await converse(`GET /p2p/pipe/${name} HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`);
    expect([statusOf(text), jsonOf(text)["error"]]).toEqual([409, 15]);
  }
  first.destroy();
});

test.each([
  ["an unknown name", "/p2p/pipe/nobody", "", 404, 4],
  ["an empty name", "/p2p/pipe/", "", 400, 11],
  ["a name that is no percent-encoding", "/p2p/pipe/%zz", "", 400, 11],
  ["a foreign Host", "/p2p/pipe/nobody", "Host: evil.example\r\n", 403, 17],
  ["a foreign Origin", "/p2p/pipe/nobody", "Origin: http://evil.example\r\n", 403, 17],
  ["a null Origin", "/p2p/pipe/nobody", "Origin: null\r\n", 403, 17],
  ["a body", "/p2p/pipe/nobody", "Content-Length: 5\r\n", 400, 11],
  ["a chunked body", "/p2p/pipe/nobody", "Transfer-Encoding: chunked\r\n", 400, 11],
  ["two Hosts", "/p2p/pipe/nobody", "Host: localhost\r\nHost: localhost\r\n", 400, 11],
  ["a folded header", "/p2p/pipe/nobody", "X: a\r\n b\r\n", 400, 11],
  ["a browser's plain GET", "/p2p/pipe/nobody", "Sec-Fetch-Mode: cors\r\n", 400, 11],
  [
    "another version of WebSocket",
    "/p2p/pipe/nobody",
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n",
    404,
    4,
  ],
])("a pipe request with %s gets an HTTP error and a close", async (_, path, more, status, number) => {
  const text = await converse(`GET ${path} HTTP/1.1\r\n${more}\r\n`);
  expect([statusOf(text), jsonOf(text)["error"]]).toEqual([status, number]);
});

test("a handshake of another WebSocket version is told which one is spoken", async () => {
  const name = await openEcho();
  const text = await converse(
    `GET /p2p/pipe/${name} HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n\r\n`,
  );
  expect(statusOf(text)).toBe(426);
  expect(text).toContain("sec-websocket-version: 13");
});

test("a pipe asked for on a connection that carried other requests is answered with 421", async () => {
  const name = await openEcho();
  const client = await connectRaw(api.local);
  client.send("GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n");
  await client.until((text) => text.includes('"P2PD"'));
  client.send(`GET /p2p/pipe/${name} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  const text = await client.until((text) => text.includes("new connection"));
  expect(text).toContain("HTTP/1.1 421");
  client.destroy();
});

test("8 MiB through a plain pipe and back are the same, by SHA-256", async () => {
  const client = await openPipe("GET /p2p/pipe/NAME HTTP/1.1\r\nHost: localhost\r\n\r\n");
  client.send(PAYLOAD);
  expect(sha256(await client.untilLength(PAYLOAD.length))).toBe(sha256(PAYLOAD));
  client.destroy();
});

test("8 MiB through an upgraded pipe and back are the same, by SHA-256", async () => {
  const client = await openPipe(
    "GET /p2p/pipe/NAME HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: p2pd\r\n\r\n",
  );
  const head = (await client.until((text) => text.includes("\r\n\r\n"))).indexOf("\r\n\r\n") + 4;
  client.send(PAYLOAD);
  const received = await client.untilLength(head + PAYLOAD.length);
  expect(sha256(received.subarray(head))).toBe(sha256(PAYLOAD));
  client.destroy();
});

test("8 MiB through a WebSocket and back are the same, by SHA-256", async () => {
  const socket = await openWebSocket(await openEcho());
  const pieces: Uint8Array[] = [];
  let length = 0;
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.addEventListener("message", ({ data }) => {
    pieces.push(new Uint8Array(data as ArrayBuffer));
    length += (data as ArrayBuffer).byteLength;
    if (length >= PAYLOAD.length) resolve();
  });
  for (let at = 0; at < PAYLOAD.length; at += 1 << 20) socket.send(PAYLOAD.subarray(at, at + (1 << 20)));
  await promise;
  expect(sha256(Buffer.concat(pieces))).toBe(sha256(PAYLOAD));
  socket.close();
});

test("text on a WebSocket is its UTF-8, and an orderly end closes it with 1000", async () => {
  const socket = await openWebSocket(await openEcho());
  const { promise, resolve } = Promise.withResolvers<string>();
  socket.addEventListener("message", ({ data }) => resolve(Buffer.from(data as ArrayBuffer).toString()));
  socket.send("grüße");
  expect(await promise).toBe("grüße");
  const closed = closing(socket);
  node.far.at(-1)?.end();
  expect((await closed).code).toBe(1000);
});

test("a WebSocket whose pipe breaks is closed with 1011 and the reason", async () => {
  const socket = await openWebSocket(await openEcho());
  const closed = closing(socket);
  node.far.at(-1)?.abort();
  const { code, reason } = await closed;
  expect(code).toBe(1011);
  expect(reason).not.toBe("");
});

test("a WebSocket of a foreign Origin is refused", async () => {
  const name = await openEcho();
  const text = await converse(
    `GET /p2p/pipe/${name} HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n${WEBSOCKET}\r\n`,
  );
  expect(statusOf(text)).toBe(403);
});

test("a client that vanishes in the middle of a transfer takes nothing with it but the pipe", async () => {
  const client = await openPipe("GET /p2p/pipe/NAME HTTP/1.1\r\nHost: localhost\r\n\r\n");
  client.send(PAYLOAD);
  await client.untilLength(1 << 20);
  client.destroy();
  expect((await fetch(`${api.url}version`)).status).toBe(200);
});

const WEBSOCKET =
  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const PAYLOAD = new Uint8Array(8 << 20).map((_, i) => (i * 7919 + (i >> 8)) & 255);

async function openEcho(): Promise<string> {
  const name = `con-${++counter}`;
  await node.open(name, "self", { service: "echo" });
  return name;
}

async function openPipe(request: string) {
  const name = await openEcho();
  const client = await connectRaw(api.local);
  client.send(request.replace("NAME", name));
  return client;
}

async function converse(request: string): Promise<string> {
  const client = await connectRaw(api.local);
  client.send(request);
  return client.ended;
}

async function openWebSocket(name: string): Promise<WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${api.local.port}/p2p/pipe/${name}`);
  socket.binaryType = "arraybuffer";
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve);
    socket.addEventListener("error", reject);
  });
  return socket;
}

function closing(socket: WebSocket): Promise<CloseEvent> {
  return new Promise((resolve) => {
    socket.addEventListener("close", resolve);
  });
}

function sha256(bytes: Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
}
