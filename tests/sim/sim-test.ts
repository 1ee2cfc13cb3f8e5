/**
 * A test in the simulation. When it fails, it says with which seed, how to see that again, and what the last
 * packets were. `P2PD_SIM_SEED` replaces the seeds of every such test; `P2PD_SIM_TRACE=1` prints the whole trace
 * of a failure.
 */
import { test } from "bun:test";
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import { type RunOptions, runSim } from "./run-sim.ts";
import type { Simulation } from "./simulation.ts";

/** What a simulated test may set; the seed comes from the list. */
export type SimTestOptions = Omit<RunOptions, "seed" | "created">;

const SHOWN = 40;
/** Of the machine's time, for all seeds of one test together. */
const MACHINE_MS = 60_000;

/**
 * Declares the test `name` that runs `body` once for each seed. `options` may depend on the seed.
 */
export function simTest(
  name: string,
  seeds: readonly number[],
  body: (sim: Simulation) => Promise<void>,
  options: SimTestOptions | ((seed: number) => SimTestOptions) = {},
): void {
  const file = callingFile();
  test(
    name,
    async () => {
      for (const seed of chosenSeeds() ?? seeds) {
        let sim: Simulation | undefined;
        const given = typeof options === "function" ? options(seed) : options;
        try {
          await runSim({ ...given, seed, created: (made) => (sim = made) }, body);
        } catch (thrown) {
          console.error(explain(name, seed, sim, file));
          throw thrown;
        }
      }
    },
    MACHINE_MS,
  );
}

/** What a reader of a failure needs to see it again. */
export function explain(name: string, seed: number, sim: Simulation | undefined, file: string): string {
  const all = process.env["P2PD_SIM_TRACE"] === "1";
  const lines = sim?.trace.lines ?? [];
  const shown = all ? lines : lines.slice(-SHOWN);
  const pattern = name.replaceAll(/[^A-Za-z0-9 ]/g, ".");
  return [
    `"${name}" failed with seed ${seed}; again with:`,
    `  P2PD_SIM_SEED=${seed} bun test ${relative(process.cwd(), file)} -t "${pattern}"`,
    `the last ${shown.length} of ${sim?.trace.count ?? 0} lines of its trace:`,
    ...shown,
  ].join("\n");
}

/** The file that declares a test. */
function callingFile(): string {
  const places = new Error().stack?.matchAll(/\(?((?:file:)?\/[^\s()]+\.ts):\d+:\d+/g) ?? [];
  for (const [, place = ""] of places) {
    const file = place.startsWith("file:") ? fileURLToPath(place) : place;
    if (file !== import.meta.path) return file;
  }
  return import.meta.dir;
}

function chosenSeeds(): readonly number[] | undefined {
  const text = process.env["P2PD_SIM_SEED"] ?? "";
  if (text === "") return undefined;
  const seed = Number(text);
  if (Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32) return [seed];
  throw new Error(`P2PD_SIM_SEED is "${text}"; expected a whole number from 0 to 4294967295`);
}
