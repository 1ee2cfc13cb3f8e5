/**
 * `p2pd`: the daemon. Starts the node and its API, says on standard output when it answers and what it learns
 * afterwards, and ends on SIGINT, SIGTERM or SIGHUP with everything closed.
 */
import { formatEndpoint } from "../../core/ip.ts";
import type { Log } from "../../core/log.ts";
import type { World } from "../../core/net/world.ts";
import type { NodeApi } from "../../core/node/node-api.ts";
import { Node } from "../../core/node/node.ts";
import { startApi } from "../api.ts";
import type { Settings } from "./settings.ts";

/** How long closing may take before the process ends all the same. */
const CLOSE_MS = 5000;

export async function runDaemon({ world, config, log, terminal }: Settings): Promise<number> {
  const signals = terminal.signals();
  const node = await Node.start(world, config, { log });
  try {
    const api = await startApi(world, node, config, { log });
    terminal.print(`P2PD ${node.version} answers on http://${formatEndpoint(api.local)}/ (node ${node.id})`);
    if (config.apiSocket !== undefined) terminal.print(`api: answers on ${config.apiSocket} as well`);
    const tell = progress(node, (line) => terminal.print(line));
    tell();
    const forget = node.subscribe(({ event, data }) => {
      log.debug(event, data);
      tell();
    });
    log.debug("asked to end", { signal: await signals.received });
    forget();
    await closeAll(world, log, [() => api.close(), () => node.close()]);
  } finally {
    await node.close();
    signals.stop();
  }
  return 0;
}

/** Closes one after the other; the process ends anyway when that takes too long. */
async function closeAll(world: World, log: Log, closers: readonly (() => Promise<void>)[]): Promise<void> {
  const late = world.time.after(CLOSE_MS, () => {
    log.error("closing took too long; what was open is dropped", { afterMs: CLOSE_MS });
    process.exit(1);
  });
  for (const close of closers) await close();
  late.cancel();
}

/** Tells what the node has learnt of its network, one line for each part that changed since the last call. */
function progress(node: NodeApi, print: (line: string) => void): () => void {
  const told = new Map<string, string>();
  const say = (what: string, text: string, news = text): void => {
    if (told.get(what) !== news) print(`${what}: ${text}`);
    told.set(what, news);
  };
  return () => {
    for (const { part, state, detail } of node.status()) {
      // Counters, those of single brokers too, are for whoever asks, and what is off will not change.
      if (/^(incoming|signals|broker .*)$/.test(part)) continue;
      // How fast a TURN server was the last time is no news, whether it serves is.
      if (state === "up" || state === "down") say(part, detail, part.startsWith("turn ") ? state : detail);
    }
    say("address", node.address());
  };
}
