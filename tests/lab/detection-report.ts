/** `bun run lab detect`: detection of every configuration with every seed, and the figures that it comes to. */
import { P2pdError } from "../../core/errors.ts";
import { CONFIGURATIONS } from "../nat/configurations.ts";
import { type DetectionRun, runDetections } from "./detection.ts";

const SEEDS = 10;
const BAD_LOSS = 0.02;

/**
 * Words: `bad` (2 % loss; one server dead, one ignoring CHANGE-REQUEST, one lying), a number of seeds, a part of a
 * configuration's name. Returns the exit code.
 */
export async function reportDetections(
  words: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  const isBad = words.includes("bad");
  const count = Number(words.find((word) => /^[1-9][0-9]{0,2}$/.test(word)) ?? SEEDS);
  const part = words.find((word) => word !== "bad" && !/^[0-9]+$/.test(word)) ?? "";
  const configurations = CONFIGURATIONS.filter(({ name }) => name.includes(part));
  if (configurations.length === 0)
    throw new P2pdError("bad-argument", `no configuration's name contains "${part}"`);
  const runs = await runDetections({
    servers: isBad ? "bad" : "good",
    loss: isBad ? BAD_LOSS : 0,
    seeds: Array.from({ length: count }, (_, i) => i + 1),
    configurations,
    told: (run) => {
      if (run.wrong.length > 0)
        print(`WRONG ${run.configuration}, seed ${run.seed}: ${run.wrong.join("; ")}`);
    },
  });
  for (const line of summarise(runs)) print(line);
  return runs.every(({ wrong }) => wrong.length === 0) ? 0 : 1;
}

/** The figures of many runs, in words. */
export function summarise(runs: readonly DetectionRun[]): readonly string[] {
  const right = runs.filter(({ wrong }) => wrong.length === 0).length;
  const tooOpen = runs.filter(({ isTooOpen }) => isTooOpen).length;
  const times = runs.map(({ elapsedMs }) => elapsedMs).sort((a, b) => a - b);
  const at = (share: number): string =>
    (times[Math.floor(share * (times.length - 1))] ?? Number.NaN).toFixed(0);
  return [
    `${right} of ${runs.length} right in type, mapping, filtering, delta, value and range, UDP and TCP; ${tooOpen} taken for open or full cone wrongly`,
    `milliseconds: median ${at(0.5)}, nine of ten within ${at(0.9)}, longest ${at(1)}`,
  ];
}
