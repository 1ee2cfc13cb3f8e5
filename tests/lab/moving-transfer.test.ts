/** A transfer goes on, octet for octet, when the path under it is lost or replaced. `bun run lab moving` carries more. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeMove, type Load, makeLoad, MOVES, nameOf, transferMoving } from "./moving-transfer.ts";

const labEnabled = process.env["P2PD_LAB"] === "1";
const LIMIT_MS = 120_000;
const OCTETS = 48 * 1024 * 1024;

describe.skipIf(!labEnabled)("a transfer goes on, nothing lost and nothing twice, when", () => {
  const file = join(tmpdir(), `p2pd-moving-${process.pid}`);
  let load: Load;
  beforeAll(async () => {
    load = await makeLoad(file, OCTETS);
  });
  afterAll(() => rmSync(file, { force: true }));

  for (const [i, move] of MOVES.entries()) {
    const mover = i % 2 === 0 ? "alice" : "bob";
    test(
      `${nameOf(move)} (${mover})`,
      async () => {
        const moved = await transferMoving(move, mover, load);
        console.log(describeMove(moved));
        expect(moved.failure).toBeUndefined();
        expect(moved.isEqual).toBe(true);
        // What was lost may go on over a relay for a while.
        if (move.what !== "relay to direct") return;
        const [began, , after] = moved.paths;
        expect([began, after.split("/")[0]]).toEqual(["relay", "punch"]);
      },
      LIMIT_MS,
    );
  }
});
