/**
 * Whole nodes behind every ordered pair of the 35 configurations: a third of the pairs, in which each configuration
 * calls and is called; all 1,225 with three seeds, in three minutes, with P2PD_MATRIX=full.
 */
import { beforeAll, expect, test } from "bun:test";
import { loadSignaling } from "../../core/signal/signaling.ts";
import { CONFIGURATIONS } from "../nat/configurations.ts";
import { faultOf, type MatrixOpen, summariseMatrix } from "../nat/matrix-verdict.ts";
import { runCell } from "./punch-matrix.ts";

const [EVERY, SEEDS] = process.env["P2PD_MATRIX"] === "full" ? [1, [1, 2, 3]] : [3, [1]];
const LIMIT_MS = 400_000;

beforeAll(loadSignaling);

test(
  "every pair of configurations is connected directly or fails for the reason that theory gives",
  async () => {
    const pairs = CONFIGURATIONS.flatMap((a) => CONFIGURATIONS.map((b) => [a.name, b.name] as const));
    const opens: MatrixOpen[] = [];
    for (const seed of SEEDS)
      for (const [i, [a, b]] of pairs.entries()) if (i % EVERY === 0) opens.push(await runCell(a, b, seed));
    for (const line of summariseMatrix(opens)) console.log(`matrix: ${line}`);
    expect(opens.length).toBe(SEEDS.length * Math.ceil(pairs.length / EVERY));
    expect(opens.flatMap((open) => faultOf(open) ?? [])).toEqual([]);
  },
  LIMIT_MS,
);
