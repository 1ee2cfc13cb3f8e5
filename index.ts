#!/usr/bin/env bun
/**
 * The face of P2PD: what programs import as the library. Run or compiled, it is the program `p2pd`; imported, it
 * starts nothing.
 */
export { P2pdError } from "./core/errors.ts";

if (import.meta.main) {
  // Whoever reads our output may go away first; that must not end the daemon.
  for (const output of [process.stdout, process.stderr]) output.on("error", () => undefined);
  const { runProgram } = await import("./routes/program/program.ts");
  const { processTerminal } = await import("./routes/program/terminal.ts");
  const code = await runProgram(process.argv.slice(2), processTerminal());
  process.stdout.write("", () => process.stderr.write("", () => process.exit(code)));
}
