/** The TURN server's machine: every rule of RFC 8656 that it keeps, as tables in a time that tests move. */
import { describe, expect, test } from "bun:test";
import { timedPassword } from "../../../core/infra/turn-credentials.ts";
import {
  attribute,
  type Attribute,
  NONCE,
  PASSWORD_ALGORITHMS,
  REALM as REALM_KIND,
  UNKNOWN_ATTRIBUTES,
  XOR_MAPPED_ADDRESS,
} from "../../../core/wire/stun-attributes.ts";
import * as turn from "../../../core/wire/turn.ts";
import { RELAY_IP, SECRET, TCP, turnWorld, UDP, USER } from "./turn-world.ts";

const family = (value: number): Attribute => attribute(turn.REQUESTED_ADDRESS_FAMILY, value);
const additional = attribute(turn.ADDITIONAL_ADDRESS_FAMILY, turn.FAMILY_IP6);
const even = (reserve: boolean): Attribute => attribute(turn.EVEN_PORT, reserve);
const token = (bytes: Uint8Array): Attribute => attribute(turn.RESERVATION_TOKEN, bytes);
const lifetime = (seconds: number): Attribute => attribute(turn.LIFETIME, seconds);

describe("credentials", () => {
  test("a stranger is told the realm, a nonce and the password algorithms, and no more octets than that takes", () => {
    const client = turnWorld().udp(1000);
    const answer = client.ask(turn.ALLOCATE, [UDP], null);
    expect(answer.code).toBe(401);
    expect(answer.get(REALM_KIND)).toBe("test");
    expect(answer.get(NONCE)).toStartWith("obMatJos2");
    expect(answer.get(PASSWORD_ALGORITHMS)?.map(({ algorithm }) => algorithm)).toEqual([2, 1]);
    expect(client.received[0]?.length).toBeLessThan(140);
  });

  test.each([
    ["sha1", undefined],
    ["sha1", 1],
    ["sha256", 2],
    ["sha256", 1],
  ] as const)(
    "a request signed with %p and password algorithm %p is served, and its answer signed alike",
    (hash, algorithm) => {
      const client = turnWorld().udp(1000);
      const answer = client.ask(turn.ALLOCATE, [UDP], {
        hash,
        ...(algorithm === undefined ? {} : { algorithm }),
      });
      expect(answer.code).toBe(0);
      expect(answer.signed).toBe(true);
    },
  );

  test("a wrong password, a wrong user and another realm are refused, and the log says which", () => {
    const world = turnWorld();
    const client = world.udp(1000);
    expect(client.ask(turn.ALLOCATE, [UDP], { user: { ...USER, password: "x" } }).code).toBe(401);
    expect(client.ask(turn.ALLOCATE, [UDP], { user: { ...USER, name: "eve" } }).code).toBe(401);
    expect(client.ask(turn.ALLOCATE, [UDP], { realm: "elsewhere" }).code).toBe(401);
    const words = ['password of "alice" is wrong', 'user "eve" is unknown', 'realm is "elsewhere"'];
    for (const word of words)
      expect(world.log.some((line) => line.replaceAll("\\", "").includes(word))).toBe(true);
  });

  test("a nonce is stale after ten minutes, for another address, and when it is made up", () => {
    const world = turnWorld();
    const client = world.udp(1000);
    const nonce = client.ask(turn.ALLOCATE, [UDP], null).get(NONCE) as string;
    expect(world.udp(1, "5.46.0.8").ask(turn.ALLOCATE, [UDP], { nonce }).code).toBe(438);
    expect(client.ask(turn.ALLOCATE, [UDP], { nonce: `${nonce.slice(0, -1)}!` }).code).toBe(438);
    expect(client.ask(turn.ALLOCATE, [UDP], { nonce }).code).toBe(0);
    world.nowMs += 600_000;
    const stale = client.ask(turn.REFRESH, [], { nonce });
    expect(stale.code).toBe(438);
    expect(client.ask(turn.REFRESH, [], { nonce: stale.get(NONCE) as string }).code).toBe(0);
  });

  test("a user EXPIRY:NAME is good until its expiry, with the password that the secret makes", () => {
    const world = turnWorld();
    const name = `${world.wallMs / 1000 + 60}:bob`;
    const user = { name, password: timedPassword(SECRET, name) };
    expect(world.udp(1).ask(turn.ALLOCATE, [UDP], { user: { name, password: "x" } }).code).toBe(401);
    const client = world.udp(2);
    expect(client.ask(turn.ALLOCATE, [UDP], { user }).code).toBe(0);
    world.wallMs += 60_000;
    expect(world.udp(3).ask(turn.ALLOCATE, [UDP], { user }).code).toBe(401);
    expect(world.log.at(-1)).toContain("has expired");
    // An allocation that stands may be kept.
    expect(client.ask(turn.REFRESH, [], { user }).code).toBe(0);
  });

  test("another user cannot use an allocation", () => {
    const world = turnWorld();
    const client = world.udp(1);
    client.allocate();
    const name = `${world.wallMs / 1000 + 60}:bob`;
    const user = { name, password: timedPassword(SECRET, name) };
    expect(client.ask(turn.REFRESH, [lifetime(0)], { user }).code).toBe(441);
    expect(world.server.allocations.all.size).toBe(1);
  });

  test("a password algorithm that was taken out of our list on the way is noticed", () => {
    const client = turnWorld().udp(1);
    const list = attribute(PASSWORD_ALGORITHMS, [{ algorithm: 1, parameters: new Uint8Array(0) }]);
    expect(client.ask(turn.ALLOCATE, [UDP, list]).code).toBe(400);
  });
});

