/** `bun run lab moving`: transfers whose path is lost or replaced on the way, and for how long nothing came. */
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { P2pdError } from "../../core/errors.ts";
import { median } from "./lab-node.ts";
import {
  describeMove,
  makeLoad,
  MOVES,
  type MovingTransfer,
  nameOf,
  transferMoving,
} from "./moving-transfer.ts";

const MIB = 1024 * 1024;

/** Words: runs of each move (one unless given), MiB (500), a part of the moves' names. Returns the exit code. */
export async function reportMoving(words: readonly string[], print: (line: string) => void): Promise<number> {
  const [runs = 1, mib = 500] = words.filter((word) => /^[1-9][0-9]{0,4}$/.test(word)).map(Number);
  const part = words.find((word) => !/^[0-9]+$/.test(word)) ?? "";
  const moves = MOVES.filter((move) => nameOf(move).includes(part));
  if (moves.length === 0)
    throw new P2pdError(
      "bad-argument",
      `no move contains "${part}"; there are ${MOVES.map(nameOf).join(", ")}`,
    );
  const file = join(tmpdir(), `p2pd-load-${process.pid}`);
  const done: MovingTransfer[] = [];
  try {
    const load = await makeLoad(file, mib * MIB);
    for (let run = 0; run < runs; run++) {
      for (const move of moves) {
        const moved = await transferMoving(move, run % 2 === 0 ? "alice" : "bob", load);
        done.push(moved);
        print(describeMove(moved));
      }
    }
  } finally {
    rmSync(file, { force: true });
  }
  for (const move of moves)
    print(
      summary(
        nameOf(move),
        done.filter((one) => one.move === move),
      ),
    );
  const equal = done.filter(({ isEqual }) => isEqual).length;
  print(`${equal} of ${done.length} equal`);
  return equal === done.length ? 0 : 1;
}

function summary(move: string, runs: readonly MovingTransfer[]): string {
  const times = runs.map(({ interruptedMs }) => interruptedMs);
  const equal = runs.filter(({ isEqual }) => isEqual).length;
  return `${move}: ${equal} of ${runs.length} equal, interrupted ${median(times)} ms in the median, ${Math.max(...times)} at most`;
}
