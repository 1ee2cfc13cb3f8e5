/** Who may exchange data through an allocation, by permissions and channels (RFC 8656 sections 9 to 12), and who never. */
import { expect, test } from "bun:test";
import { attribute, type Attribute } from "../../../core/wire/stun-attributes.ts";
import { decodeStun, readAttribute } from "../../../core/wire/stun.ts";
import * as turn from "../../../core/wire/turn.ts";
import { channelIs, PEER, peerIs, RELAY_IP, sendIndication, turnWorld } from "./turn-world.ts";

const HELLO = new TextEncoder().encode("hello");
const family = (value: number): Attribute => attribute(turn.REQUESTED_ADDRESS_FAMILY, value);
const lifetime = (seconds: number): Attribute => attribute(turn.LIFETIME, seconds);

test("data goes both ways with a permission, by indications, and not without one", () => {
  const world = turnWorld();
  const client = world.udp(1);
  const port = client.allocate();
  client.raw(sendIndication(PEER, HELLO));
  world.fromPeer(port, HELLO);
  expect(world.toPeers).toEqual([]);
  expect(world.server.counts.dropNoPermission).toBe(2);
  expect(client.ask(turn.CREATE_PERMISSION, [peerIs({ ...PEER, port: 1 })]).code).toBe(0);
  client.raw(sendIndication(PEER, HELLO));
  expect(world.toPeers).toEqual([{ bytes: HELLO, to: PEER, port }]);
  world.fromPeer(port, HELLO, { ...PEER, port: 77 });
  const data = decodeStun(client.received.at(-1) as Uint8Array);
  if (typeof data === "string") throw new Error(data);
  expect(readAttribute(data, turn.XOR_PEER_ADDRESS)).toEqual({ ...PEER, port: 77 });
  expect(readAttribute(data, turn.DATA)).toEqual(HELLO);
  world.fromPeer(port, HELLO, { ip: "5.44.0.10", port: 77 });
  expect(world.server.counts.dropNoPermission).toBe(3);
});

test("a channel carries data with a header of four octets, which over TCP is padded", () => {
  for (const over of ["udp", "tcp"] as const) {
    const world = turnWorld();
    const client = world[over](1);
    const port = client.allocate();
    expect(client.ask(turn.CHANNEL_BIND, [channelIs(0x4001), peerIs(PEER)]).code).toBe(0);
    client.raw(turn.encodeChannelData(0x4001, HELLO, true));
    expect(world.toPeers).toEqual([{ bytes: HELLO, to: PEER, port }]);
    world.fromPeer(port, HELLO);
    expect(client.received.at(-1)).toEqual(turn.encodeChannelData(0x4001, HELLO, over === "tcp"));
    // Another port of that peer has a permission, and no channel.
    world.fromPeer(port, HELLO, { ...PEER, port: 9 });
    expect(typeof decodeStun(client.received.at(-1) as Uint8Array)).toBe("object");
  }
});

test("a permission ends after 300 s, a channel after 600 s; binding a channel renews both", () => {
  const world = turnWorld();
  const client = world.udp(1);
  const port = client.allocate(lifetime(3600));
  const bind = (): number => client.ask(turn.CHANNEL_BIND, [channelIs(0x4001), peerIs(PEER)]).code;
  const arrives = (): boolean => {
    const before = world.toPeers.length;
    client.raw(turn.encodeChannelData(0x4001, HELLO, false));
    return world.toPeers.length > before;
  };
  expect(bind()).toBe(0);
  world.nowMs += 299_999;
  expect(arrives()).toBe(true);
  world.nowMs += 1;
  expect(arrives()).toBe(false);
  const heard = client.received.length;
  world.fromPeer(port, HELLO);
  expect(client.received).toHaveLength(heard);
  expect(client.ask(turn.CREATE_PERMISSION, [peerIs(PEER)]).code).toBe(0);
  expect(arrives()).toBe(true);
  world.nowMs += 299_999;
  expect(client.ask(turn.CREATE_PERMISSION, [peerIs(PEER)]).code).toBe(0);
  world.nowMs += 1;
  expect(arrives()).toBe(false);
  world.server.sweep(world.nowMs);
  expect(client.path.allocation?.channels.size).toBe(0);
  expect(bind()).toBe(0);
  expect(arrives()).toBe(true);
});

test.each<[string, readonly Attribute[], number]>([
  ["no peer", [channelIs(0x4000)], 400],
  ["no number", [peerIs(PEER)], 400],
  ["a number that is none", [channelIs(0x3fff), peerIs(PEER)], 400],
  ["port 0", [channelIs(0x4000), peerIs({ ...PEER, port: 0 })], 400],
  ["a peer of another family", [channelIs(0x4000), peerIs({ ip: "2a01:5a40::1", port: 1 })], 443],
  ["a private peer", [channelIs(0x4000), peerIs({ ip: "10.0.0.1", port: 1 })], 403],
  ["a number that is bound to another", [channelIs(0x4001), peerIs({ ...PEER, port: 1 })], 400],
  ["a peer that has another number", [channelIs(0x4002), peerIs(PEER)], 400],
])("ChannelBind with %s ends with the right error", (_, attributes, code) => {
  const client = turnWorld().udp(1);
  client.allocate();
  client.ask(turn.CHANNEL_BIND, [channelIs(0x4001), peerIs(PEER)]);
  expect(client.ask(turn.CHANNEL_BIND, attributes).code).toBe(code);
});

