/** Whole nodes behind two NATs punch holes: which pairs, in what time, at what cost. */
import { beforeAll, expect } from "bun:test";
import { loadSignaling } from "../../core/signal/signaling.ts";
import { twoHosts } from "../nat/topologies.ts";
import { meet, nat, timed } from "./punch-site.ts";
import { simTest } from "./sim-test.ts";

beforeAll(loadSignaling);

/** Pairs of which neither side can be reached without a hole. */
const PAIRS: readonly (readonly [caller: string, called: string, path?: string])[] = [
  ["port-restricted/equal", "port-restricted/equal"],
  ["port-restricted/random", "port-restricted/independent"],
  ["symmetric/equal", "port-restricted/equal"],
  ["port-restricted/equal", "symmetric/preserving"],
  ["symmetric/independent", "port-restricted/equal"],
  ["port-restricted/random", "symmetric/independent"],
  ["symmetric/dependent", "symmetric/equal"],
  ["symmetric/independent", "symmetric/independent"],
  ["symmetric/preserving", "symmetric/independent"],
  ["symmetric/equal", "symmetric/dependent"],
  ["symmetric/dependent", "symmetric/independent"],
  ["restricted/equal", "symmetric/random"],
  ["symmetric/random", "restricted/equal"],
  ["symmetric/random", "port-restricted/equal"],
  ["port-restricted/equal", "symmetric/random"],
  ["blocked/equal", "port-restricted/equal", "punch/tcp"],
  ["port-restricted/random", "blocked/preserving", "punch/tcp"],
  ["blocked/independent", "blocked/random", "punch/tcp"],
];

for (const [a, b, path = "punch/udp"] of PAIRS) {
  simTest(
    `${a} opens ${b} by a punch`,
    [1],
    async (sim) => {
      const { alice, bob } = await meet(sim);
      const { connection, ms } = await timed(sim, alice, bob);
      console.log(`${a} -> ${b}: ${connection.path} ${Math.round(ms)} ms`);
      if (process.env["SHOW"] === "1") console.log(connection.timeline);
      expect(connection.path).toBe(path);
      // At the first try.
      expect(ms).toBeLessThan(1500);
      await Promise.all([alice.close(), bob.close()]);
    },
    { topology: twoHosts(nat(a), nat(b)) },
  );
}

for (const [a, b] of [
  ["symmetric/independent", "symmetric/independent"],
  ["symmetric/independent", "symmetric/dependent"],
  ["symmetric/dependent", "symmetric/dependent"],
  ["symmetric/equal", "symmetric/independent"],
] as const) {
  simTest(
    `two that open each other at the same moment both have a connection: ${a} and ${b}`,
    [1, 2],
    async (sim) => {
      const { alice, bob } = await meet(sim);
      const both = await Promise.all([timed(sim, alice, bob), timed(sim, bob, alice)]);
      for (const { connection, ms } of both) {
        expect(connection.strategy).toBe("punch");
        expect(ms).toBeLessThan(8000);
      }
      await Promise.all([alice.close(), bob.close()]);
    },
    { topology: twoHosts(nat(a), nat(b)) },
  );
}
