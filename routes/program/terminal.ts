/** What a program is given when it is started: words, variables, a directory, three streams and signals. */
import { homedir } from "node:os";
import { type Signals, untilSignal } from "./signals.ts";
import type { Output } from "./stdio-stream.ts";

export interface Terminal {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly home: string;
  readonly platform: string;
  /** Standard input; reading begins with this call. */
  input(): ReadableStream<Uint8Array>;
  /** Whether a person types the input. */
  readonly isInteractive: boolean;
  readonly output: Output;
  /** Writes a line to standard output. */
  print(line: string): void;
  /** Writes a line to standard error. */
  complain(line: string): void;
  /** Width of the output in characters. */
  readonly columns: number;
  /** Listens for being asked to end, from now on. */
  signals(): Signals;
}

/** The terminal of this process. */
export function processTerminal(): Terminal {
  return {
    env: process.env,
    cwd: process.cwd(),
    home: homedir(),
    platform: process.platform,
    input: () => Bun.stdin.stream(),
    isInteractive: process.stdin.isTTY,
    output: process.stdout,
    print: (line) => {
      process.stdout.write(`${line}\n`);
    },
    complain: (line) => {
      process.stderr.write(`${line}\n`);
    },
    columns: process.stdout.columns ?? 100,
    signals: untilSignal,
  };
}
