/** Room for bursts of datagrams, where the system grants it. */
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { openQuic } from "../../../core/net/quic.ts";
import { openTurnLink } from "../../../core/turn/turn-link.ts";
import { alice, loopback, world } from "./real-streams.ts";

const MOST = "/proc/sys/net/core/rmem_max";
const BYTES = 4 * 1024 * 1024;
const granted = existsSync(MOST) && Number(readFileSync(MOST, "utf8")) >= BYTES;
const BURST = 1000;

interface Receiver {
  readonly local: { readonly port: number };
  close(): void | Promise<void>;
}

const RECEIVERS: readonly (readonly [string, () => Promise<Receiver>])[] = [
  ["a socket with a large buffer", () => world.openUdp({ local: loopback, receiveBufferBytes: BYTES })],
  ["a QUIC endpoint", () => openQuic({ local: loopback, credentials: alice.credentials })],
  [
    "the way to a TURN server over UDP",
    () =>
      openTurnLink(world, {
        transport: "udp",
        server: { ip: "127.0.0.1", port: 3478 },
        serverName: "localhost",
        localIp: "127.0.0.1",
        timeoutMs: 1000,
      }),
  ],
];

test.skipIf(!granted).each(RECEIVERS)("%s keeps a burst that nobody reads meanwhile", async (_, open) => {
  const receiver = await open();
  expect(await lostOfBurst(receiver.local.port)).toBe(0);
  await receiver.close();
});

test.skipIf(!granted)("a socket with the system's own buffer loses a part of it", async () => {
  const socket = await world.openUdp({ local: loopback });
  expect(await lostOfBurst(socket.local.port)).toBeGreaterThan(0);
  socket.close();
});

/** Sends at once, so that nobody in this process gets to read; how many the system counts as dropped. */
async function lostOfBurst(port: number): Promise<number> {
  const sender = await world.openUdp({ local: loopback });
  const datagram = new Uint8Array(1200);
  for (let i = 0; i < BURST; i++) sender.send(datagram, { ip: "127.0.0.1", port });
  const drops = droppedAt(port);
  sender.close();
  return drops;
}

/** The last column of the line of a socket on 127.0.0.1. */
function droppedAt(port: number): number {
  const at = `0100007F:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const lines = readFileSync("/proc/net/udp", "utf8").split("\n");
  const words = lines.map((line) => line.trim().split(/\s+/)).find(([, local]) => local === at);
  return Number(words?.at(-1));
}
