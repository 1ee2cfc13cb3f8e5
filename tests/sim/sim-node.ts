/**
 * A node of the project on a simulated host. Its data directory is a real one, removed at the end; its key follows
 * from the seed, so that ids and certificates are the same in every run.
 */
import { createECDH, createPrivateKey } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Node } from "../../core/node/node.ts";
import type { NodeConfig } from "../../core/node/node-config.ts";
import type { SimHost } from "./host.ts";

export interface SimNode {
  readonly node: Node;
  /** Stops the node and removes its directory. */
  close(): Promise<void>;
}

const QUIET: Omit<NodeConfig, "dataDir"> = {
  listenPort: 10_001,
  stunServers: [],
  mqttBrokers: [],
  turnServers: [],
  ntpServers: [],
  portMapping: false,
  strategies: ["direct", "reverse", "punch", "relay"],
  relay: "last",
  relayAfterMs: 1500,
  resumeForMs: 60_000,
};

/** Starts a node on `host` that asks nobody for anything, save what `config` says. */
export async function startSimNode(host: SimHost, config: Partial<NodeConfig> = {}): Promise<SimNode> {
  const dataDir = mkdtempSync(join(tmpdir(), "p2pd-sim-"));
  const remove = (): void => rmSync(dataDir, { recursive: true, force: true });
  try {
    writeFileSync(join(dataDir, "node-key.pem"), privateKeyPem(host.world.randomBytes(32)), { mode: 0o600 });
    const node = await Node.start(host.world, { ...QUIET, dataDir, ...config });
    return {
      node,
      async close() {
        await node.close();
        remove();
      },
    };
  } catch (thrown) {
    remove();
    throw thrown;
  }
}

/** The P-256 key of this scalar as PKCS #8. */
function privateKeyPem(scalar: Uint8Array): string {
  const pair = createECDH("prime256v1");
  pair.setPrivateKey(scalar);
  const point = pair.getPublicKey();
  const part = (from: number): string => point.toString("base64url", from, from + 32);
  const d = Buffer.from(scalar).toString("base64url");
  const key = createPrivateKey({
    key: { kty: "EC", crv: "P-256", x: part(1), y: part(33), d },
    format: "jwk",
  });
  return key.export({ type: "pkcs8", format: "pem" });
}
