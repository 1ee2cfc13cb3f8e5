/** What those get from the TURN server who are not its users, and what it keeps of them: nothing. */
import { expect, test } from "bun:test";
import { encodeStun } from "../../../core/wire/stun.ts";
import * as turn from "../../../core/wire/turn.ts";
import { channelIs, PEER, peerIs, sendIndication, turnWorld, UDP } from "./turn-world.ts";

const HELLO = new TextEncoder().encode("hello");

test("strangers get a bounded number of answers per second, whatever they send", () => {
  const world = turnWorld({ answersPerSecond: 10 });
  const client = world.udp(1);
  const binding = encodeStun({ class: "request", method: 1, transactionId: new Uint8Array(12) });
  for (let i = 0; i < 500; i++) client.raw(binding);
  for (let i = 0; i < 500; i++) client.ask(turn.ALLOCATE, [UDP], null);
  expect(client.received).toHaveLength(20);
  expect(world.server.counts.limited).toBe(980);
  world.nowMs += 1000;
  for (let i = 0; i < 500; i++) client.raw(binding);
  expect(client.received).toHaveLength(30);
  const other = world.udp(1, "5.99.0.1");
  other.raw(binding);
  expect(other.received).toHaveLength(1);
});

test("strangers leave nothing behind: no memory, no answer to what is no request", () => {
  const world = turnWorld();
  const client = world.udp(1);
  const message = (kind: "success" | "error" | "indication", method: number): Uint8Array =>
    encodeStun({ class: kind, method, transactionId: new Uint8Array(12) });
  for (const kind of ["success", "error", "indication"] as const) {
    for (const method of [1, turn.ALLOCATE, turn.SEND, turn.DATA_METHOD]) client.raw(message(kind, method));
  }
  client.raw(new Uint8Array(0));
  client.raw(Uint8Array.of(0x40));
  client.raw(turn.encodeChannelData(0x4000, HELLO, false));
  expect(client.received).toEqual([]);
  client.ask(turn.ALLOCATE, [UDP], null);
  expect(world.listener.paths.size).toBe(0);
});

test("of a hundred thousand random and mutated datagrams none is relayed or makes an allocation", () => {
  const world = turnWorld();
  const client = world.udp(1);
  const port = client.allocate();
  client.ask(turn.CHANNEL_BIND, [channelIs(0x4001), peerIs(PEER)]);
  const requests = [
    sendIndication({ ip: "10.0.0.1", port: 53 }, HELLO),
    encodeStun({
      class: "request",
      method: turn.ALLOCATE,
      transactionId: new Uint8Array(12),
      attributes: [UDP],
    }),
    encodeStun({
      class: "request",
      method: turn.CREATE_PERMISSION,
      transactionId: new Uint8Array(12),
      attributes: [peerIs({ ip: "10.0.0.1", port: 1 })],
    }),
  ];
  let state = 0x5eed;
  const random = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  const stranger = world.udp(2);
  for (let i = 0; i < 100_000; i++) {
    const source = requests[i % requests.length] as Uint8Array;
    const bytes = i % 5 === 0 ? Uint8Array.from({ length: random() % 90 }, random) : source.slice();
    for (let n = random() % 4; n > 0 && bytes.length > 0; n--) bytes[random() % bytes.length] = random();
    stranger.raw(bytes);
    stranger.received.length = 0;
    if ((bytes[0] ?? 0) < 0x40) client.raw(bytes);
  }
  expect(world.server.allocations.all.size).toBe(1);
  expect(world.relays.map((relay) => relay.port)).toEqual([port]);
  const wrong = world.toPeers.filter(({ to }) => to.ip !== PEER.ip);
  expect(wrong).toEqual([]);
});
