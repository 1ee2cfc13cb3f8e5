/** A path over QUIC on which nobody says anything: in real time, as the runtime counts it. On loopback, and slow. */
import { afterAll, expect, test } from "bun:test";
import { closeEndpoints, endpoint, listener } from "../core/net/quic-pair.ts";
import { bob, closeStreams, text } from "../core/net/real-streams.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
/** The runtime gives a session up after 60 s. */
const SILENCE_MS = 75_000;

afterAll(async () => {
  await closeEndpoints();
  closeStreams();
});

test.skipIf(!labEnabled)(
  "a path lives through more than a minute of silence, with signs of life every 10 s and every 25 s",
  async () => {
    const pairs = [10_000, 25_000].map(async (keepAliveMs) => {
      const bobs = await listener({ keepAliveMs });
      const arrival = bobs.next();
      const alices = await endpoint({ keepAliveMs });
      const remote = bobs.endpoint.local;
      const near = await alices.connect({ remote, expectedKey: bob.key, timeoutMs: 5000 });
      return { near, far: await arrival };
    });
    const heard = await Promise.all(
      (await Promise.all(pairs)).map(async ({ near, far }) => {
        const { promise, resolve } = Promise.withResolvers<string>();
        const ignored = {
          drain() {},
          end() {},
          close: (error?: Error) => resolve(`closed: ${error?.message}`),
        };
        near.attach({ ...ignored, data() {} });
        far.attach({ ...ignored, data: (bytes) => resolve(new TextDecoder().decode(bytes)) });
        await Bun.sleep(SILENCE_MS);
        near.write(text("x"));
        return promise;
      }),
    );
    expect(heard).toEqual(["x", "x"]);
  },
  2 * SILENCE_MS,
);
