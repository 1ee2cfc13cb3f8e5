/**
 * `bun run bench [NAME...]`: speed as ratios against a named peer measured in the same run, alternating, so
 * that they hold on a machine whose speed drifts. Prints one line per figure: ours, the peer's, the ratio.
 */
import { benchFrontDoor } from "./front-door.ts";
import { benchHeldAllocations } from "./held-allocations.ts";
import { benchPipeRtt } from "./pipe-rtt.ts";
import { benchPipeThroughput } from "./pipe-throughput.ts";
import { benchRelayedPipe } from "./relayed-pipe.ts";
import { benchSessionCost } from "./session-cost.ts";
import { benchTurnServers } from "./turn-servers.ts";

const BENCHES: Readonly<Record<string, () => Promise<void>>> = {
  "pipe-throughput": benchPipeThroughput,
  "pipe-rtt": benchPipeRtt,
  "session-cost": benchSessionCost,
  "front-door": benchFrontDoor,
  "turn-servers": benchTurnServers,
  "relayed-pipe": benchRelayedPipe,
  "held-allocations": benchHeldAllocations,
};

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => BENCHES[name] === undefined);
if (unknown.length > 0) {
  console.error(`no benchmark ${unknown.join(", ")}; there are ${Object.keys(BENCHES).join(", ")}`);
  process.exit(1);
}
for (const [name, bench] of Object.entries(BENCHES)) {
  if (asked.length > 0 && !asked.includes(name)) continue;
  console.log(`## ${name}`);
  await bench();
}
