/** The bridge between QUIC and an allocation, under a peer or a server that shows ever new ports. */
import { expect, test } from "bun:test";
import { RelayBridge } from "../../../core/connect/relay-bridge.ts";
import { createRealWorld } from "../../../core/net/real-world.ts";
import type { UdpSocket } from "../../../core/net/world.ts";
import type { OpenTurn } from "../../../core/turn/open-turn.ts";
import type { AllocationHandlers } from "../../../core/turn/turn-allocation.ts";

const world = createRealWorld();
const INNER = { ip: "127.0.0.1", port: 9 };

test("a thousand ports that speak at once cost a few sockets, and later ones are heard again", async () => {
  let handlers: AllocationHandlers | undefined;
  const turn = {
    attach: (next: AllocationHandlers) => void (handlers = next),
    bind: () => Promise.resolve(),
    send: () => true,
  };
  const opening: Promise<UdpSocket>[] = [];
  const openUdp: typeof world.openUdp = (options) => {
    const socket = world.openUdp(options);
    opening.push(socket);
    return socket;
  };
  const bridge = new RelayBridge(
    { openUdp },
    turn as unknown as OpenTurn,
    () => INNER,
    (error) => {
      throw error;
    },
  );
  const speak = (port: number): void => handlers?.message(new Uint8Array(8), { ip: "5.44.0.9", port });
  for (let port = 1; port <= 1000; port++) speak(port);
  expect(opening).toHaveLength(8);
  const sockets = await Promise.all(opening);
  expect(bridge.peerAt((sockets[0] as UdpSocket).local)).toEqual({ ip: "5.44.0.9", port: 1 });
  speak(2000);
  expect(opening).toHaveLength(9);
  await opening[8];
  bridge.close();
});
