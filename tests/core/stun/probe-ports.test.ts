/** The local ports that samples are taken from. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { P2pdError } from "../../../core/errors.ts";
import { chooseRuns, openRun, RUN_LENGTH } from "../../../core/stun/probe-ports.ts";

const port = fc.integer({ min: 1, max: 65_535 });
const bytes = fc.uint8Array({ minLength: 2, maxLength: 2 });

test("runs lie between 2048 and 65535, from one end of the range to the other, whatever chance says", () => {
  fc.assert(
    fc.property(port, port, bytes, (a, b, random) => {
      const range = [Math.min(a, b), Math.max(a, b)] as const;
      const runs = chooseRuns({ randomBytes: () => random }, range);
      expect(runs.length).toBe(5);
      for (const first of runs) {
        expect(first).toBeGreaterThanOrEqual(Math.min(Math.max(range[0], 2048), 65_530));
        expect(first + RUN_LENGTH - 1).toBeLessThanOrEqual(Math.max(range[1], range[0] + 5, 2053));
      }
    }),
  );
});

test("over the whole range, runs go up and down, are far apart and reach both ends", () => {
  fc.assert(
    fc.property(bytes, (random) => {
      const runs = chooseRuns({ randomBytes: () => random });
      const sorted = runs.toSorted((a, b) => a - b);
      expect(sorted[0]).toBeLessThan(6000);
      expect(sorted[4]).toBeGreaterThan(62_000);
      for (const [i, first] of runs.entries()) {
        const next = runs[i + 1];
        if (next !== undefined) expect(Math.abs(next - first)).toBeGreaterThan(10_000);
      }
    }),
  );
});

test("a run moves up past a port that is taken, from the top of the range to its bottom, and leaves none open", async () => {
  for (const [first, taken, expected] of [
    [3000, new Set([3002]), 3003],
    [3000, new Set([3005, 3006]), 3007],
    [65_528, new Set([65_530]), 2048],
  ] as const) {
    const open = new Set<number>();
    const run = await openRun(first, opener(open, taken), (one) => open.delete(one));
    expect(run).toEqual(Array.from({ length: RUN_LENGTH }, (_, i) => expected + i));
    expect([...open]).toEqual([...run]);
  }
});

test("where no place is found, or no port can be had at all, it fails with nothing left open", async () => {
  const open = new Set<number>();
  const everything = { has: (one: number) => one % 3 === 0 };
  const failed = await openRun(3000, opener(open, everything), (one) => open.delete(one)).catch(
    (error: P2pdError) => error.code,
  );
  expect(failed).toBe("address-in-use");
  const denied = (): Promise<number> => Promise.reject(new P2pdError("unreachable", "no such address"));
  expect(await openRun(3000, denied, () => undefined).catch((error: P2pdError) => error.code)).toBe(
    "unreachable",
  );
  expect(open.size).toBe(0);
});

function opener(open: Set<number>, taken: { has(port: number): boolean }) {
  return (one: number): Promise<number> => {
    if (taken.has(one)) return Promise.reject(new P2pdError("address-in-use", `${one} is taken`));
    open.add(one);
    return Promise.resolve(one);
  };
}
