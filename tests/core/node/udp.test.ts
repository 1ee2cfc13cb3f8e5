import { afterEach, describe, expect, test } from "bun:test";
import { P2pdError } from "../../../core/errors.ts";
import { createRealWorld } from "../../../core/net/real-world.ts";
import type { World } from "../../../core/net/world.ts";
import type { Connection } from "../../../core/node/node-api.ts";
import { ask, failure, receive } from "./node-steps.ts";
import { startNode, stopAll } from "./start-node.ts";

afterEach(stopAll);

describe("transport=udp", () => {
  test("gives a pipe of datagrams over QUIC, with the peer's key proved on both sides", async () => {
    const [a, b] = [await startNode(), await startNode()];
    const near = await a.open("con", b.address(), { transport: "udp" });
    expect(near).toMatchObject({ path: "direct/udp", transport: "udp", peer: { id: b.id } });
    expect(near.pipe.kind).toBe("datagram");
    expect(near.pipe.remote.port).toBe(b.port);
    expect(await ask(near, "ECHO one")).toBe("one");
    await near.pipe.send("hello");
    const far = (await b.accept(5000)) as Connection;
    expect(far).toMatchObject({ path: "direct/udp", peer: { id: a.id }, pipe: { kind: "datagram" } });
    expect(await receive(far)).toBe("hello");
    expect(await ask(far, "answer", near)).toBe("answer");
    expect(await failure(near.pipe.send(new Uint8Array(60_000)))).toMatchObject({ code: "too-large" });
    await a.close("con");
    expect(await far.pipe.closed).toBeUndefined();
  });

  test("reaches the built-in echo, and is refused by a service that is a TCP port", async () => {
    const [a, b] = [await startNode(), await startNode()];
    const echo = await a.open("echo", b.address(), { transport: "udp", service: "echo" });
    expect(await ask(echo, "ping")).toBe("ping");
    b.putService("ssh", "127.0.0.1:22");
    const refused = await failure(a.open("ssh", b.address(), { transport: "udp", service: "ssh" }));
    expect(refused).toMatchObject({ code: "unsupported" });
    expect(refused.message).toContain("is a TCP port");
  });

  test("works to the node itself", async () => {
    const node = await startNode();
    const con = await node.open("con", "self", { transport: "udp" });
    expect(await ask(con, "ECHO me")).toBe("me");
  });

  test("a node that stops tells its peers why, over UDP too", async () => {
    const [a, b] = [await startNode(), await startNode()];
    const near = await a.open("con", b.address(), { transport: "udp" });
    await b.accept(5000);
    await b.close();
    expect(String(await near.pipe.closed)).toContain("stopped");
  });
});

test("a stream may go over QUIC as over TCP", async () => {
  const [a, b] = [await startNode({}, "any", withoutTcp()), await startNode()];
  const near = await a.open("con", b.address(), { service: "echo" });
  expect(near).toMatchObject({ path: "direct/udp", pipe: { kind: "stream" } });
  const block = new Uint8Array(300_000).fill(7);
  await near.pipe.send(block);
  let got = 0;
  while (got < block.length) got += (await near.pipe.recv("all", 5000)).bytes.length;
  expect(got).toBe(block.length);
});

test("status tells of UDP as of TCP", async () => {
  const node = await startNode();
  expect(node.status().find(({ part }) => part === "udp")).toMatchObject({
    state: "up",
    detail: `QUIC on port ${node.port}`,
  });
});

function withoutTcp(): World {
  const world = createRealWorld();
  const connectTcp = () => Promise.reject(new P2pdError("unreachable", "there is no TCP"));
  return { ...world, connectTcp };
}
