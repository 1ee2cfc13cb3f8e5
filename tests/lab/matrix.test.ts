/** A part of `bun run lab matrix`: one configuration of each sort, each opening each, between daemons on real kernels. */
import { expect, test } from "bun:test";
import { faultOf, summariseMatrix } from "../nat/matrix-verdict.ts";
import { runMatrix } from "./matrix.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const LIMIT_MS = 180_000;
const PART = [
  "symmetric-firewall/equal",
  "restricted/equal",
  "port-restricted/random",
  "symmetric/independent",
  "symmetric/random",
  "blocked/equal",
];

test.skipIf(!labEnabled)(
  "every pair of six configurations is connected directly or fails for the reason that theory gives",
  async () => {
    const opens = await runMatrix({ configurations: PART, runs: 1 });
    for (const line of summariseMatrix(opens)) console.log(`matrix: ${line}`);
    expect(opens.length).toBe(PART.length ** 2);
    expect(opens.flatMap((open) => faultOf(open) ?? [])).toEqual([]);
  },
  LIMIT_MS,
);

test.skipIf(!labEnabled)(
  "every pair of six configurations is connected where p2pd infra relays, and relayed only if it must be",
  async () => {
    const opens = await runMatrix({ configurations: PART, runs: 1, relay: "infra" });
    for (const line of summariseMatrix(opens, true)) console.log(`matrix with infra: ${line}`);
    expect(opens.length).toBe(PART.length ** 2);
    expect(opens.flatMap((open) => faultOf(open, true) ?? [])).toEqual([]);
  },
  LIMIT_MS,
);
