/** What every command starts from: the configuration as this process finds it, and a log on standard error. */
import { createLog, type Log } from "../../core/log.ts";
import { createRealWorld } from "../../core/net/real-world.ts";
import type { World } from "../../core/net/world.ts";
import type { Config, ConfigName } from "../../core/node/config.ts";
import { loadConfig } from "../../core/node/load-config.ts";
import type { Terminal } from "./terminal.ts";

export interface Settings {
  readonly world: World;
  readonly config: Config;
  readonly log: Log;
  readonly terminal: Terminal;
}

/** Rejects with `configuration`. */
export async function openSettings(
  flags: Readonly<Partial<Record<ConfigName, string>>>,
  terminal: Terminal,
): Promise<Settings> {
  const { config, file, warnings } = await loadConfig({
    platform: terminal.platform,
    home: terminal.home,
    env: terminal.env,
    cwd: terminal.cwd,
    flags,
  });
  const world = createRealWorld();
  const log = createLog({
    level: config.logLevel,
    format: config.logFormat,
    wallMs: () => world.time.wallMs(),
    write: (line) => {
      terminal.complain(line);
    },
  });
  for (const warning of warnings) log.warn(warning);
  if (file !== undefined) log.debug("configuration read", { file });
  return { world, config, log, terminal };
}
