/** Whole nodes behind every ordered pair of the laboratory's configurations, with a TURN server: all of them must meet. */
import { beforeAll, expect, test } from "bun:test";
import { loadSignaling } from "../../core/signal/signaling.ts";
import { faultOf, type MatrixOpen, summariseMatrix } from "../nat/matrix-verdict.ts";
import { MATRIX } from "../nat/punch-theory.ts";
import { runCell } from "./punch-matrix.ts";

const LIMIT_MS = 200_000;

beforeAll(loadSignaling);

test(
  "every pair is connected, directly where that is possible without a search, and nobody is relayed who need not be",
  async () => {
    const opens: MatrixOpen[] = [];
    for (const a of MATRIX) for (const b of MATRIX) opens.push(await runCell(a, b, 1, true));
    for (const line of summariseMatrix(opens, true)) console.log(`relay matrix: ${line}`);
    expect(opens.length).toBe(MATRIX.length ** 2);
    expect(opens.flatMap((open) => faultOf(open, true) ?? [])).toEqual([]);
  },
  LIMIT_MS,
);
