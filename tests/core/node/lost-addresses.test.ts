import { expect, test } from "bun:test";
import type { Nic } from "../../../core/net/world.ts";
import { lostAddresses } from "../../../core/node/lost-addresses.ts";

test("an address that no NIC has, or only one that is down, is lost; those of this machine itself never are", () => {
  const isLost = lostAddresses([nic(["192.0.2.9"], true), nic(["2001:db8::1"], false)]);
  const lost = ["192.0.2.5", "192.0.2.9", "127.0.0.1", "::1", "0.0.0.0", "2001:db8::1"].filter(isLost);
  expect(lost).toEqual(["192.0.2.5", "2001:db8::1"]);
});

function nic(ips: readonly string[], up: boolean): Nic {
  const addresses = ips.map((ip) => ({ ip, family: ip.includes(":") ? 6 : 4, prefixLength: 24 }) as const);
  return {
    index: 2,
    name: "eth0",
    kind: "physical",
    mac: "02:00:00:00:00:01",
    mtu: 1500,
    up,
    addresses,
    gateway: {},
    metric: {},
  };
}
