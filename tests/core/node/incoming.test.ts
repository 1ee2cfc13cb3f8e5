import { afterEach, describe, expect, test } from "bun:test";
import type { Connection } from "../../../core/node/node-api.ts";
import { ask, event, receive, record, until } from "./node-steps.ts";
import { startNode, stopAll } from "./start-node.ts";

afterEach(stopAll);

describe("two nodes of one machine", () => {
  test("meet by the address line; the connection answers ECHO until it is taken", async () => {
    const [a, b] = [await startNode(), await startNode()];
    const events = record(b);
    const near = await a.open("con", b.address());
    expect(await ask(near, "ECHO one")).toBe("one");
    await near.pipe.send("hello");
    const far = (await b.accept(5000)) as Connection;
    expect(far).toMatchObject({ name: "in-1", direction: "in", peer: { id: a.id }, path: "direct/tcp" });
    expect(await receive(far)).toBe("hello");
    await near.pipe.send("ECHO two");
    expect(await receive(far)).toBe("ECHO two");
    expect(await ask(far, "answer", near)).toBe("answer");
    expect(events.map(({ event }) => event)).toContain("incoming");
    expect(far.rttMs).toBeGreaterThan(0);
  });

  test("a waiting accept gets the next connection; one that gives up gets nothing", async () => {
    const [a, b] = [await startNode(), await startNode()];
    const giveUp = new AbortController();
    const abandoned = b.accept(60_000, giveUp.signal);
    giveUp.abort();
    expect(await abandoned).toBeUndefined();
    expect(await b.accept(1)).toBeUndefined();
    const waiting = b.accept(60_000);
    await a.open("con", b.address());
    expect((await waiting)?.peer.id).toBe(a.id);
  });

  test("a callback takes connections instead of the queue, until it is stopped", async () => {
    const [a, b] = [await startNode(), await startNode()];
    const { promise, resolve } = Promise.withResolvers<Connection>();
    const stop = b.onConnection(resolve);
    const near = await a.open("con", b.address());
    await near.pipe.send("ECHO x");
    expect(await receive(await promise)).toBe("ECHO x");
    stop();
    expect(await ask(await a.open("con2", b.address()), "ECHO y")).toBe("y");
  });

  test("an untaken connection that its peer closes leaves the queue", async () => {
    const [a, b] = [await startNode(), await startNode()];
    const closed = event(b, "closed");
    await a.open("con", b.address());
    await a.close("con");
    expect((await closed).data).toMatchObject({ name: "in-1" });
    expect(await b.accept(0)).toBeUndefined();
    expect(b.connections()).toEqual([]);
  });

  test("what a lost peer had sent can still be read, and then the name is gone", async () => {
    const [a, b] = [await startNode(), await startNode()];
    const near = await a.open("con", b.address());
    const far = (await b.accept(5000)) as Connection;
    await near.pipe.send("last words");
    await until(() => far.pipe.received === 10);
    const closed = event(b, "closed");
    await a.close();
    expect(String((await closed).data["reason"])).toContain("stopped");
    expect(await receive(b.connection("in-1"))).toBe("last words");
    await until(() => b.connections().length === 0);
  });

  test("the oldest of too many that nobody takes is refused", async () => {
    const [a, b] = [await startNode(), await startNode()];
    const refused = event(b, "status");
    const first = await a.open("first", b.address());
    for (let i = 0; i < 256; i++) await a.open(`con-${i}`, b.address());
    expect(String((await refused).data["detail"])).toContain("in-1 was refused");
    expect(await first.pipe.closed).toMatchObject({ code: "unavailable" });
    const incoming = b.status().find(({ part }) => part === "incoming");
    expect(incoming?.detail).toContain("256 wait to be taken, 1 had to make room");
  });
});
