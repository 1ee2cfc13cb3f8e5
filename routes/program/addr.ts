/** `p2pd addr [ADDR]`: the node's address, or what an address says. */
import { explainAddress } from "../../core/wire/explain-address.ts";
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

/** One field a line: its name, what it says, and what that means, in columns. */
function explain(address: string): string {
  const fields = explainAddress(address);
  const names = Math.max(...fields.map(({ name }) => name.length));
  const texts = Math.max(...fields.map(({ text }) => text.length));
  return fields
    .map(({ name, text, meaning }) => `${name.padEnd(names)}  ${text.padEnd(texts)}  ${meaning}`)
    .join("\n");
}
