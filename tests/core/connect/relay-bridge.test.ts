/** The relay of who has the allocation: the bridge to QUIC under ever new ports, and an allocation that cannot be held. */
import { expect, test } from "bun:test";
import { RelayBridge } from "../../../core/connect/relay-bridge.ts";
import { holdRelay } from "../../../core/connect/relay-hold.ts";
import { P2pdError, toP2pdError } from "../../../core/errors.ts";
import { createRealWorld } from "../../../core/net/real-world.ts";
import type { UdpSocket } from "../../../core/net/world.ts";
import type { OpenTurn } from "../../../core/turn/open-turn.ts";
import type { AllocationHandlers } from "../../../core/turn/turn-allocation.ts";

const world = createRealWorld();
const LOOPBACK = { ip: "127.0.0.1", port: 0 };
const NOBODY = { privateKeyPem: "", certificatePem: "" };

test("a peer whom QUIC has answered keeps his door, however many others knock", async () => {
  const { bridge, turn, opening, inner } = await start();
  const peer = { ip: "5.44.0.9", port: 1 };
  const door = await bridge.open(peer);
  inner.send(new Uint8Array(4), door);
  await turn.sent;
  for (let port = 2; port <= 40; port++) {
    turn.speak(port);
    await Promise.all(opening);
  }
  expect(bridge.peerAt(door)).toEqual(peer);
  bridge.close();
  inner.close();
});

test("a thousand ports that speak at once cost a few sockets, and later ones are heard again", async () => {
  const { bridge, turn, opening, inner } = await start();
  for (let port = 1; port <= 1000; port++) turn.speak(port);
  expect(opening).toHaveLength(8);
  const sockets = await Promise.all(opening);
  expect(bridge.peerAt((sockets[0] as UdpSocket).local)).toEqual({ ip: "5.44.0.9", port: 1 });
  turn.speak(2000);
  expect(opening).toHaveLength(9);
  await opening[8];
  bridge.close();
  inner.close();
});

test("an allocation that cannot be held, as there is no socket for QUIC, is given back", async () => {
  const closed = Promise.withResolvers<void>();
  const turn = {
    relayed: [{ ip: "5.44.1.10", port: 50_000 }],
    attach() {},
    close: () => Promise.resolve(closed.resolve()),
  } as unknown as OpenTurn;
  const none = { ...world, openQuic: () => Promise.reject(new P2pdError("address-in-use", "no socket")) };
  const options = { transport: "udp", credentials: NOBODY, peerKey: new Uint8Array(33), note() {} } as const;
  expect(await holdRelay(none, turn, options).catch(toP2pdError)).toMatchObject({ code: "address-in-use" });
  await closed.promise;
});

/** A bridge on real sockets of loopback, and the allocation as the bridge sees it. */
async function start() {
  const inner = await world.openUdp({ local: LOOPBACK });
  const opening: Promise<UdpSocket>[] = [];
  const openUdp: typeof world.openUdp = (options) => {
    const socket = world.openUdp(options);
    opening.push(socket);
    return socket;
  };
  let handlers: AllocationHandlers | undefined;
  const { promise: sent, resolve } = Promise.withResolvers<void>();
  const allocation = {
    attach: (next: AllocationHandlers) => void (handlers = next),
    bind: () => Promise.resolve(),
    send: () => resolve(),
  } as unknown as OpenTurn;
  const fail = (error: P2pdError): void => {
    throw error;
  };
  const bridge = new RelayBridge({ openUdp }, allocation, () => inner.local, fail);
  const speak = (port: number): void => handlers?.message(new Uint8Array(8), { ip: "5.44.0.9", port });
  return { bridge, opening, inner, turn: { speak, sent } };
}
