import { afterEach, describe, expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { SecureStream } from "../../../core/net/world.ts";
import { createRealWorld } from "../../../core/net/real-world.ts";
import { openIdentity } from "../../../core/node/identity.ts";
import type { TimelineEntry } from "../../../core/node/node-api.ts";
import { decodeAddress, encodeAddress } from "../../../core/wire/address.ts";
import { ask, event, failure, until } from "./node-steps.ts";
import { startNode, stopAll, temporaryDirectory } from "./start-node.ts";

const world = createRealWorld();
afterEach(stopAll);

describe("open self", () => {
  test("goes by a real connection with TLS, and the far end answers ECHO", async () => {
    const node = await startNode();
    const connection = await node.open("con", "self");
    expect(connection).toMatchObject({
      name: "con",
      direction: "out",
      peer: { id: node.id },
      strategy: "direct",
      path: "direct/tcp",
      transport: "tcp",
      cipher: expect.stringMatching(/^TLS_/),
      route: { af: 2, nic_ips: ["127.0.0.1"] },
    });
    expect(connection.pipe.remote).toEqual({ ip: "127.0.0.1", port: node.port });
    expect(connection.pipe.fd).toBeGreaterThan(2);
    expect(connection.timeline.map(({ event }) => event)).toEqual([
      "connecting",
      "connected",
      "authenticated",
      "greeted",
    ]);
    expect(await ask(connection, "ECHO hello")).toBe("hello");
    expect(connection.rttMs).toBeGreaterThan(0);
    expect(connection.openedMs).toBeGreaterThan(0);
    expect(connection.openedMs).toBeLessThan(5000);
    expect([connection.pipe.sent, connection.pipe.received]).toEqual([10, 5]);
    expect(node.connection("con")).toBe(connection);
    expect(node.connections()).toEqual([connection]);
    expect(await node.accept(0)).toBeUndefined();
  });

  test("is what the own id and the own address mean too, however old the address", async () => {
    const node = await startNode();
    const old = encodeAddress({ ...decodeAddress(node.address()), nics: [], machine: "AAAAAAAAAAA" });
    for (const [name, target] of [
      ["a", node.id],
      ["b", node.address()],
      ["c", old],
    ] as const) {
      expect(await ask(await node.open(name, target), "ECHO x")).toBe("x");
    }
  });

  test("what is no ECHO is not answered, and the end is", async () => {
    const node = await startNode();
    const { pipe } = await node.open("con", "self");
    await pipe.send("hello");
    pipe.end();
    await pipe.closed;
    expect(pipe.received).toBe(0);
  });
});

describe("a name", () => {
  test("is refused when it is malformed, reserved or taken", async () => {
    const node = await startNode();
    for (const name of ["", "a b", "x".repeat(65), "ä", "a/b"]) {
      expect(await failure(node.open(name, "self"))).toMatchObject({ code: "bad-argument" });
    }
    for (const name of ["self", "all", ".", ".."]) {
      expect(await failure(node.open(name, "self"))).toMatchObject({ code: "reserved-name" });
    }
    const first = node.open("con", "self");
    expect(await failure(node.open("con", "self"))).toMatchObject({ code: "name-taken" });
    await first;
    expect(await failure(node.open("con", "self"))).toMatchObject({ code: "name-taken" });
  });

  test("is free again after a failed open and after a close", async () => {
    const node = await startNode();
    expect(await failure(node.open("con", "p2pd1~nonsense"))).toMatchObject({ code: "bad-argument" });
    await node.open("con", "self");
    await node.close("con");
    await node.open("con", "self");
  });

  test("that is not there is said to be not there", async () => {
    const node = await startNode();
    expect(() => node.connection("x".repeat(100))).toThrow("there is no connection named");
    expect(await failure(node.close("con"))).toMatchObject({ code: "no-such-connection" });
  });
});

describe("an open that fails", () => {
  test("names every attempt and leaves a timeline", async () => {
    const [a, b] = [await startNode(), await startNode()];
    const address = b.address();
    await b.close();
    const error = await failure(a.open("con", address));
    expect(error.code).toBe("connect-failed");
    const { attempts, timeline } = error.detail as { attempts: TimelineEntry[]; timeline: TimelineEntry[] };
    expect(new Set(attempts.map(({ strategy }) => strategy))).toEqual(
      new Set(["direct", "reverse", "punch", "relay"]),
    );
    expect(attempts[0]).toMatchObject({
      strategy: "direct",
      candidate: expect.stringContaining("127.0.0.1"),
    });
    expect(timeline.some(({ event }) => event === "failed")).toBe(true);
    expect(error.message).toContain("direct 127.0.0.1");
  });

  test("a node with another key at that place is not taken for the one that was asked for", async () => {
    const [a, b] = [await startNode(), await startNode()];
    const stranger = openIdentity(temporaryDirectory(), world);
    stranger.release();
    const error = await failure(
      a.open("con", encodeAddress({ ...decodeAddress(b.address()), id: stranger.id })),
    );
    expect(error.code).toBe("connect-failed");
    expect(error.message).toContain("key");
    expect(b.connections()).toEqual([]);
  });

  test("says what is in the way when it is told to use what cannot work", async () => {
    const node = await startNode();
    expect((await failure(node.open("b", "self", { strategies: ["punch"] }))).message).toContain(
      "not allowed here",
    );
    const bare = encodeAddress({ ...decodeAddress(node.address()), id: (await startNode()).id, nics: [] });
    expect((await failure(node.open("c", bare))).message).toContain("no endpoint of the address");
    const stranger = openIdentity(temporaryDirectory(), world);
    stranger.release();
    expect((await failure(node.open("d", stranger.id))).code).toBe("no-such-peer");
  });

  test("is over at its deadline when the peer says nothing", async () => {
    const node = await startNode();
    const silent = await world.listenTcp({ local: { ip: "127.0.0.1", port: 0 }, accept: () => undefined });
    const stranger = openIdentity(temporaryDirectory(), world);
    stranger.release();
    const target = encodeAddress({
      ...decodeAddress(node.address()),
      id: stranger.id,
      nics: [
        {
          index: 0,
          family: 4,
          address: "127.0.0.1",
          port: silent.local.port,
          nat: "unknown",
          delta: "unknown",
          deltaValue: 0,
        },
      ],
    });
    expect((await failure(node.open("con", target, { timeoutMs: 100 }))).code).toBe("connect-failed");
    silent.close();
  });
});

describe("a start", () => {
  test("tells ready with the address, and what is up in words", async () => {
    const node = await startNode();
    const ready = event(node, "ready");
    expect((await ready).data).toMatchObject({ id: node.id });
    expect(node.status().map(({ part }) => part)).toEqual([
      "tcp4",
      "tcp6",
      "udp",
      "incoming",
      "stun",
      "nat",
      "brokers",
      "relay",
      "portmap",
    ]);
    expect(node.interfaces().length).toBeGreaterThan(0);
    const address = decodeAddress(node.address());
    expect(address.id).toBe(node.id);
    expect(address.nics.every(({ port }) => port === node.port)).toBe(true);
  });

  test("takes a port of the machine, and the next one where that is taken", async () => {
    const [a, b] = [await startNode({}, "derived"), await startNode({}, "derived")];
    expect(a.port).toBeGreaterThanOrEqual(10_000);
    expect(b.port).not.toBe(a.port);
  });

  test("with a port that is taken fails, names it, and gives the directory free", async () => {
    const other = await startNode();
    const dataDir = temporaryDirectory();
    const error = await failure(startNode({ dataDir, listenPort: other.port }));
    expect(error).toMatchObject({
      code: "address-in-use",
      message: expect.stringContaining(`listenPort ${other.port}`),
    });
    expect(existsSync(join(dataDir, "node.lock"))).toBe(false);
  });

  test("with a malformed service fails with the reason", async () => {
    const error = await failure(startNode({ services: [{ name: "ssh", to: "22" }] }));
    expect(error.code).toBe("bad-argument");
  });

  test("restricted to NICs that are not there still serves this machine", async () => {
    const node = await startNode({ interfaces: ["nosuchnic"] });
    expect(await ask(await node.open("con", "self"), "ECHO x")).toBe("x");
  });
});

describe("a close", () => {
  test("leaves no descriptor, no lock, and may be asked for twice", async () => {
    const dataDir = temporaryDirectory();
    const warm = await startNode();
    await ask(await warm.open("con", "self"), "ECHO x");
    await warm.close();
    const before = descriptors();
    const node = await startNode({ dataDir });
    const other = await startNode();
    await ask(await node.open("a", "self"), "ECHO x");
    await ask(await node.open("b", "self", { service: "echo" }), "x");
    await node.open("c", other.address());
    const idle = await world.connectTcp({ remote: { ip: "127.0.0.1", port: node.port }, timeoutMs: 1000 });
    const gone = ended(idle);
    await Promise.all([node.close(), node.close()]);
    await gone;
    await other.close();
    await until(() => descriptors() <= before);
    expect(existsSync(join(dataDir, "node.lock"))).toBe(false);
    expect(await failure(node.open("d", "self"))).toMatchObject({ code: "closed" });
  });

  test("stops an open that is under way", async () => {
    const node = await startNode();
    const opening = failure(node.open("con", "self"));
    await node.close();
    expect(["connect-failed", "closed"]).toContain((await opening).code);
  });

  test("of a hundred connections at once leaves none", async () => {
    const node = await startNode();
    await node.open("warm", "self");
    const before = descriptors();
    const all = await Promise.all(Array.from({ length: 100 }, (_, i) => node.open(`con-${i}`, "self")));
    expect(await Promise.all(all.map((connection, i) => ask(connection, `ECHO ${i}`)))).toEqual(
      all.map((_, i) => `${i}`),
    );
    await Promise.all(all.map(({ name }) => node.close(name)));
    expect(node.connections().map(({ name }) => name)).toEqual(["warm"]);
    await until(() => descriptors() <= before);
  });
});

test("a peer that talks nonsense is counted and does no harm", async () => {
  const node = await startNode();
  const remote = { ip: "127.0.0.1", port: node.port };
  const plain = await world.connectTcp({ remote, timeoutMs: 1000 });
  const over = ended(plain);
  plain.write(new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"));
  await over;
  const stranger = openIdentity(temporaryDirectory(), world);
  stranger.release();
  const { credentials } = stranger;
  const secure = await world.secure(await world.connectTcp({ remote, timeoutMs: 1000 }), {
    role: "client",
    credentials,
    timeoutMs: 1000,
  });
  const reset = ended(secure);
  secure.write(new Uint8Array(100).fill(255));
  await reset;
  await until(() => node.status().some(({ detail }) => detail.includes("2 failed before their greeting")));
  expect(await ask(await node.open("con", "self"), "ECHO x")).toBe("x");
});

function ended(stream: SecureStream | Awaited<ReturnType<typeof world.connectTcp>>): Promise<void> {
  return new Promise((resolve) => {
    stream.attach({
      data: () => undefined,
      drain: () => undefined,
      end: () => stream.end(),
      close: () => resolve(),
    });
  });
}

function descriptors(): number {
  return existsSync("/proc/self/fd") ? readdirSync("/proc/self/fd").length : 0;
}