describe("allocations", () => {
  test("an allocation tells the relayed address, its lifetime and where the client is seen", () => {
    const world = turnWorld();
    const answer = world.udp(1234).ask(turn.ALLOCATE, [UDP]);
    const relayed = answer.get(turn.XOR_RELAYED_ADDRESS);
    expect(relayed?.ip).toBe(RELAY_IP);
    expect(relayed?.port).toBeWithin(50_000, 51_000);
    expect(answer.get(turn.LIFETIME)).toBe(600);
    expect(answer.get(XOR_MAPPED_ADDRESS)).toEqual({ ip: "5.46.0.7", port: 1234 });
  });

  const none = new Uint8Array(8);
  test.each<[string, readonly Attribute[], number]>([
    ["no transport", [], 400],
    ["an unknown transport", [attribute(turn.REQUESTED_TRANSPORT, 33)], 442],
    ["TCP from over UDP", [TCP], 400],
    ["an unknown family", [UDP, family(3)], 440],
    ["a family and one more", [UDP, family(1), additional], 400],
    ["IPv4 as the one more", [UDP, attribute(turn.ADDITIONAL_ADDRESS_FAMILY, 1)], 400],
    ["a token and an even port", [UDP, token(none), even(false)], 400],
    ["a token and a family", [UDP, token(none), family(1)], 400],
    ["a token nobody was given", [UDP, token(none)], 508],
    ["a pair of ports and one more family", [UDP, even(true), additional], 400],
    ["DONT-FRAGMENT, which is not offered", [UDP, attribute(turn.DONT_FRAGMENT, true)], 420],
  ])("Allocate with %s ends with the right error, signed", (_, attributes, code) => {
    const world = turnWorld();
    const answer = world.udp(1).ask(turn.ALLOCATE, attributes);
    expect(answer.code).toBe(code);
    expect(answer.signed).toBe(true);
    expect(world.server.allocations.all.size).toBe(0);
    if (code === 420) expect(answer.get(UNKNOWN_ATTRIBUTES)).toEqual([turn.DONT_FRAGMENT.type]);
  });

  test("both families come in one allocation; one that the server has not is explained", () => {
    const both = turnWorld().udp(1).ask(turn.ALLOCATE, [UDP, additional]);
    const types = both.message?.attributes.filter(({ type }) => type === turn.XOR_RELAYED_ADDRESS.type);
    expect(types).toHaveLength(2);
    const one = turnWorld({ families: [4] })
      .udp(1)
      .ask(turn.ALLOCATE, [UDP, additional]);
    expect(one.code).toBe(0);
    expect(one.get(turn.ADDRESS_ERROR_CODE)).toMatchObject({ family: 2, code: 440 });
    expect(
      turnWorld({ families: [4] })
        .udp(1)
        .ask(turn.ALLOCATE, [UDP, family(2)]).code,
    ).toBe(440);
  });

  test("an Allocate that is sent again gets its answer again; another one is refused", () => {
    const world = turnWorld();
    const client = world.udp(1);
    const transactionId = new Uint8Array(12).fill(7);
    const first = client.ask(turn.ALLOCATE, [UDP], { transactionId });
    const again = client.ask(turn.ALLOCATE, [UDP], { transactionId });
    expect(again.message?.bytes).toEqual(first.message?.bytes as Uint8Array);
    expect(client.ask(turn.ALLOCATE, [UDP]).code).toBe(437);
    expect(world.relays).toHaveLength(1);
  });

  test("a pair of ports is kept: the second goes to whoever has the token, once, within 30 s", () => {
    const world = turnWorld();
    const answer = world.udp(1).ask(turn.ALLOCATE, [UDP, even(true)]);
    const port = answer.get(turn.XOR_RELAYED_ADDRESS)?.port as number;
    const kept = answer.get(turn.RESERVATION_TOKEN) as Uint8Array;
    expect(port % 2).toBe(0);
    expect(world.udp(2).allocate(token(kept))).toBe(port + 1);
    expect(world.udp(3).ask(turn.ALLOCATE, [UDP, token(kept)]).code).toBe(508);
    const late = world
      .udp(4)
      .ask(turn.ALLOCATE, [UDP, even(true)])
      .get(turn.RESERVATION_TOKEN) as Uint8Array;
    world.nowMs += 30_000;
    world.server.sweep(world.nowMs);
    expect(world.udp(5).ask(turn.ALLOCATE, [UDP, token(late)]).code).toBe(508);
  });

  test("quotas: 486 for a user who has his share, 508 when the server is full", () => {
    const world = turnWorld({ perAccount: 2, allocations: 3 });
    for (const port of [1, 2]) world.udp(port).allocate();
    expect(world.udp(3).ask(turn.ALLOCATE, [UDP]).code).toBe(486);
    const timed = (name: string) => ({ name, password: timedPassword(SECRET, name) });
    const soon = world.wallMs / 1000 + 60;
    expect(world.udp(4).ask(turn.ALLOCATE, [UDP], { user: timed(`${soon}:bob`) }).code).toBe(0);
    expect(world.udp(5).ask(turn.ALLOCATE, [UDP], { user: timed(`${soon}:carol`) }).code).toBe(508);
  });

  test("a port that is kept for later counts as an allocation of its user, until it is used or 30 s are over", () => {
    const world = turnWorld({ perAccount: 4 });
    const client = world.udp(1);
    const reserve = (): number => client.ask(turn.ALLOCATE, [UDP, even(true)]).code;
    for (let i = 0; i < 3; i++) {
      expect(reserve()).toBe(0);
      client.ask(turn.REFRESH, [lifetime(0)]);
    }
    expect(reserve()).toBe(486);
    world.nowMs += 30_000;
    world.server.sweep(world.nowMs);
    expect(reserve()).toBe(0);
  });

  test("when all ports are taken the answer is 508, and a port that was given back serves again", () => {
    const world = turnWorld({ portFirst: 50_000, portLast: 50_002 });
    const clients = [1, 2, 3].map((port) => world.udp(port));
    const ports = clients.map((client) => client.allocate());
    expect(ports.toSorted((a, b) => a - b)).toEqual([50_000, 50_001, 50_002]);
    expect(world.udp(4).ask(turn.ALLOCATE, [UDP]).code).toBe(508);
    expect(clients[1]?.ask(turn.REFRESH, [lifetime(0)]).code).toBe(0);
    expect(world.udp(5).allocate()).toBe(ports[1] as number);
  });

  test("a port that another program has is passed over; where all are, the answer is 508", () => {
    const foreign = new Set([50_000, 50_001, 50_002]);
    expect(turnWorld({ portFirst: 50_000, portLast: 50_003, foreign }).udp(1).allocate()).toBe(50_003);
    const world = turnWorld({ portFirst: 50_000, portLast: 50_002, foreign });
    expect(world.udp(1).ask(turn.ALLOCATE, [UDP]).code).toBe(508);
    expect(world.server.allocations.all.size).toBe(0);
    expect(world.listener.paths.size).toBe(0);
  });

  test.each([
    [undefined, 600],
    [30, 600],
    [1200, 1200],
    [100_000, 3600],
  ])("asked for %p seconds the server gives %p, and ends the allocation then", (asked, given) => {
    const world = turnWorld();
    const client = world.udp(1);
    const answer = client.ask(turn.ALLOCATE, asked === undefined ? [UDP] : [UDP, lifetime(asked)]);
    expect(answer.get(turn.LIFETIME)).toBe(given);
    world.nowMs += given * 1000 - 1;
    world.server.sweep(world.nowMs);
    expect(world.relays).toHaveLength(1);
    world.nowMs += 1;
    world.server.sweep(world.nowMs);
    expect(world.relays).toHaveLength(0);
    expect(world.listener.paths.size).toBe(0);
    expect(client.ask(turn.REFRESH).code).toBe(437);
  });

  test("Refresh lengthens, and with a lifetime of 0 ends; of two families it may end one", () => {
    const world = turnWorld();
    const client = world.udp(1);
    client.allocate(additional);
    world.nowMs += 500_000;
    expect(client.ask(turn.REFRESH, [lifetime(700)]).get(turn.LIFETIME)).toBe(700);
    expect(client.ask(turn.REFRESH, [lifetime(0), family(2)]).code).toBe(0);
    expect(world.relays.map((relay) => relay.family)).toEqual([4]);
    expect(client.ask(turn.REFRESH, [family(2)]).code).toBe(443);
    const broken: Attribute = { type: turn.REQUESTED_ADDRESS_FAMILY.type, size: 1, write() {} };
    expect(client.ask(turn.REFRESH, [lifetime(0), broken]).code).toBe(400);
    expect(world.relays).toHaveLength(1);
    expect(client.ask(turn.REFRESH, [lifetime(0)]).get(turn.LIFETIME)).toBe(0);
    expect(world.relays).toEqual([]);
  });
});
