/** TCP allocations (RFC 6062), the machine's part: connects, attempts, and the client's connection that takes one over. */
import { expect, test } from "bun:test";
import type { Connection, PeerLink, Relay } from "../../../core/infra/turn-parts.ts";
import type { Endpoint } from "../../../core/ip.ts";
import { attribute, type Attribute, ERROR_CODE } from "../../../core/wire/stun-attributes.ts";
import { decodeStun, readAttribute } from "../../../core/wire/stun.ts";
import * as turn from "../../../core/wire/turn.ts";
import {
  PEER,
  peerIs,
  RELAY_IP,
  TCP,
  type TestClient,
  type TurnWorld,
  turnWorld,
  UDP,
  type WorldOptions,
} from "./turn-world.ts";

const connectionIs = (id: number): Attribute => attribute(turn.CONNECTION_ID, id);

test("Connect tells the connection's id, once the peer has answered", () => {
  const { world, client } = start();
  client.received.length = 0;
  expect(client.ask(turn.CONNECT, [peerIs(PEER)]).code).toBe(-1);
  expect(world.connects).toHaveLength(1);
  const connection = world.connects[0] as Connection;
  expect(connection.peer).toEqual(PEER);
  world.server.connections.peerConnected(connection, link(), world.nowMs);
  const answer = decodeStun(client.received.at(-1) as Uint8Array);
  if (typeof answer === "string") throw new Error(answer);
  expect(answer.class).toBe("success");
  expect(readAttribute(answer, turn.CONNECTION_ID)).toBe(connection.id);
});

test("a peer that does not answer is 447, one that is connected 446, a private one 403, another family 443", () => {
  const { world, client } = start();
  client.ask(turn.CONNECT, [peerIs(PEER)]);
  expect(client.ask(turn.CONNECT, [peerIs(PEER)]).code).toBe(446);
  expect(client.ask(turn.CONNECT, [peerIs({ ip: "10.0.0.1", port: 1 })]).code).toBe(403);
  expect(client.ask(turn.CONNECT, [peerIs({ ip: RELAY_IP, port: 22 })]).code).toBe(403);
  expect(client.ask(turn.CONNECT, [peerIs({ ip: "2a01:5a40::1", port: 1 })]).code).toBe(443);
  expect(client.ask(turn.CONNECT, []).code).toBe(400);
  client.received.length = 0;
  world.server.connections.peerFailed(world.connects[0] as Connection);
  const answer = decodeStun(client.received[0] as Uint8Array);
  if (typeof answer === "string") throw new Error(answer);
  expect(readAttribute(answer, ERROR_CODE)?.code).toBe(447);
  expect(client.ask(turn.CONNECT, [peerIs(PEER)]).code).toBe(-1);
  expect(world.connects).toHaveLength(2);
});

test("of the server's own address the TCP relays of others can be connected to", () => {
  const { world, client } = start();
  const other = world.tcp(7);
  const port = other.ask(turn.ALLOCATE, [TCP]).get(turn.XOR_RELAYED_ADDRESS)?.port as number;
  expect(client.ask(turn.CONNECT, [peerIs({ ip: RELAY_IP, port })]).code).toBe(-1);
  expect(world.connects[0]?.peer).toEqual({ ip: RELAY_IP, port });
  world.server.pathClosed(other.path);
  expect(client.ask(turn.CONNECT, [peerIs({ ip: RELAY_IP, port })]).code).toBe(403);
});

test("a peer that comes is told of if it is permitted, and sent away if not", () => {
  const { world, client, relay } = start();
  expect(world.server.connections.peerAccepted(relay, link(), world.nowMs)).toBe(false);
  client.ask(turn.CREATE_PERMISSION, [peerIs(PEER)]);
  expect(world.server.connections.peerAccepted(relay, link(), world.nowMs)).toBe(true);
  const attempt = decodeStun(client.received.at(-1) as Uint8Array);
  if (typeof attempt === "string") throw new Error(attempt);
  expect(attempt.method).toBe(turn.CONNECTION_ATTEMPT);
  expect(readAttribute(attempt, turn.XOR_PEER_ADDRESS)).toEqual(PEER);
  world.nowMs += 300_000;
  expect(world.server.connections.peerAccepted(relay, link(), world.nowMs)).toBe(false);
});

