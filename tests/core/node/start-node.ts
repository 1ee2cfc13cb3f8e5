/** Real nodes on loopback with data directories of their own, for tests; all of it is gone after `stopAll`. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRealWorld } from "../../../core/net/real-world.ts";
import { Node } from "../../../core/node/node.ts";
import type { NodeConfig } from "../../../core/node/node-config.ts";

const started: Node[] = [];
const directories: string[] = [];

export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "p2pd-test-"));
  directories.push(directory);
  return directory;
}

function nodeConfig(overrides: Partial<NodeConfig> = {}): NodeConfig {
  return {
    dataDir: overrides.dataDir ?? temporaryDirectory(),
    listenPort: 0,
    stunServers: [],
    mqttBrokers: [],
    turnServers: [],
    ntpServers: [],
    portMapping: false,
    strategies: ["direct", "reverse", "punch", "relay"],
    relay: "last",
    relayAfterMs: 1500,
    resumeForMs: 60_000,
    ...overrides,
  };
}

/** On any free port, or on the one that is derived from the machine. */
export async function startNode(
  overrides: Partial<NodeConfig> = {},
  port: "any" | "derived" = "any",
  world = createRealWorld(),
): Promise<Node> {
  const { listenPort = 0, ...config } = nodeConfig(overrides);
  const node = await Node.start(world, port === "any" ? { ...config, listenPort } : config);
  started.push(node);
  return node;
}

export async function stopAll(): Promise<void> {
  await Promise.all(started.splice(0).map((node) => node.close()));
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
}
