#!/usr/bin/env bun
/**
 * The face of P2PD: what programs import as the library. Run or compiled, it is the program `p2pd`; imported, it
 * starts nothing.
 */
export { type ErrorCode, P2pdError } from "./core/errors.ts";
export type { Endpoint, Family } from "./core/ip.ts";
export { createRealWorld } from "./core/net/real-world.ts";
export type { Nic, World } from "./core/net/world.ts";
export type { Config } from "./core/node/config.ts";
export { Daemon, type DaemonOptions } from "./core/node/daemon.ts";
export { Interface } from "./core/node/interface.ts";
export { type Listening, type ListenPipeOptions, listen } from "./core/node/listen.ts";
export { defaultConfig } from "./core/node/load-config.ts";
export type { NatReport } from "./core/node/nat-report.ts";
export { Node } from "./core/node/node.ts";
export type {
  Connection,
  NodeEvent,
  OpenOptions,
  ServiceDescription,
  StatusPart,
} from "./core/node/node-api.ts";
export { type OpenPipeOptions, openPipe, type PipeRoute, type Transport } from "./core/node/open-pipe.ts";
export { type Message, Pipe, type PipeOptions, type Subscription } from "./core/node/pipe.ts";
export type { Carried } from "./core/node/relay.ts";
export { Route } from "./core/node/route.ts";
export { compileSubscription } from "./core/node/subscription.ts";

if (import.meta.main) {
  // Whoever reads our output may go away first; that must not end the daemon.
  for (const output of [process.stdout, process.stderr]) output.on("error", () => undefined);
  const { runProgram } = await import("./routes/program/program.ts");
  const { processTerminal } = await import("./routes/program/terminal.ts");
  const code = await runProgram(process.argv.slice(2), processTerminal());
  process.stdout.write("", () => process.stderr.write("", () => process.exit(code)));
}
