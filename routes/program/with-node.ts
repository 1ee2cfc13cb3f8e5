/** A node inside this process, for a command that finds no daemon running. */
import { Node } from "../../core/node/node.ts";
import type { Settings } from "./settings.ts";

/** Starts a node, gives it to `use`, and closes it whatever happens. It is too short-lived to ask routers for a port. */
export async function withNode<Result>(
  { world, config }: Settings,
  use: (node: Node) => Promise<Result>,
): Promise<Result> {
  const node = await Node.start(world, { ...config, portMapping: false });
  try {
    return await use(node);
  } finally {
    await node.close();
  }
}
