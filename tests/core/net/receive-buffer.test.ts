/** Room for bursts of datagrams, where the system grants it. */
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { createRealWorld } from "../../../core/net/real-world.ts";

const MOST = "/proc/sys/net/core/rmem_max";
const BYTES = 4 * 1024 * 1024;
const granted = existsSync(MOST) && Number(readFileSync(MOST, "utf8")) >= BYTES;

test.skipIf(!granted)("a socket with a large buffer keeps a burst that nobody reads meanwhile", async () => {
  const world = createRealWorld();
  const local = { ip: "127.0.0.1", port: 0 };
  const sender = await world.openUdp({ local });
  const [plain, large] = [
    await world.openUdp({ local }),
    await world.openUdp({ local, receiveBufferBytes: BYTES }),
  ];
  const heard = { plain: 0, large: 0 };
  const done = Promise.withResolvers<void>();
  plain.attach({ message: () => void heard.plain++ });
  large.attach({ message: () => ++heard.large === 1000 && done.resolve() });
  const datagram = new Uint8Array(1200);
  for (let i = 0; i < 1000; i++) sender.send(datagram, plain.local);
  for (let i = 0; i < 1000; i++) sender.send(datagram, large.local);
  await done.promise;
  expect(heard.plain).toBeLessThan(1000);
  for (const socket of [sender, plain, large]) socket.close();
});
