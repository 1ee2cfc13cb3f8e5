/** Requests for `GET /version` per second through the front door, beside the same application without it. */
import { join } from "node:path";
import { startDaemon } from "../daemon-process.ts";
import { printRatio } from "./figures.ts";

const SECONDS = 4;
const PAIRS = 5;

export async function benchFrontDoor(): Promise<void> {
  await using daemon = await startDaemon();
  const bare = Bun.spawn([process.execPath, join(import.meta.dir, "bare-app.ts")], { stdout: "pipe" });
  try {
    const barePort = Number(new TextDecoder().decode((await bare.stdout.getReader().read()).value));
    for (const connections of [1, 16, 64]) {
      const ours: number[] = [];
      const theirs: number[] = [];
      for (let pair = 0; pair < PAIRS; pair++) {
        ours.push(requestsPerSecond(daemon.port, connections));
        theirs.push(requestsPerSecond(barePort, connections));
      }
      printRatio(`GET /version, ${connections} connections`, "requests/s", "without the door", ours, theirs);
    }
  } finally {
    bare.kill();
  }
}

function requestsPerSecond(port: number, connections: number): number {
  const url = `http://127.0.0.1:${port}/version`;
  const run = Bun.spawnSync(["wrk", "-t1", `-c${connections}`, `-d${SECONDS}`, url]);
  const text = run.stdout.toString();
  const rate = /Requests\/sec: +([0-9.]+)/.exec(text)?.[1];
  if (run.exitCode !== 0 || rate === undefined || /Non-2xx/.test(text))
    throw new Error(`wrk failed: ${text}${run.stderr.toString()}`);
  return Number(rate);
}
