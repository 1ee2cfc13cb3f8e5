/** `p2pd peers`: shows the daemon's address book, or notes a node in it. */
import { createApiClient } from "./api-client.ts";
import type { Settings } from "./settings.ts";

/** @param to the node's id or address; absent: the book is shown */
export async function runPeers(settings: Settings, name?: string, to?: string): Promise<number> {
  const { terminal } = settings;
  const client = createApiClient(settings);
  const path = name === undefined ? "/p2p/peers" : `/p2p/peers/${encodeURIComponent(name)}`;
  const answer = to === undefined ? await client.request(path) : await client.request(path, "PUT", { to });
  const peers = (name === undefined ? answer["peers"] : [answer]) as Record<string, unknown>[];
  for (const peer of peers) terminal.print(`${String(peer["name"])}  ${String(peer["id"])}`);
  return 0;
}
