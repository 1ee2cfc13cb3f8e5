/** Where a user's files belong on each platform: the configuration, and what a node must keep. */
import { join } from "node:path";

/** What decides about directories; given by the caller so that every platform's answer can be tested on any. */
export interface Surroundings {
  readonly platform: string;
  readonly home: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** `~/.config/p2pd`, `~/Library/Application Support/p2pd` or `%APPDATA%\p2pd`. */
export function configDirectory({ platform, home, env }: Surroundings): string {
  if (platform === "win32") return join(env["APPDATA"] || join(home, "AppData", "Roaming"), "p2pd");
  if (platform === "darwin") return join(home, "Library", "Application Support", "p2pd");
  return join(absolute(env["XDG_CONFIG_HOME"]) ?? join(home, ".config"), "p2pd");
}

/**
 * `~/.local/state/p2pd`, `~/Library/Application Support/p2pd/node` or `%LOCALAPPDATA%\p2pd`. A node key belongs to
 * one machine, which is what the XDG specification keeps the state directory for.
 */
export function stateDirectory({ platform, home, env }: Surroundings): string {
  if (platform === "win32") return join(env["LOCALAPPDATA"] || join(home, "AppData", "Local"), "p2pd");
  if (platform === "darwin") return join(home, "Library", "Application Support", "p2pd", "node");
  return join(absolute(env["XDG_STATE_HOME"]) ?? join(home, ".local", "state"), "p2pd");
}

/** The XDG specification: a relative path in these variables is invalid and is ignored. */
function absolute(path: string | undefined): string | undefined {
  return path?.startsWith("/") ? path : undefined;
}
