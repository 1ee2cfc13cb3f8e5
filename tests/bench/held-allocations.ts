/**
 * Many allocations held at once with datagrams through each, by `p2pd infra` and by coturn: what is lost on the way, what an
 * allocation costs in resident memory, and what is left when all are closed. `P2PD_HOLD_SECONDS` says for how long.
 */
import { createRealWorld } from "../../core/net/real-world.ts";
import type { Endpoint } from "../../core/ip.ts";
import { openTurn, type OpenTurn } from "../../core/turn/open-turn.ts";
import { type BenchServer, withBothServers } from "./turn-server-pair.ts";

const ALLOCATIONS = 2000;
const OPENED_AT_ONCE = 50;
const SECONDS = Number(process.env["P2PD_HOLD_SECONDS"] ?? 30);
const TICK_MS = 5;
/** Of each allocation. */
const SEND_EVERY_MS = 750;
const PAYLOAD = new Uint8Array(200);
/** Each is a socket; one for all would be the first to overflow. */
const PEERS = 20;
const LAST_WAIT_MS = 2000;
const world = createRealWorld();

export async function benchHeldAllocations(): Promise<void> {
  await withBothServers(async ({ ours, theirs }) => {
    for (const [name, server] of [
      ["p2pd infra", ours],
      ["coturn", theirs],
    ] as const) {
      console.log(`${name}: ${await hold(server)}`);
    }
  });
}

async function hold(server: BenchServer): Promise<string> {
  const before = server.use();
  const peers = await Promise.all(
    Array.from({ length: PEERS }, () => world.openUdp({ local: { ip: "127.0.0.1", port: 0 } })),
  );
  for (const peer of peers) peer.attach({ message: (bytes, from) => void peer.send(bytes, from) });
  const held: (readonly [turn: OpenTurn, peer: Endpoint])[] = [];
  const count = { sent: 0, back: 0 };
  const gone: Error[] = [];
  while (held.length < ALLOCATIONS) {
    const opened = Array.from({ length: OPENED_AT_ONCE }, async (_, i) => {
      const turn = await openAt(server.port);
      const peer = (peers[i % PEERS] as (typeof peers)[number]).local;
      turn.attach({ message: () => count.back++, closed: (error) => gone.push(error) });
      await turn.bind(peer);
      return [turn, peer] as const;
    });
    held.push(...(await Promise.all(opened)));
  }
  const first = server.use();
  await inTurn(held, ([turn, peer]) => {
    count.sent++;
    turn.send(PAYLOAD, peer);
  });
  const until = performance.now() + LAST_WAIT_MS;
  while (count.back < count.sent && performance.now() < until) await Bun.sleep(TICK_MS);
  const last = server.use();
  await Promise.all(held.map(([turn]) => turn.close()));
  for (const peer of peers) peer.close();
  const after = server.use();
  const kib = (last.residentKib - before.residentKib) / ALLOCATIONS;
  return (
    `${ALLOCATIONS} allocations for ${SECONDS} s, ${gone.length} ended early; ${count.sent - count.back} of ${count.sent} datagrams lost; ` +
    `resident ${[before, first, last, after].map(({ residentKib }) => mib(residentKib)).join(", ")} MiB before, when all ` +
    `were made, at the end, after; ${kib.toFixed(1)} KiB each; ` +
    `descriptors ${[before, last, after].map(({ descriptors }) => descriptors).join(", ")}`
  );
}

function openAt(port: number): Promise<OpenTurn> {
  const at = { host: "127.0.0.1", port, transport: "udp", username: "user", password: "pass" } as const;
  return openTurn(world, at, { relayed: "udp", families: [4], localIp: "127.0.0.1" });
}

/** Calls `send` for one after the other until the time is over, each as often as it is to be. */
function inTurn<One>(all: readonly One[], send: (one: One) => void): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const began = performance.now();
  let next = 0;
  const timer = setInterval(() => {
    const elapsed = performance.now() - began;
    if (elapsed >= SECONDS * 1000) {
      clearInterval(timer);
      resolve();
    }
    const due = Math.floor((elapsed / SEND_EVERY_MS) * all.length);
    for (; next < due; next++) send(all[next % all.length] as One);
  }, TICK_MS);
  return promise;
}

const mib = (kib: number): string => (kib / 1024).toFixed(0);
