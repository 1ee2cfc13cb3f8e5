/** `bun run lab matrix`: every ordered pair of the configurations of docs/punching.md, and how it compares with the theory. */
import { P2pdError } from "../../core/errors.ts";
import { faultOf, summariseMatrix } from "../nat/matrix-verdict.ts";
import { bestOf, MATRIX } from "../nat/punch-theory.ts";
import { runMatrix } from "./matrix.ts";

/**
 * Words: a number of runs for each pair (one unless given), `relay` for one by coturn and `infra` for one by p2pd infra, a
 * part of configurations' names. Returns the exit code.
 */
export async function reportMatrix(words: readonly string[], print: (line: string) => void): Promise<number> {
  const runs = Number(words.find((word) => /^[1-9][0-9]?$/.test(word)) ?? 1);
  const relay = words.includes("infra") ? "infra" : words.includes("relay") ? "coturn" : undefined;
  const part = words.find((word) => !/^([0-9]+|relay|infra)$/.test(word)) ?? "";
  const configurations = MATRIX.filter((name) => name.includes(part));
  if (configurations.length === 0)
    throw new P2pdError("bad-argument", `no configuration of the matrix contains "${part}"`);
  const opens = await runMatrix({
    configurations,
    runs,
    relay,
    told: ({ caller, called, path, ms, movedTo = "", why = movedTo }) =>
      print(
        `${caller.padEnd(28)} ${called.padEnd(28)} ${bestOf(caller, called).padEnd(5)} ${path.padEnd(12)} ${(ms / 1000).toFixed(2)} s ${why.slice(0, 160)}`,
      ),
  });
  const hasRelay = relay !== undefined;
  for (const line of summariseMatrix(opens, hasRelay)) print(line);
  return opens.every((open) => faultOf(open, hasRelay) === undefined) ? 0 : 1;
}
