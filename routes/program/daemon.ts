/**
 * `p2pd`: the daemon. Starts the node and its API, says on standard output when it answers and what it learns
 * afterwards, and ends on SIGINT, SIGTERM or SIGHUP with everything closed.
 */
import { formatEndpoint } from "../../core/ip.ts";
import type { Log } from "../../core/log.ts";
import type { NodeEvent } from "../../core/node/node-api.ts";
import { Node } from "../../core/node/node.ts";
import { startApi } from "../api.ts";
import type { Settings } from "./settings.ts";
import { untilSignal } from "./signals.ts";
import type { Terminal } from "./terminal.ts";

/** How long closing may take before the process ends all the same. */
const CLOSE_MS = 5000;

export async function runDaemon({ world, config, log, terminal }: Settings): Promise<number> {
  const signals = untilSignal();
  const node = await Node.start(world, config);
  try {
    const forget = node.subscribe((event) => {
      tell(event, terminal, log);
    });
    const api = await startApi(world, node, config, { log });
    terminal.print(`P2PD ${node.version} answers on http://${formatEndpoint(api.local)}/ (node ${node.id})`);
    if (config.apiSocket !== undefined) terminal.print(`The API answers on ${config.apiSocket} as well`);
    log.debug("ended by a signal", { signal: await signals.received });
    world.time.after(CLOSE_MS, () => endLate(log), { background: true });
    forget();
    await api.close();
  } finally {
    await node.close();
    signals.stop();
  }
  return 0;
}

function endLate(log: Log): void {
  log.error("closing took too long; what was open is dropped", { afterMs: CLOSE_MS });
  process.exit(1);
}

/** What the node learns of its network goes to standard output, one line each; the rest is for the log. */
function tell({ event, data }: NodeEvent, terminal: Terminal, log: Log): void {
  const detail = data["detail"];
  if ((event === "status" || event === "network") && typeof detail === "string") {
    terminal.print(`${String(data["part"] ?? event)}: ${detail}`);
  } else log.debug(event, data);
}
