/** `p2pd addr [ADDR]`: the node's address, or what an address says. */
import { addressFields } from "../../core/wire/address.ts";
import { askDaemon } from "./api-client.ts";
import type { Settings } from "./settings.ts";

export async function runAddr(settings: Settings, address?: string): Promise<number> {
  settings.terminal.print(address === undefined ? await ownAddress(settings) : explain(address));
  return 0;
}

async function ownAddress(settings: Settings): Promise<string> {
  const answer = await askDaemon(settings, "/p2p/addr");
  if (answer !== undefined) return String(answer["addr"]);
  const { withNode } = await import("./with-node.ts");
  return withNode(settings, async (node) => node.address());
}

/** One field a line, the names in a column of their own. */
function explain(address: string): string {
  const fields = addressFields(address);
  const width = Math.max(...fields.map(({ name }) => name.length));
  return fields.map(({ name, text }) => `${name.padEnd(width)}  ${text}`).join("\n");
}
