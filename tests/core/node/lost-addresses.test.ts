import { expect, test } from "bun:test";
import type { P2pdError } from "../../../core/errors.ts";
import type { Nic } from "../../../core/net/world.ts";
import { endOnLostAddresses } from "../../../core/node/lost-addresses.ts";
import type { Connection } from "../../../core/node/node-api.ts";

test("connections by an address that is gone end with that reason; others, and those on this machine, go on", () => {
  const ended = new Map<string, string>();
  const all = ["192.0.2.5", "192.0.2.9", "127.0.0.1", "2001:db8::1"].map((ip) => connection(ip, ended));
  endOnLostAddresses(all, [nic(["192.0.2.9"], true), nic(["2001:db8::1"], false)]);
  expect([...ended]).toEqual([
    ["192.0.2.5", "the network changed: the address 192.0.2.5 of eth0 is gone from this machine"],
    ["2001:db8::1", "the network changed: the address 2001:db8::1 of eth0 is gone from this machine"],
  ]);
});

function connection(ip: string, ended: Map<string, string>): Connection {
  const close = async (reason: P2pdError): Promise<void> => void ended.set(ip, reason.message);
  return { pipe: { local: { ip, port: 1 }, close }, nic: { name: "eth0", offset: 0 } } as never;
}

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
