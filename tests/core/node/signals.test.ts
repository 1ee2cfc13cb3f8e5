import { afterEach, describe, expect, test } from "bun:test";
import { P2pdError } from "../../../core/errors.ts";
import { createRealWorld } from "../../../core/net/real-world.ts";
import type { World } from "../../../core/net/world.ts";
import type { Node } from "../../../core/node/node.ts";
import type { Connection } from "../../../core/node/node-api.ts";
import { decodeAddress, encodeAddress } from "../../../core/wire/address.ts";
import { startAedes, startSilent } from "../signal/brokers.ts";
import { ask, failure, receive, until } from "./node-steps.ts";
import { startNode, stopAll } from "./start-node.ts";

const brokers: { close(): unknown }[] = [];
afterEach(async () => {
  await stopAll();
  for (const broker of brokers.splice(0)) await broker.close();
});

describe("by id alone", () => {
  test("a peer is found by its record, and the address line names the brokers", async () => {
    const { url, mqttBrokers } = await broker();
    const [a, b] = [await startNode({ mqttBrokers }), await startNode({ mqttBrokers })];
    expect(decodeAddress(b.address()).brokers).toEqual([
      { scheme: "mqtt", host: "127.0.0.1", port: Number(new URL(url).port), path: "" },
    ]);
    await connected(a, b);
    const con = await a.open("con", b.id);
    expect(con).toMatchObject({ peer: { id: b.id }, strategy: "direct" });
    expect(con.timeline.map(({ event }) => event)).toContain("looked up");
    expect(await ask(con, "ECHO hello")).toBe("hello");
  });

  test("a peer that left no record is not known, and no broker is said to be no broker", async () => {
    const { mqttBrokers } = await broker();
    const a = await startNode({ mqttBrokers });
    await connected(a);
    const stranger = await startNode();
    const began = performance.now();
    expect(await failure(a.open("con", stranger.id))).toMatchObject({ code: "no-such-peer" });
    // The broker has answered: nothing is waited for until the look-up's time of 3 s is over.
    expect(performance.now() - began).toBeLessThan(2000);
    const alone = await failure(stranger.open("con", a.id));
    expect(alone.message).toContain("no mqttBrokers are configured");
  });
});

test("an address that is out of date is refreshed by the record", async () => {
  const { mqttBrokers } = await broker();
  const [a, b] = [await startNode({ mqttBrokers }), await startNode({ mqttBrokers })];
  await connected(a, b);
  const now = decodeAddress(b.address());
  const old = encodeAddress({ ...now, nics: now.nics.map((nic) => ({ ...nic, port: 9 })) });
  const con = await a.open("con", old, { strategies: ["direct"] });
  expect(con.strategy).toBe("direct");
  expect(con.timeline.map(({ detail }) => detail)).toContain("the peer's address has changed");
});

describe("reverse", () => {
  test("a peer that cannot be reached connects to us; who asked is the caller in all else", async () => {
    const { mqttBrokers } = await broker();
    const a = await startNode({ mqttBrokers }, "any", withoutConnects());
    const b = await startNode({ mqttBrokers });
    await connected(a, b);
    const near = await a.open("con", b.address());
    expect(near).toMatchObject({ direction: "out", strategy: "reverse", peer: { id: b.id } });
    const far = (await b.accept(5000)) as Connection;
    expect(far).toMatchObject({ direction: "in", strategy: "reverse", peer: { id: a.id } });
    await near.pipe.send("hello");
    expect(await receive(far)).toBe("hello");
    expect(await ask(far, "answer", near)).toBe("answer");
    await until(() => near.clock !== undefined);
    expect(Math.abs(near.clock?.offsetMs ?? 1000)).toBeLessThan(500);
    b.putService("nothing", "127.0.0.1:9");
    const refused = await failure(a.open("con2", b.address(), { service: "nothing" }));
    expect(refused.code).toBe("unavailable");
    const datagrams = await a.open("udp", b.address(), { transport: "udp", service: "echo" });
    expect(datagrams).toMatchObject({ path: "reverse/udp", pipe: { kind: "datagram" } });
    expect(await ask(datagrams, "ping")).toBe("ping");
  });

  test("one that cannot connect back either says so, with what it tried, which is nothing of its own machine", async () => {
    const { mqttBrokers } = await broker();
    const a = await startNode({ mqttBrokers }, "any", withoutConnects());
    const b = await startNode({ mqttBrokers }, "any", withoutConnects());
    await connected(a, b);
    const error = await failure(a.open("con", b.address(), { strategies: ["reverse"] }));
    expect(error.code).toBe("connect-failed");
    const [, tried = ""] = error.message.split("the peer could not connect to us: ");
    expect(tried).toContain(`:${decodeAddress(a.address()).nics[0]?.port}/tcp`);
    expect(tried).not.toContain("127.0.0.1");
    const forbidden = await startNode({ mqttBrokers, strategies: ["direct"] });
    await connected(forbidden);
    const refused = await failure(a.open("con", forbidden.address(), { strategies: ["reverse"] }));
    expect(refused.message).toContain("does not connect back: not allowed here");
  });

  test("with no broker that works, direct still does, and status says what does not", async () => {
    const silent = await startSilent();
    brokers.push(silent);
    const mqttBrokers = [`mqtt://127.0.0.1:9`, silent.url];
    const [a, b] = [await startNode({ mqttBrokers }), await startNode({ mqttBrokers })];
    const began = performance.now();
    expect((await a.open("con", b.address())).strategy).toBe("direct");
    expect(performance.now() - began).toBeLessThan(1000);
    await until(() => part(a, `broker mqtt://127.0.0.1:9`)?.state === "down");
    expect(part(a, "brokers")).toMatchObject({
      state: "down",
      detail: expect.stringContaining("direct connects do"),
    });
    expect(part(a, "signals")?.detail).toContain("0 received, 0 delivered, dropped: none");
  });
});

async function broker(): Promise<{ url: string; mqttBrokers: readonly string[] }> {
  const started = await startAedes();
  brokers.push(started);
  return { url: started.url, mqttBrokers: [started.url] };
}

async function connected(...nodes: readonly Node[]): Promise<void> {
  await until(() => nodes.every((node) => part(node, "brokers")?.state === "up"));
}

function part(node: Node, name: string) {
  return node.status().find(({ part }) => part === name);
}

/** A world from which nobody can be connected to but brokers. */
function withoutConnects(): World {
  const world = createRealWorld();
  return {
    ...world,
    connectTcp: (options) => {
      const isBroker = brokers.some((one) => "port" in one && one.port === options.remote.port);
      if (isBroker) return world.connectTcp(options);
      return Promise.reject(new P2pdError("timeout", "dropped"));
    },
    async openQuic(options) {
      const quic = await world.openQuic?.(options);
      if (quic === undefined) throw new P2pdError("unsupported", "no QUIC");
      return {
        local: quic.local,
        get counters() {
          return quic.counters;
        },
        connect: () => Promise.reject(new P2pdError("timeout", "dropped")),
        close: () => quic.close(),
      };
    },
  };
}
