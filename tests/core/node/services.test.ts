import { afterEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { createRealWorld } from "../../../core/net/real-world.ts";
import type { ByteStream, TcpListener } from "../../../core/net/world.ts";
import type { Connection } from "../../../core/node/node-api.ts";
import { Services } from "../../../core/node/services.ts";
import { failure } from "./node-steps.ts";
import { startNode, stopAll } from "./start-node.ts";

const world = createRealWorld();
const listeners: TcpListener[] = [];
afterEach(async () => {
  await stopAll();
  for (const listener of listeners.splice(0)) listener.close();
});

describe("echo", () => {
  test("sends 32 MiB back unchanged", async () => {
    const node = await startNode();
    const { pipe } = await node.open("con", "self", { service: "echo" });
    const [out, back] = [createHash("sha256"), createHash("sha256")];
    const returned = (async () => {
      for await (const { bytes } of pipe) back.update(bytes);
    })();
    for (let i = 0; i < 128; i++) {
      const piece = world.randomBytes(256 * 1024);
      out.update(piece);
      await pipe.send(piece);
    }
    pipe.end();
    await returned;
    expect(back.digest("hex")).toBe(out.digest("hex"));
    expect(node.services().find(({ name }) => name === "echo")).toMatchObject({ bytes: 32 << 20 });
  });

  test("does not read on when nobody reads what it sends", async () => {
    const node = await startNode();
    const { pipe } = await node.open("con", "self", { service: "echo" });
    const piece = new Uint8Array(256 * 1024);
    let sent = 0;
    const blocked = (async () => {
      for (; sent < 1 << 30; sent += piece.length) await pipe.send(piece);
    })();
    const first = await Promise.race([blocked, quiet(node)]);
    expect(first).toBe("quiet");
    expect(sent).toBeLessThan(128 << 20);
    await Promise.allSettled([node.close("con"), blocked]);
  });
});

test("discard swallows and counts, and ends when it is told to", async () => {
  const node = await startNode();
  const connection = await node.open("con", "self", { service: "discard" });
  expect(connection.service).toBe("discard");
  await connection.pipe.send(new Uint8Array(100_000));
  connection.pipe.end();
  expect(await connection.pipe.closed).toBeUndefined();
  expect(connection.pipe.received).toBe(0);
  expect(node.services().find(({ name }) => name === "discard")?.bytes).toBe(100_000);
});

describe("a TCP port", () => {
  test("is carried to the peer, both ways and with both ends", async () => {
    const port = await serve((stream) => {
      stream.attach({
        data: (bytes) => stream.write(Buffer.from(bytes.map((octet) => octet ^ 1))),
        drain: () => undefined,
        end: () => {
          stream.write(new TextEncoder().encode("!"));
          stream.end();
        },
        close: () => undefined,
      });
    });
    const [a, b] = [await startNode(), await startNode()];
    b.putService("xor", `127.0.0.1:${port}`);
    const { pipe } = await a.open("con", b.address(), { service: "xor" });
    await pipe.send("abc");
    pipe.end();
    let text = "";
    for await (const { bytes } of pipe) text += new TextDecoder().decode(bytes);
    expect(text).toBe("`cb!");
    await pipe.closed;
    expect(b.services().at(-1)).toMatchObject({ name: "xor", kind: "tcp", bytes: 3 });
    expect(b.connections()).toEqual([]);
  });

  test("that does not answer is a refusal of the open", async () => {
    const node = await startNode();
    const port = await serve(() => undefined);
    for (const listener of listeners.splice(0)) listener.close();
    node.putService("gone", `127.0.0.1:${port}`);
    expect(await failure(node.open("con", "self", { service: "gone" }))).toMatchObject({
      code: "unavailable",
    });
    expect(node.services().at(-1)).toMatchObject({ name: "gone", connections: 0 });
  });

  test("is for those on its list, and nobody else makes it connect", async () => {
    let connects = 0;
    const port = await serve((stream) => {
      connects++;
      stream.attach({
        data: () => undefined,
        drain: () => undefined,
        end: () => stream.end(),
        close: () => undefined,
      });
    });
    const [a, b, c] = [await startNode(), await startNode(), await startNode()];
    c.putService("ssh", `127.0.0.1:${port}`, [a.id]);
    await a.open("con", c.address(), { service: "ssh" });
    expect(await failure(b.open("con", c.address(), { service: "ssh" }))).toMatchObject({
      code: "unauthorized",
      message: expect.stringContaining(b.id),
    });
    expect(connects).toBe(1);
    c.putService("ssh", `127.0.0.1:${port}`, []);
    expect(await failure(a.open("con2", c.address(), { service: "ssh" }))).toMatchObject({
      code: "unauthorized",
    });
  });

  test("stands in the configuration from the start, and is gone once deleted", async () => {
    const port = await serve((stream) =>
      stream.attach({
        data: () => undefined,
        drain: () => undefined,
        end: () => stream.end(),
        close: () => undefined,
      }),
    );
    const node = await startNode({ services: [{ name: "kept", to: `127.0.0.1:${port}` }] });
    await node.open("con", "self", { service: "kept" });
    node.deleteService("kept");
    const error = await failure(node.open("con2", "self", { service: "kept" }));
    expect(error).toMatchObject({ code: "no-such-service", message: expect.stringContaining("kept") });
    expect(error.detail["timeline"]).toBeArray();
  });
});

describe("what cannot be offered is refused with a reason", () => {
  const services = new Services(world);
  const cases = {
    "an empty name": ["", "127.0.0.1:22"],
    "a name with a space": ["a b", "127.0.0.1:22"],
    "a name of 10 kB": ["x".repeat(10_000), "127.0.0.1:22"],
    "a port alone": ["ssh", "22"],
    "port 0": ["ssh", "127.0.0.1:0"],
    "a port above 65535": ["ssh", "127.0.0.1:65536"],
    "a host name": ["ssh", "example.org:22"],
    "an id that is none": ["ssh", "127.0.0.1:22", ["me"]],
    "a list of too many": ["ssh", "127.0.0.1:22", Array.from({ length: 1025 }, () => "x")],
  } as const;
  for (const [name, [service, to, allow]] of Object.entries(cases)) {
    test(name, () => {
      expect(() => services.put(service, to, allow)).toThrow(
        expect.objectContaining({ code: "bad-argument" }),
      );
    });
  }

  test("a built-in name", () => {
    expect(() => services.put("echo", "127.0.0.1:22")).toThrow(
      expect.objectContaining({ code: "reserved-name" }),
    );
    expect(() => services.delete("discard")).toThrow(expect.objectContaining({ code: "reserved-name" }));
  });

  test("the deletion of what is not there", () => {
    expect(() => services.delete("nope")).toThrow(expect.objectContaining({ code: "no-such-service" }));
  });

  test("more services than there is room for", () => {
    const full = new Services(world);
    for (let i = 0; i < 254; i++) full.put(`s${i}`, "localhost:22");
    expect(() => full.put("one-more", "127.0.0.1:22")).toThrow("256 services already");
    expect(full.put("s0", "[::1]:22", [])).toEqual({
      name: "s0",
      kind: "tcp",
      to: { ip: "::1", port: 22 },
      allow: [],
      connections: 0,
      bytes: 0,
    });
  });
});

async function serve(accept: (stream: ByteStream) => void): Promise<number> {
  const listener = await world.listenTcp({ local: { ip: "127.0.0.1", port: 0 }, accept });
  listeners.push(listener);
  return listener.local.port;
}

/** Resolves when no octet has moved for a while: both sides are full. */
async function quiet(node: { connection(name: string): Connection }): Promise<"quiet"> {
  let last = -1;
  let still = 0;
  while (still < 10) {
    const { sent, received } = node.connection("con").pipe;
    still = sent + received === last ? still + 1 : 0;
    last = sent + received;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return "quiet";
}
