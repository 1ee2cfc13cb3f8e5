/**
 * A router that forgets its mappings, gets another public address or reboots under a node that is connected to its
 * brokers: how long after the network is back an open by signals succeeds that was begun at that moment.
 */
import { describe, expect, test } from "bun:test";
import { parseRouterKind, planRouter, twoHosts, twoNics } from "../nat/topologies.ts";
import { median } from "./lab-node.ts";
import { meet, type Pair, withoutIp6 } from "./lab-pair.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const LIMIT_MS = 240_000;
const ROUNDS = 5;
/** Of the router `b`. */
const FIRST_IP4 = planRouter(1, "private").publicIp4;
const OUTAGE_MS = 3000;
/** Brokers have then been silent for as long as they usually are. */
const QUIET_MS = 4000;

interface Fault {
  readonly name: string;
  /** Resolves when the network is back. */
  readonly strike: (pair: Pair) => Promise<void>;
  readonly limitMs: number;
}

const FAULTS: readonly Fault[] = [
  {
    name: "a router that forgot its mappings",
    strike: ({ lab }) => lab.router("b").reboot(),
    limitMs: 2500,
  },
  {
    name: "a router that got another public address",
    async strike({ lab }) {
      const router = lab.router("b");
      const { nextPublicIp4 } = router;
      await router.setAddress(router.publicIp4 === nextPublicIp4 ? FIRST_IP4 : nextPublicIp4);
    },
    limitMs: 2500,
  },
  {
    name: "a router that rebooted and was away for 3 s",
    strike: away,
    limitMs: 2500,
  },
];
/** As a router that reboots; its table is empty afterwards. */
async function away({ lab }: Pair): Promise<void> {
  const router = lab.router("b");
  await router.change({ link: { loss: 1 } });
  await Bun.sleep(OUTAGE_MS);
  await router.change({ link: { loss: 0 } });
}

describe.skipIf(!labEnabled)("an open by signals through", () => {
  test.each(FAULTS)(
    "$name succeeds soon after the network is back",
    async ({ name, strike, limitMs }) => {
      const [open, home] = [parseRouterKind("open-internet"), parseRouterKind("port-restricted/equal")];
      await using pair = await meet(twoHosts(open, home), { before: withoutIp6, brokers: 2 });
      const { alice, bob } = pair;
      const times: number[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        await Bun.sleep(QUIET_MS);
        const path = `/p2p/open/con${round}/${await alice.addr()}?strategies=punch&timeout=60`;
        await strike(pair);
        const began = performance.now();
        const opened = await bob.get(path);
        times.push(Math.round(performance.now() - began));
        expect(opened).toMatchObject({ error: 0, strategy: "punch" });
        await bob.get(`/p2p/close/con${round}`);
        await bob.until("brokers", "up");
      }
      console.log(`recovery: an open through ${name}: ${times.join(", ")} ms, median ${median(times)} ms`);
      expect(median(times)).toBeLessThan(limitMs);
    },
    LIMIT_MS,
  );

  test(
    "a router that is away for 3 s meanwhile succeeds soon after the network is back",
    async () => {
      const [open, home] = [parseRouterKind("open-internet"), parseRouterKind("port-restricted/equal")];
      await using pair = await meet(twoHosts(open, home), { before: withoutIp6, brokers: 2 });
      const { alice, bob } = pair;
      const times: number[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        await Bun.sleep(QUIET_MS);
        const striking = away(pair);
        const opening = bob.get(
          `/p2p/open/con${round}/${await alice.addr()}?strategies=punch&relay=never&timeout=60`,
        );
        await striking;
        const began = performance.now();
        const opened = await opening;
        times.push(Math.round(performance.now() - began));
        expect(opened).toMatchObject({ error: 0, strategy: "punch" });
        await bob.get(`/p2p/close/con${round}`);
        await bob.until("brokers", "up");
      }
      console.log(`recovery: an open begun while away: ${times.join(", ")} ms, median ${median(times)} ms`);
      expect(median(times)).toBeLessThan(2500);
    },
    LIMIT_MS,
  );

  test(
    "another NIC succeeds soon after the one that was the default has gone down",
    async () => {
      const [open, home] = [parseRouterKind("open-internet"), parseRouterKind("port-restricted/equal")];
      await using pair = await meet(twoNics(home, home, open), { before: withoutIp6, brokers: 2 });
      const { alice, bob, lab } = pair;
      await Bun.sleep(QUIET_MS);
      const to = await bob.addr();
      const began = performance.now();
      await lab.host("alice").run(["ip", "link", "set", "eth0", "down"]);
      const opened = await alice.get(`/p2p/open/con/${to}?strategies=punch&timeout=60`);
      const tookMs = Math.round(performance.now() - began);
      console.log(`recovery: an open through another NIC: ${tookMs} ms`);
      expect(opened).toMatchObject({ error: 0, strategy: "punch" });
      const [own] = opened["laddr"] as [string, number];
      expect(own).toBe(lab.host("alice").nics[1]?.ip4 ?? "");
      expect(tookMs).toBeLessThan(4000);
    },
    LIMIT_MS,
  );
});
