/**
 * Reads the settings from their sources, the later winning: defaults, `p2pd.toml`, environment, flags. Every wrong
 * value ends in one error that names its source, what it was and what was expected. What settings there are is
 * said in `config.ts`.
 */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { P2pdError } from "../errors.ts";
import {
  CONFIG_KEYS,
  CONFIG_NAMES,
  type Config,
  type ConfigName,
  environmentName,
  flagName,
} from "./config.ts";
import { configDirectory, type Surroundings, stateDirectory } from "./config-directories.ts";
import { isLoopback } from "./config-values.ts";
import { suggestion } from "./suggestion.ts";

export interface ConfigSources extends Surroundings {
  /** Working directory: the first place of `p2pd.toml`, and what relative paths are seen from. */
  readonly cwd: string;
  /** Flags that were given, by the name of their setting. */
  readonly flags: Readonly<Partial<Record<ConfigName, string>>>;
}

export interface LoadedConfig {
  readonly config: Config;
  /** The file that was read. */
  readonly file?: string;
  /** What looks wrong and stops nothing, one sentence each. */
  readonly warnings: readonly string[];
}

/** A value as its source gave it. `where` names the source to a person. */
interface Given {
  readonly name: ConfigName;
  readonly source: "file" | "environment" | "flag" | "default";
  readonly where: string;
  readonly value: unknown;
  /** Directory that relative paths are seen from. */
  readonly base: string;
}

type Check = (schema: object, value: unknown) => boolean;

/** Reads all sources. Rejects with `configuration`, whose `detail` has `source`, `key` and `expected`. */
export async function loadConfig(sources: ConfigSources): Promise<LoadedConfig> {
  const found = findFile(sources);
  const given = [
    ...(found === undefined ? [] : await fromFile(found)),
    ...fromEnvironment(sources),
    ...fromFlags(sources),
  ];
  // The checker is loaded where there is something to check: it takes longer than the rest of the start.
  const check: Check = given.length === 0 ? () => true : (await import("typebox/schema")).Check;
  const values = defaultValues(sources);
  for (const one of given) {
    if (isUnset(one)) values.delete(one.name);
    else values.set(one.name, read(one, check));
  }
  const config = Object.fromEntries(values) as unknown as Config;
  refuseOpenApi(
    config,
    given.findLast(({ name }) => name === "apiHost"),
  );
  const warnings = unknownVariables(sources.env);
  return found === undefined ? { config, warnings } : { config, file: found.path, warnings };
}

/** The settings that stand when nothing was said, with `changes`: for programs that embed a node. */
export function defaultConfig(
  changes: Partial<Config> = {},
  surroundings: Surroundings = { platform: process.platform, home: homedir(), env: process.env },
): Config {
  return { ...(Object.fromEntries(defaultValues(surroundings)) as unknown as Config), ...changes };
}

function defaultValues(surroundings: Surroundings): Map<ConfigName, unknown> {
  const values = new Map<ConfigName, unknown>();
  for (const name of CONFIG_NAMES) {
    const value = CONFIG_KEYS[name].fallback;
    if (value === undefined) continue;
    values.set(
      name,
      read({ name, source: "default", where: `default: ${name}`, value, base: "" }, () => true),
    );
  }
  return values.set("dataDir", stateDirectory(surroundings));
}

function findFile(sources: ConfigSources): { path: string; text: string } | undefined {
  for (const directory of [sources.cwd, configDirectory(sources)]) {
    const path = join(directory, "p2pd.toml");
    try {
      return { path, text: readFileSync(path, "utf8") };
    } catch (thrown) {
      const code = (thrown as NodeJS.ErrnoException).code;
      if (code === "ENOENT" || code === "ENOTDIR") continue;
      throw new P2pdError("configuration", `${path} cannot be read: ${(thrown as Error).message}`, {
        source: "file",
        file: path,
      });
    }
  }
  return undefined;
}

async function fromFile({ path, text }: { path: string; text: string }): Promise<Given[]> {
  const { parse, TomlError } = await import("smol-toml");
  let table: Record<string, unknown>;
  try {
    table = parse(text);
  } catch (thrown) {
    const place = thrown instanceof TomlError ? `, line ${thrown.line}, column ${thrown.column}` : "";
    const reason = (thrown as Error).message.split("\n")[0]?.replace(/^Invalid TOML document: /, "") ?? "";
    throw new P2pdError("configuration", `${path}${place} is not TOML: ${reason}`, {
      source: "file",
      file: path,
    });
  }
  return Object.entries(table).map(([key, value]) => {
    if (!isConfigName(key)) {
      const message = `${path}: ${JSON.stringify(key)} is no setting${suggestion(key, CONFIG_NAMES)}`;
      throw new P2pdError("configuration", message, { source: "file", file: path, key });
    }
    const asText = typeof value === "string";
    const raw =
      asText && shapeOf(key) !== "text" && shapeOf(key) !== "integer" ? fromText(key, value) : value;
    return { name: key, source: "file", where: `${path}: ${key}`, value: raw, base: dirname(path) };
  });
}