test.each([
  "127.0.0.1",
  "10.1.2.3",
  "172.16.0.1",
  "192.168.1.1",
  "100.64.0.1",
  "169.254.169.254",
  "224.0.0.1",
  "255.255.255.255",
  "0.0.0.0",
  "192.0.2.1",
  "5.44.0.1",
])("%s is not relayed to, whatever request asks for it", (ip) => {
  const world = turnWorld();
  const client = world.udp(1);
  const port = client.allocate();
  const peer = { ip, port: 80 };
  expect(client.ask(turn.CREATE_PERMISSION, [peerIs(peer)]).code).toBe(403);
  expect(client.ask(turn.CREATE_PERMISSION, [peerIs(PEER), peerIs(peer)]).code).toBe(403);
  expect(client.ask(turn.CHANNEL_BIND, [channelIs(0x4000), peerIs(peer)]).code).toBe(403);
  client.raw(sendIndication(peer, HELLO));
  world.fromPeer(port, HELLO, peer);
  client.raw(sendIndication(PEER, HELLO));
  expect(world.toPeers).toEqual([]);
});

test.each([
  "::1",
  "fe80::1",
  "fd00::1",
  "ff02::1",
  "::",
  "::7f00:1",
  "64:ff9b::a00:1",
  "2002:7f00:1::",
  "::ffff:0:7f00:1",
  "2001:db8::1",
])("%s is not relayed to over IPv6", (ip) => {
  const client = turnWorld().udp(1);
  client.allocate(family(2));
  expect(client.ask(turn.CREATE_PERMISSION, [peerIs({ ip, port: 80 })]).code).toBe(403);
});

test("a private range that the operator allows is relayed to, and no other", () => {
  const client = turnWorld({ allowed: [{ ip: "10.0.0.0", prefixLength: 8 }] }).udp(1);
  client.allocate();
  expect(client.ask(turn.CREATE_PERMISSION, [peerIs({ ip: "10.9.9.9", port: 1 })]).code).toBe(0);
  expect(client.ask(turn.CREATE_PERMISSION, [peerIs({ ip: "192.168.0.1", port: 1 })]).code).toBe(403);
});

test("of the server's own address only the relays of others are reached", () => {
  const world = turnWorld();
  const [one, two] = [world.udp(1), world.udp(2)];
  one.allocate();
  const to = { ip: RELAY_IP, port: two.allocate() };
  expect(one.ask(turn.CREATE_PERMISSION, [peerIs(to)]).code).toBe(0);
  one.raw(sendIndication(to, HELLO));
  expect(world.toPeers).toHaveLength(1);
  one.raw(sendIndication({ ...to, port: 22 }, HELLO));
  expect(world.toPeers).toHaveLength(1);
  two.ask(turn.REFRESH, [lifetime(0)]);
  one.raw(sendIndication(to, HELLO));
  expect(world.toPeers).toHaveLength(1);
  expect(world.server.counts.dropOwnAddress).toBe(2);
});

test("one allocation has at most 256 permissions and channels", () => {
  const client = turnWorld().udp(1);
  client.allocate();
  for (let i = 0; i < 256; i++) {
    expect(client.ask(turn.CREATE_PERMISSION, [peerIs({ ip: `5.44.1.${i}`, port: 1 })]).code).toBe(0);
  }
  expect(client.ask(turn.CREATE_PERMISSION, [peerIs({ ip: "5.44.2.1", port: 1 })]).code).toBe(508);
  expect(client.ask(turn.CHANNEL_BIND, [channelIs(0x4000), peerIs({ ip: "5.44.2.1", port: 1 })]).code).toBe(
    508,
  );
  expect(client.ask(turn.CREATE_PERMISSION, [peerIs({ ip: "5.44.1.1", port: 1 })]).code).toBe(0);
});

test("what a client says not to fragment is not, where relays can see to that, and is dropped where they cannot", () => {
  const dontFragment = attribute(turn.DONT_FRAGMENT, true);
  for (const can of [true, false]) {
    const world = turnWorld({ dontFragment: can });
    const client = world.udp(1);
    if (can) client.allocate(dontFragment);
    else client.allocate();
    client.ask(turn.CREATE_PERMISSION, [peerIs(PEER)]);
    client.raw(sendIndication(PEER, HELLO, dontFragment));
    client.raw(sendIndication(PEER, HELLO));
    expect(world.fragments).toEqual(can ? [false, true] : [true]);
  }
});
