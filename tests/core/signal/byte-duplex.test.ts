import { expect, test } from "bun:test";
import { byteDuplex } from "../../../core/signal/byte-duplex.ts";
import { memoryStreams, settle } from "../node/memory-stream.ts";
import { until } from "./signaling-nodes.ts";

test("a duplex that is written faster than the stream takes waits for it", async () => {
  const [near, far] = memoryStreams(1000);
  let count = 0;
  far.attach({ data: (bytes) => (count += bytes.length), drain() {}, end() {}, close() {} });
  far.pause();
  const duplex = byteDuplex(near, () => true);
  for (let i = 0; i < 5; i++) duplex.write(new Uint8Array(900));
  await settle();
  expect(duplex.writableLength).toBeGreaterThan(0);
  far.resume();
  await until(() => count === 4500);
  expect(duplex.writableLength).toBe(0);
});

test("a duplex that nobody reads stops the stream", async () => {
  const [near, far] = memoryStreams();
  const duplex = byteDuplex(near, () => true);
  far.attach({ data() {}, drain() {}, end() {}, close() {} });
  for (let i = 0; i < 10; i++) far.write(new Uint8Array(20_000));
  await settle();
  expect(near.paused).toBe(true);
  let count = 0;
  duplex.on("data", (bytes: Uint8Array) => (count += bytes.length));
  await until(() => count === 200_000);
});

test("a duplex that is ended ends the stream", async () => {
  const [near, far] = memoryStreams();
  const ended = Promise.withResolvers<void>();
  far.attach({ data() {}, drain() {}, end: () => ended.resolve(), close() {} });
  byteDuplex(near, () => true).end();
  await ended.promise;
});