function fromEnvironment({ env, cwd }: ConfigSources): Given[] {
  return CONFIG_NAMES.flatMap((name) => {
    const where = environmentName(name);
    const text = env[where];
    if (text === undefined) return [];
    return [
      { name, source: "environment", where: `environment: ${where}`, value: fromText(name, text), base: cwd },
    ];
  });
}

function fromFlags({ flags, cwd }: ConfigSources): Given[] {
  return CONFIG_NAMES.flatMap((name) => {
    const text = flags[name];
    if (text === undefined) return [];
    return [
      { name, source: "flag", where: `flag: ${flagName(name)}`, value: fromText(name, text), base: cwd },
    ];
  });
}

function unknownVariables(env: ConfigSources["env"]): string[] {
  const known = CONFIG_NAMES.map(environmentName);
  return Object.keys(env)
    .filter((key) => key.startsWith("P2PD_") && !known.includes(key))
    .map((key) => `environment: ${key} is no setting${suggestion(key, known)}`);
}

function isConfigName(key: string): key is ConfigName {
  return Object.hasOwn(CONFIG_KEYS, key);
}

function shapeOf(name: ConfigName): "text" | "integer" | "switch" | "list" {
  return CONFIG_KEYS[name].shape;
}

/** Text of the environment or a flag as a file would have it; what does not fit stays text and is refused later. */
function fromText(name: ConfigName, text: string): unknown {
  switch (shapeOf(name)) {
    case "integer":
      return /^[0-9]{1,9}$/.test(text) ? Number(text) : text;
    case "switch":
      return text === "on" || text === "true" ? true : text === "off" || text === "false" ? false : text;
    case "list":
      return text.trim() === "" ? [] : text.split(",").map((entry) => entry.trim());
    default:
      return text;
  }
}

/** An empty value takes back what an earlier source set, where there need not be one. */
function isUnset({ name, value }: Given): boolean {
  if (CONFIG_KEYS[name].fallback !== undefined || name === "dataDir") return false;
  return value === "" || (Array.isArray(value) && value.length === 0);
}

function read(given: Given, check: Check): unknown {
  const { name, value, base } = given;
  const { schema, read } = CONFIG_KEYS[name];
  if (!check(schema, value)) throw wrong(given, value);
  if (read === undefined) return value;
  const convert = read as (raw: unknown, base: string) => unknown;
  if (!Array.isArray(value)) return convert(value, base) ?? refuse(given, value);
  return value.map((entry, i) => convert(entry, base) ?? refuse(given, entry, `entry ${i + 1} of `));
}

function refuse(given: Given, value: unknown, part = ""): never {
  throw wrong(given, value, part);
}

function wrong({ name, source, where }: Given, value: unknown, part = ""): P2pdError {
  const { secret, expects } = CONFIG_KEYS[name];
  const text = show(value);
  const hidden = secret === "always" || (secret === "with-user" && text.includes("@"));
  const shown = hidden ? "wrong (it is not shown, since it may hold a secret)" : shorten(text);
  const at = where.lastIndexOf(" ") + 1;
  const subject = `${where.slice(0, at)}${part}${where.slice(at)}`;
  return new P2pdError("configuration", `${subject} is ${shown}; expected ${expects}`, {
    source,
    key: name,
    expected: expects,
  });
}

function show(value: unknown): string {
  return JSON.stringify(value) ?? String(value);
}

function shorten(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}… (${text.length} characters)` : text;
}

/** An API that other machines can reach must not be open to all of them. */
function refuseOpenApi({ apiHost, apiToken }: Config, given: Given | undefined): void {
  if (isLoopback(apiHost) || apiToken !== undefined || given === undefined) return;
  const expected = "a loopback address, or apiToken to be set as well";
  const message = `${given.where} is "${apiHost}", which other machines can reach; expected ${expected}`;
  throw new P2pdError("configuration", message, { source: given.source, key: "apiHost", expected });
}
