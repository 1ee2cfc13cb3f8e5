/** `p2pd infra` on loopback and free ports, for tests. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Infra, startInfra } from "../../../core/infra/infra.ts";
import { createLog } from "../../../core/log.ts";
import { createRealWorld } from "../../../core/net/real-world.ts";
import type { World } from "../../../core/net/world.ts";
import type { Config } from "../../../core/node/config.ts";
import { defaultConfig } from "../../../core/node/load-config.ts";

export interface TestInfra extends AsyncDisposable {
  readonly infra: Infra;
  readonly log: readonly string[];
  readonly directory: string;
}

/** Its one user is `user` with the password `pass`. */
export async function startTestInfra(
  changes: Partial<Config> = {},
  world: World = createRealWorld(),
): Promise<TestInfra> {
  const directory = mkdtempSync(join(tmpdir(), "p2pd-infra-"));
  const log: string[] = [];
  const config = defaultConfig({
    dataDir: directory,
    infraIps: ["127.0.0.1"],
    infraAllowPeers: [{ ip: "127.0.0.0", prefixLength: 8 }],
    infraUsers: [{ name: "user", password: "pass" }],
    infraRelayPorts: { first: 20_000, last: 29_999 },
    infraPort: 0,
    infraOtherPort: 0,
    infraTlsPort: 0,
    infraMqttPort: 0,
    infraWebSocketPort: 0,
    infraAnswersPerSecond: 0,
    ...changes,
  });
  const lines = createLog({
    level: "debug",
    format: "text",
    wallMs: () => 0,
    write: (line) => log.push(line),
  });
  const infra = await startInfra(world, config, lines);
  return {
    infra,
    log,
    directory,
    async [Symbol.asyncDispose]() {
      await infra.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** The port of the first place where that server listens. */
export function portOf({ infra }: TestInfra, server: string): number {
  const found = infra.listening.find((one) => one.server === server);
  if (found === undefined) {
    throw new Error(`${server} does not listen: ${infra.listening.map((one) => one.server).join(", ")}`);
  }
  return found.endpoint.port;
}
