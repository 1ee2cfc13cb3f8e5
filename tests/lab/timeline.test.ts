/** What an open tells of itself, as JSON and as `p2pd open` prints it: where it succeeds, and where nothing can. */
import { describe, expect, test } from "bun:test";
import { parseRouterKind, twoHosts } from "../nat/topologies.ts";
import type { Answer, LabNode } from "./lab-node.ts";
import { meet, withoutIp6 } from "./lab-pair.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const LIMIT_MS = 60_000;
const closed = parseRouterKind("port-restricted/random");
const open = parseRouterKind("open-internet");

describe.skipIf(!labEnabled)("an open", () => {
  test(
    "that succeeds shows its steps, the same as JSON and by p2pd open",
    async () => {
      await using pair = await meet(twoHosts(closed, open), { before: withoutIp6 });
      const addr = await pair.bob.addr();
      const json = await pair.alice.get(`/p2p/open/json/${addr}`);
      expect(json).toMatchObject({ error: 0, strategy: "direct" });
      const printed = await printOpen(pair.alice, addr);
      expect(printed.code).toBe(0);
      expect(printed.stdout).toMatch(/^con: direct\/(udp|tcp) to /);
      expect(printed.stdout).toMatch(/ ms {2}direct .* (authenticated): TLS_AES/);
      expect(printed.stdout).toMatch(/ ms {2}direct .* greeted/);
      console.log(`timeline of a success:\n${JSON.stringify(json["timeline"])}\n${printed.stdout}`);
    },
    LIMIT_MS,
  );

  test(
    "that no strategy can bring about tells of each attempt why, the same as JSON and by p2pd open",
    async () => {
      await using pair = await meet(twoHosts(closed, closed), {
        before: withoutIp6,
        strategies: "direct,reverse",
      });
      const addr = await pair.bob.addr();
      const [json, printed] = await Promise.all([
        pair.alice.get(`/p2p/open/json/${addr}`),
        printOpen(pair.alice, addr),
      ]);
      expect(json["error"]).toBe(3);
      const attempts = json["attempts"] as readonly Answer[];
      const reasons = (strategy: string): string =>
        attempts.flatMap((one) => (one["strategy"] === strategy ? [one["reason"]] : [])).join("\n");
      expect(reasons("direct")).toMatch(/no answer within 8 s: the host is off, or a firewall or NAT drops/);
      expect(reasons("reverse")).toContain("the peer could not connect to us");
      expect(printed.code).not.toBe(0);
      expect(printed.stdout).toMatch(/ ms {2}direct .* failed: no answer within/);
      console.log(`timeline of a failure:\n${JSON.stringify(json)}\n${printed.stdout}${printed.stderr}`);
    },
    LIMIT_MS,
  );
});

async function printOpen(node: LabNode, addr: string) {
  const child = node.start(["open", "con", addr]);
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { stdout, stderr, code: await child.exited };
}
