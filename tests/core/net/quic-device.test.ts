/** QUIC endpoints that are tied to a NIC. */
import { afterEach, expect, test } from "bun:test";
import { closeEndpoints, dial, endpoint, listener } from "./quic-pair.ts";
import { codeOf, loopback, world } from "./real-streams.ts";

afterEach(closeEndpoints);

const LOOPBACK = world.nics().find(({ kind }) => kind === "loopback")?.name ?? "lo";
const OTHER = world.nics().find(({ kind, up }) => kind !== "loopback" && up)?.name;
const canTie = process.platform === "linux" || process.platform === "darwin";

test.skipIf(!canTie)(
  "an endpoint that is tied to the NIC of its way connects and is connected to",
  async () => {
    const bobs = await listener({ device: LOOPBACK });
    const arrival = bobs.next();
    await dial(await endpoint({ device: LOOPBACK }), bobs.endpoint.local);
    expect((await arrival).remote.ip).toBe(loopback.ip);
  },
);

test.skipIf(!canTie || OTHER === undefined)("one that is tied to another NIC does not", async () => {
  const bobs = await listener();
  const tied = await endpoint({ device: OTHER });
  const calling = tied.connect({
    remote: bobs.endpoint.local,
    expectedKey: new Uint8Array(33),
    timeoutMs: 500,
  });
  expect(await codeOf(calling)).not.toBe("peer-key");
});

test.skipIf(!canTie)("a NIC that is not there is said, and the port is free after that", async () => {
  const port = (await endpoint()).local.port;
  await closeEndpoints();
  const local = { ...loopback, port };
  expect(await codeOf(endpoint({ local, device: "no-such-nic" }))).toBe("unreachable");
  const again = await world.openUdp({ local });
  again.close();
});
