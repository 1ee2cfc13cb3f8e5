/** A real node and a peer that greets it again by a session's name that is in use: what is refused, and what is not harmed. */
import { afterEach, expect, test } from "bun:test";
import type { Path } from "../../../core/connect/race.ts";
import { createRealWorld } from "../../../core/net/real-world.ts";
import type { Credentials } from "../../../core/net/world.ts";
import { idOfKey, openIdentity } from "../../../core/node/identity.ts";
import type { Node } from "../../../core/node/node.ts";
import type { Connection } from "../../../core/node/node-api.ts";
import { Session } from "../../../core/node/session.ts";
import { until } from "./node-steps.ts";
import { receive, SESSION_ID, text } from "./session-pair.ts";
import { startNode, stopAll, temporaryDirectory } from "./start-node.ts";

const world = createRealWorld();
afterEach(stopAll);

const REFUSAL = { code: "protocol", text: "a session of that name exists" };

test.each([
  ["a session of its own", {}],
  ["one with a service", { service: "echo" }],
  ["one that names no service there is", { service: "none" }],
])(
  "a peer's second HELLO by a session's name, for %s, is refused; the session goes on, and moves",
  async (_, wish) => {
    const node = await startNode();
    const key = stranger();
    const first = await hello(node, key);
    expect((await first.welcomed).refusal).toBeUndefined();
    const heard = receive(first);
    const far = (await node.accept(5000)) as Connection;

    const second = await hello(node, key, wish);
    expect((await second.welcomed).refusal).toEqual(REFUSAL);
    second.send(text("not for the session"));
    await second.closed;
    expect(node.connections().map(({ name }) => name)).toEqual([far.name]);
    expect(await node.accept(0)).toBeUndefined();

    const before = far.pipe.remote;
    await first.moveTo(await path(node, key));
    expect(far.pipe.remote).not.toEqual(before);
    first.send(text("after"));
    expect(new TextDecoder().decode((await far.pipe.recv("all", 5000)).bytes)).toBe("after");
    await far.pipe.send("answer");
    await until(() => heard.log.includes("answer"));
    first.abort();
  },
);

test("the name of a session that is over serves again", async () => {
  const node = await startNode();
  const key = stranger();
  const first = await hello(node, key);
  await first.welcomed;
  first.abort();
  await first.closed;
  await until(() => node.connections().length === 0);
  const second = await hello(node, key);
  expect((await second.welcomed).refusal).toBeUndefined();
  second.abort();
});

test("another peer's HELLO by the same name begins a session of its own", async () => {
  const node = await startNode();
  const keys = [stranger(), stranger()];
  const sessions = await Promise.all(keys.map((key) => hello(node, key)));
  for (const session of sessions) expect((await session.welcomed).refusal).toBeUndefined();
  for (const session of sessions) session.send(text("who am I?"));
  const taken = [(await node.accept(5000)) as Connection, (await node.accept(5000)) as Connection];
  expect(new Set(taken.map(({ peer }) => peer.id)).size).toBe(2);
  for (const { pipe } of taken)
    expect(new TextDecoder().decode((await pipe.recv("all", 5000)).bytes)).toBe("who am I?");
  for (const session of sessions) session.abort();
});

function stranger(): Credentials {
  const identity = openIdentity(temporaryDirectory(), world);
  identity.release();
  return identity.credentials;
}

/** A dialer that has sent HELLO by the one name that all of these have. */
async function hello(
  node: Node,
  key: Credentials,
  wish: { readonly service?: string } = {},
): Promise<Session> {
  const session = new Session({
    role: "dialer",
    time: world.time,
    id: SESSION_ID,
    path: await path(node, key),
  });
  session.greet(wish);
  return session;
}

async function path({ id, port }: Node, credentials: Credentials): Promise<Path> {
  const tcp = await world.connectTcp({ remote: { ip: "127.0.0.1", port }, timeoutMs: 1000 });
  const stream = await world.secure(tcp, { role: "client", credentials, timeoutMs: 1000 });
  expect(idOfKey(stream.peerKey)).toBe(id);
  return { strategy: "direct", transport: "tcp", candidate: `127.0.0.1:${port}`, stream, rttMs: 1 };
}
