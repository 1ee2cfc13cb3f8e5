/** `p2pd id`: the node's id, which is in its key; a key is made where there is none yet. */
import { askDaemon } from "./api-client.ts";
import type { Settings } from "./settings.ts";

export async function runId(settings: Settings): Promise<number> {
  const answer = await askDaemon(settings, "/p2p/status");
  settings.terminal.print(answer === undefined ? await idOfKeyFile(settings) : String(answer["id"]));
  return 0;
}

async function idOfKeyFile({ world, config }: Settings): Promise<string> {
  const { openIdentity } = await import("../../core/node/identity.ts");
  const identity = openIdentity(config.dataDir, world);
  identity.release();
  return identity.id;
}
