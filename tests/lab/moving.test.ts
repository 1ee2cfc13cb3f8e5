/** A node whose address changes while it runs, by its router or by its NIC, is found by whoever has the old address. */
import { describe, expect, test } from "bun:test";
import { decodeAddress } from "../../core/wire/address.ts";
import { parseRouterKind, twoHosts } from "../nat/topologies.ts";
import type { LabNode } from "./lab-node.ts";
import { meet, type Pair, withoutIp6 } from "./lab-pair.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const LIMIT_MS = 60_000;
const open = parseRouterKind("open-internet");

describe.skipIf(!labEnabled)("a node that moves", () => {
  test(
    "because its router got another public address is found at it within 30 s",
    async () => {
      await using pair = await meet(twoHosts(open, parseRouterKind("full-cone/equal")), {
        before: withoutIp6,
      });
      const { bob, lab } = pair;
      await forward(pair);
      const old = await bob.addr();
      const router = lab.router("b");
      const began = performance.now();
      await router.setAddress(router.nextPublicIp4);
      await hasAddress(bob, router.publicIp4);
      report("a router's new address was noticed", began);
      await forward(pair);
      expect(await openOld(pair, old)).toBe(router.publicIp4);
      expect(performance.now() - began).toBeLessThan(30_000);
    },
    LIMIT_MS,
  );

  test(
    "because its NIC got another address is found at it within 10 s",
    async () => {
      await using pair = await meet(twoHosts(open, open), { before: withoutIp6 });
      const { bob, lab } = pair;
      const old = await bob.addr();
      const host = lab.host("bob");
      const next = host.ip4.replace(/\.\d+$/, ".177");
      const { stdout } = await host.run(["ip", "-4", "route", "show", "default"]);
      const route = stdout.trim().split(/\s+/);
      const began = performance.now();
      await host.run(["ip", "-4", "addr", "flush", "dev", "eth0"]);
      await host.run(["ip", "addr", "add", `${next}/24`, "dev", "eth0"]);
      await host.run(["ip", "route", "add", ...route]);
      await hasAddress(bob, next);
      report("a NIC's new address was noticed", began);
      expect(await openOld(pair, old)).toBe(next);
      expect(performance.now() - began).toBeLessThan(10_000);
    },
    LIMIT_MS,
  );
});

/** As a person forwards the node's port by hand. */
async function forward({ bob, lab }: Pair): Promise<void> {
  const port = decodeAddress(await bob.addr()).nics[0]?.port as number;
  const internal = { ip: lab.host("bob").ip4, port };
  for (const protocol of ["tcp", "udp"] as const)
    await lab.router("b").forward(protocol, port, internal, 600_000);
}

/** Its own line names the address, and so does the record at its broker. */
async function hasAddress(node: LabNode, ip: string): Promise<void> {
  while (!(await node.addr()).includes(ip)) await Bun.sleep(25);
  await node.until("brokers", "up");
}

/** Opens the address that is out of date; the address that the connection goes to. */
async function openOld({ alice }: Pair, old: string): Promise<string> {
  const began = performance.now();
  const opened = await alice.get(`/p2p/open/con/${old}?strategies=direct&timeout=15`);
  expect(opened).toMatchObject({ error: 0, strategy: "direct" });
  report("it was opened by its old address", began);
  return (opened["raddr"] as [string, number])[0];
}

function report(what: string, began: number): void {
  console.log(`moving: ${what} after ${((performance.now() - began) / 1000).toFixed(1)} s`);
}