test("ConnectionBind joins the client's other connection with the peer's, once, for its user alone", () => {
  const { world, client, relay } = start();
  client.ask(turn.CREATE_PERMISSION, [peerIs(PEER)]);
  const peer = link();
  world.server.connections.peerAccepted(relay, peer, world.nowMs);
  const id = idOf(client.received.at(-1) as Uint8Array);
  const data = world.tcp(2);
  expect(data.ask(turn.CONNECTION_BIND, [connectionIs(id + 1)]).code).toBe(400);
  expect(data.ask(turn.CONNECTION_BIND, []).code).toBe(400);
  expect(client.ask(turn.CONNECTION_BIND, [connectionIs(id)]).code).toBe(400);
  expect(world.udp(9).ask(turn.CONNECTION_BIND, [connectionIs(id)]).code).toBe(400);
  expect(data.ask(turn.CONNECTION_BIND, [connectionIs(id)]).code).toBe(0);
  expect(data.joined).toEqual([peer]);
  expect(world.tcp(3).ask(turn.CONNECTION_BIND, [connectionIs(id)]).code).toBe(400);
});

test("a connection that nobody takes over ends after 30 s; the allocation's end ends them all", () => {
  const { world, client, relay } = start();
  client.ask(turn.CREATE_PERMISSION, [peerIs(PEER)]);
  const [first, second] = [link(), link({ ...PEER, port: 1 })];
  world.server.connections.peerAccepted(relay, first, world.nowMs);
  world.nowMs += 30_000;
  world.server.sweep(world.nowMs);
  expect(first.aborted).toBe(1);
  world.server.connections.peerAccepted(relay, second, world.nowMs);
  client.ask(turn.CONNECT, [peerIs({ ...PEER, port: 2 })]);
  expect(world.server.connections.count).toBe(2);
  world.server.pathClosed(client.path);
  expect(second.aborted).toBe(1);
  expect(world.server.connections.count).toBe(0);
  const late = link();
  world.server.connections.peerConnected(world.connects[0] as Connection, late, world.nowMs);
  expect(late.aborted).toBe(1);
});

test("one allocation has at most 64 connections", () => {
  const { world, client, relay } = start();
  client.ask(turn.CREATE_PERMISSION, [peerIs(PEER)]);
  for (let port = 1; port <= 64; port++) {
    expect(world.server.connections.peerAccepted(relay, link({ ...PEER, port }), world.nowMs)).toBe(true);
  }
  expect(world.server.connections.peerAccepted(relay, link(), world.nowMs)).toBe(false);
  expect(client.ask(turn.CONNECT, [peerIs({ ...PEER, port: 99 })]).code).toBe(508);
});

test("a TCP allocation has neither channels nor reserved ports nor fragments, and a UDP one no connects", () => {
  const { world, client } = start({ dontFragment: true });
  const channel = [attribute(turn.CHANNEL_NUMBER, 0x4000), peerIs(PEER)];
  expect(client.ask(turn.CHANNEL_BIND, channel).code).toBe(400);
  const other = world.tcp(5);
  expect(other.ask(turn.ALLOCATE, [TCP, attribute(turn.EVEN_PORT, false)]).code).toBe(400);
  expect(other.ask(turn.ALLOCATE, [TCP, attribute(turn.DONT_FRAGMENT, true)]).code).toBe(400);
  expect(other.ask(turn.ALLOCATE, [UDP]).code).toBe(0);
  expect(other.ask(turn.CONNECT, [peerIs(PEER)]).code).toBe(400);
});

interface TestLink extends PeerLink {
  aborted: number;
}

function link(remote: Endpoint = PEER): TestLink {
  const one: TestLink = { remote, aborted: 0, abort: () => void one.aborted++ };
  return one;
}

function start(options?: WorldOptions): { world: TurnWorld; client: TestClient; relay: Relay } {
  const world = turnWorld(options);
  const client = world.tcp(1);
  expect(client.ask(turn.ALLOCATE, [TCP]).code).toBe(0);
  return { world, client, relay: world.relays[0] as Relay };
}

function idOf(bytes: Uint8Array): number {
  const message = decodeStun(bytes);
  if (typeof message === "string") throw new Error(message);
  return readAttribute(message, turn.CONNECTION_ID) as number;
}
