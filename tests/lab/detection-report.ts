/** `bun run lab detect`: detection of every configuration with every seed, and the figures that it comes to. */
import { P2pdError } from "../../core/errors.ts";
import { CONFIGURATIONS } from "../nat/configurations.ts";
import { type DetectionRun, runDetections, type ServerMix } from "./detection.ts";

const SEEDS = 10;
const BAD_LOSS = 0.02;
/** With bad servers one run of so many may be wrong. */
const RUNS_PER_WRONG = 70;

/**
 * Words: `bad` (2 % loss; one server dead, one ignoring CHANGE-REQUEST, one lying), a number of seeds, a part of a
 * configuration's name. Returns the exit code: 0 where no run is wrong, or with `bad` at most one in 70 (rounded down)
 * and none is taken for more open than it is.
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
  const { isPassed, lines } = summarise(runs, isBad ? "bad" : "good");
  for (const line of lines) print(line);
  return isPassed ? 0 : 1;
}

/** The figures of many runs, in words, and whether they are good enough for these servers. */
export function summarise(
  runs: readonly DetectionRun[],
  servers: ServerMix,
): { readonly isPassed: boolean; readonly lines: readonly string[] } {
  const right = runs.filter(({ wrong }) => wrong.length === 0).length;
  const tooOpen = runs.filter(({ isTooOpen }) => isTooOpen).length;
  const mayBeWrong = servers === "bad" ? Math.floor(runs.length / RUNS_PER_WRONG) : 0;
  const times = runs.map(({ elapsedMs }) => elapsedMs).sort((a, b) => a - b);
  const at = (share: number): string =>
    (times[Math.floor(share * (times.length - 1))] ?? Number.NaN).toFixed(0);
  const lines = [
    `${right} of ${runs.length} right in type, mapping, filtering, delta, value and range, UDP and TCP (at most ${mayBeWrong} may be wrong); ${tooOpen} taken for open or full cone wrongly (none may be)`,
    `milliseconds: median ${at(0.5)}, nine of ten within ${at(0.9)}, longest ${at(1)}`,
  ];
  return { isPassed: runs.length - right <= mayBeWrong && tooOpen === 0, lines };
}
