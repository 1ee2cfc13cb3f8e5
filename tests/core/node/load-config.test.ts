import { afterAll, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { P2pdError } from "../../../core/errors.ts";
import {
  CONFIG_KEYS,
  CONFIG_NAMES,
  type Config,
  type ConfigName,
  environmentName,
  flagName,
} from "../../../core/node/config.ts";
import { defaultConfig, loadConfig } from "../../../core/node/load-config.ts";

const top = mkdtempSync(join(tmpdir(), "p2pd-config-"));
const cwd = join(top, "work");
const home = join(top, "home");
const userDirectory = join(home, ".config", "p2pd");

beforeEach(() => {
  for (const directory of [cwd, home]) rmSync(directory, { recursive: true, force: true });
  mkdirSync(cwd, { recursive: true });
  mkdirSync(userDirectory, { recursive: true });
});
afterAll(() => rmSync(top, { recursive: true, force: true }));

test("without any source the defaults stand, and they are the same that an embedding program gets", async () => {
  const { config, warnings, file } = await load({});
  expect(config).toEqual(defaultConfig({}, { platform: "linux", home, env: {} }));
  expect(config).toMatchObject({
    apiHost: "127.0.0.1",
    apiPort: 12333,
    portMapping: true,
    strategies: ["direct", "reverse", "punch", "relay"],
    relay: "last",
    relayAfterMs: 1500,
    resumeForMs: 60_000,
    turnServers: [],
    dataDir: join(home, ".local/state/p2pd"),
  });
  expect(config.stunServers[0]).toEqual({ host: "stun.cloudflare.com", port: 3478 });
  expect(config.listenPort).toBeUndefined();
  expect([warnings, file]).toEqual([[], undefined]);
});

test("every default passes the check that values from outside pass", async () => {
  for (const name of CONFIG_NAMES) {
    const { fallback } = CONFIG_KEYS[name];
    if (fallback === undefined) continue;
    writeFileSync(join(cwd, "p2pd.toml"), `${name} = ${JSON.stringify(fallback)}\n`);
    expect((await load({})).config).toEqual(defaultConfig({}, { platform: "linux", home, env: {} }));
  }
});

test("every example of the table is taken from each source alike", async () => {
  for (const name of CONFIG_NAMES) {
    const { example, shape } = CONFIG_KEYS[name];
    const fromEnvironment = (await load({ env: { [environmentName(name)]: example } })).config;
    const fromFlag = (await load({ flags: { [name]: example } })).config;
    writeFileSync(
      join(cwd, "p2pd.toml"),
      `${name} = ${shape === "integer" ? example : JSON.stringify(example)}\n`,
    );
    const fromFile = (await load({})).config;
    rmSync(join(cwd, "p2pd.toml"));
    expect(fromEnvironment[name]).toBeDefined();
    expect(fromFlag).toEqual(fromEnvironment);
    expect(fromFile).toEqual(fromEnvironment);
  }
});

test("a flag wins over the environment, and that over the file", async () => {
  writeFileSync(join(cwd, "p2pd.toml"), 'apiPort = 1\nlistenPort = 1\nrelay = "first"\n');
  const { config } = await load({
    env: { P2PD_API_PORT: "2", P2PD_LISTEN_PORT: "2" },
    flags: { apiPort: "3" },
  });
  expect([config.apiPort, config.listenPort, config.relay]).toEqual([3, 2, "first"]);
});

test("the file of the working directory is taken, else that of the user's configuration directory", async () => {
  writeFileSync(join(userDirectory, "p2pd.toml"), "apiPort = 1\n");
  expect((await load({})).config.apiPort).toBe(1);
  expect((await load({ env: { XDG_CONFIG_HOME: join(top, "elsewhere") } })).config.apiPort).toBe(12333);
  writeFileSync(join(cwd, "p2pd.toml"), "listenPort = 2\n");
  const { config, file } = await load({});
  expect([config.apiPort, config.listenPort, file]).toEqual([12333, 2, join(cwd, "p2pd.toml")]);
});

test("an empty value empties a list and takes back what need not be set", async () => {
  writeFileSync(join(cwd, "p2pd.toml"), 'apiToken = "secret"\ninterfaces = ["eth0"]\nlistenPort = 5\n');
  const { config } = await load({
    env: { P2PD_API_TOKEN: "", P2PD_INTERFACES: "", P2PD_STUN_SERVERS: "", P2PD_LISTEN_PORT: "" },
  });
  expect(config.stunServers).toEqual([]);
  for (const name of ["apiToken", "interfaces", "listenPort"] as const) expect(name in config).toBe(false);
  for (const name of ["P2PD_API_PORT", "P2PD_DATA_DIR", "P2PD_STRATEGIES", "P2PD_LOG_LEVEL"]) {
    expect((await failure({ env: { [name]: "" } })).message).toContain(name);
  }
});

test("servers become hosts with ports, and credentials are decoded", async () => {
  const { config } = await load({
    env: {
      P2PD_STUN_SERVERS: "stun:Example.ORG, stun:[2001:DB8::1]:99,STUN:192.0.2.7",
      P2PD_TURN_SERVERS: "turn:me:p%2Cw:x@h.example?transport=tcp,turns:a:b@[::1],turn:a:b@192.0.2.1:7",
      P2PD_NTP_SERVERS: "192.0.2.1,[::1]:124",
      P2PD_MQTT_BROKERS: "mqtt://h:1883,wss://h.example/mqtt,mqtts://user:word@[::1]:8883",
      P2PD_API_HOST: "LOCALHOST",
    },
  });
  expect(config.stunServers).toEqual([
    { host: "example.org", port: 3478 },
    { host: "2001:db8::1", port: 99 },
    { host: "192.0.2.7", port: 3478 },
  ]);
  expect(config.turnServers).toEqual([
    { host: "h.example", port: 3478, transport: "tcp", username: "me", password: "p,w:x" },
    { host: "::1", port: 5349, transport: "tls", username: "a", password: "b" },
    { host: "192.0.2.1", port: 7, transport: "udp", username: "a", password: "b" },
  ]);
  expect(config.ntpServers).toEqual([
    { host: "192.0.2.1", port: 123 },
    { host: "::1", port: 124 },
  ]);
  expect(config.mqttBrokers).toHaveLength(3);
  expect(config.apiHost).toBe("127.0.0.1");
});

test.each([
  ["apiHost", "example.org", "an IP address"],
  ["apiPort", "65536", "0 to 65535"],
  ["apiPort", "12e3", "0 to 65535"],
  ["listenPort", "-1", "0 to 65535"],
  ["apiSocket", "x".repeat(104), "at most 103"],
  ["dataDir", "a\0b", "path"],
  ["interfaces", "eth0,,eth1", "names"],
  ["stunServers", "stun:", "stun:HOST"],
  ["stunServers", "stun:h:0", "stun:HOST"],
  ["stunServers", "stun:256.1.1.1", "stun:HOST"],
  ["stunServers", "stuns:h", "stun:HOST"],
  ["mqttBrokers", "http://h", "mqtt://"],
  ["mqttBrokers", "mqtt://h:99999", "mqtt://"],
  ["turnServers", "turn:h", "turn:USER:PASSWORD@HOST"],
  ["turnServers", "turns:a:b@h?transport=udp", "turn:USER:PASSWORD@HOST"],
  ["turnServers", "turn:a:%zz@h", "turn:USER:PASSWORD@HOST"],
  ["ntpServers", "a b", "HOST"],
  ["portMapping", "maybe", "on or off"],
  ["strategies", "direct,teleport", "direct, reverse, punch, relay"],
  ["strategies", "direct,direct", "each once"],
  ["relay", "sometimes", "never, last, first"],
  ["relayAfterMs", "1.5", "milliseconds"],
  ["logLevel", "loud", "error, warn, info, debug"],
  ["logFormat", "xml", "text, json"],
] as const)("%s refuses %p and says what was expected", async (name, text, expected) => {
  const byEnvironment = await failure({ env: { [environmentName(name)]: text } });
  expect(byEnvironment.message).toContain(environmentName(name));
  expect(byEnvironment.message).toContain(expected);
  expect(byEnvironment.detail).toMatchObject({ source: "environment", key: name });
  const byFlag = await failure({ flags: { [name]: text } });
  expect(byFlag.message).toContain(flagName(name));
  expect(byFlag.detail).toMatchObject({ source: "flag", key: name });
});

test("what a wrong value may hold of secrets is not shown", async () => {
  const turn = await failure({ env: { P2PD_TURN_SERVERS: "turn:me:hunter2" } });
  const broker = await failure({ env: { P2PD_MQTT_BROKERS: "http://me:hunter2@h" } });
  const token = await failure({ env: { P2PD_API_TOKEN: "hunter2 hunter2" } });
  for (const { message } of [turn, broker, token]) expect(message).not.toContain("hunter2");
});

test("a wrong value is refused although a later source overrides it", async () => {
  writeFileSync(join(cwd, "p2pd.toml"), "apiPort = 99999\n");
  expect((await failure({ flags: { apiPort: "1" } })).message).toContain(
    `${join(cwd, "p2pd.toml")}: apiPort`,
  );
});

test.each([
  ["apiProt = 1\n", '"apiProt" is no setting; did you mean apiPort?'],
  ['"api-port" = 1\n', '"api-port" is no setting; did you mean apiPort?'],
  ["zzz = 1\n", '"zzz" is no setting'],
  ["__proto__ = 1\n", "is no setting"],
  ["constructor = 1\n", "is no setting"],
  ["[api]\nport = 1\n", '"api" is no setting'],
  ["apiPort = 1\napiPort = 2\n", "line 2"],
  ["apiPort = = 1\n", "line 1"],
  ['apiPort = "12333"\n', 'apiPort is "12333"; expected a port'],
  ["dataDir = 1979-05-27\n", "dataDir is"],
  ["stunServers = [1]\n", "stunServers is [1]; expected stun:HOST"],
  ["apiPort = 99999999999999999999\n", "p2pd.toml"],
])("the file %p is refused with its name and the reason", async (text, reason) => {
  writeFileSync(join(cwd, "p2pd.toml"), text);
  const { message, detail } = await failure({});
  expect(message).toContain(join(cwd, "p2pd.toml"));
  expect(message).toContain(reason);
  expect(detail["source"]).toBe("file");
});

test("a file that cannot be read is an error, not a file that is missing", async () => {
  mkdirSync(join(cwd, "p2pd.toml"));
  expect((await failure({})).message).toContain("cannot be read");
});

test("an unknown variable is a warning with a suggestion", async () => {
  const { warnings } = await load({ env: { P2PD_STUN_SERVER: "x", OTHER: "y" } });
  expect(warnings).toEqual(["environment: P2PD_STUN_SERVER is no setting; did you mean P2PD_STUN_SERVERS?"]);
});

test("relative paths are seen from the file that has them, or from the working directory", async () => {
  writeFileSync(join(userDirectory, "p2pd.toml"), 'dataDir = "node"\n');
  const { config } = await load({ env: { P2PD_API_SOCKET: "api.sock" } });
  expect(config.dataDir).toBe(join(userDirectory, "node"));
  expect(config.apiSocket).toBe(join(cwd, "api.sock"));
  expect((await load({ env: { P2PD_DATA_DIR: "~/x" } })).config.dataDir).not.toContain("~");
});

test("an API that other machines reach needs a token", async () => {
  const { message } = await failure({ env: { P2PD_API_HOST: "0.0.0.0" } });
  expect(message).toContain("P2PD_API_HOST");
  expect(message).toContain("apiToken");
  const { config } = await load({ env: { P2PD_API_HOST: "0.0.0.0", P2PD_API_TOKEN: "word" } });
  expect(config.apiHost).toBe("0.0.0.0");
});

test("any text from any source either loads or is refused with its source and key", async () => {
  const words = [
    "",
    "stun:",
    "turn:a:b@",
    "mqtt://",
    "h",
    ":1",
    "[::1]",
    ",",
    "on",
    "1",
    "%",
    "@",
    "?transport=tcp",
  ];
  const text = fc.oneof(
    fc.string({ unit: "binary", maxLength: 40 }),
    fc.array(fc.constantFrom(...words), { maxLength: 8 }).map((parts) => parts.join("")),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...CONFIG_NAMES),
      fc.constantFrom("flag", "environment", "file"),
      text,
      async (name, source, value) => {
        if (source === "file") writeFileSync(join(cwd, "p2pd.toml"), `${name} = ${tomlText(value)}\n`);
        else rmSync(join(cwd, "p2pd.toml"), { force: true });
        try {
          const { config } = await load({
            env: source === "environment" ? { [environmentName(name)]: value } : {},
            flags: source === "flag" ? { [name]: value } : {},
          });
          expect(Object.keys(config).every((key) => CONFIG_NAMES.includes(key as ConfigName))).toBe(true);
        } catch (thrown) {
          expect(thrown).toBeInstanceOf(P2pdError);
          const error = thrown as P2pdError;
          expect(error.code).toBe("configuration");
          expect(error.detail).toMatchObject({ source, key: name });
          const spelling = { flag: flagName(name), environment: environmentName(name), file: name }[source];
          expect(error.message).toContain(spelling);
          expect(error.message).not.toContain("\n");
        }
      },
    ),
    { numRuns: 1500 },
  );
});

interface Sources {
  readonly env?: Record<string, string>;
  readonly flags?: Partial<Record<ConfigName, string>>;
}

function load({ env = {}, flags = {} }: Sources): Promise<{
  config: Config;
  warnings: readonly string[];
  file?: string;
}> {
  return loadConfig({ platform: "linux", home, env, cwd, flags });
}

async function failure(sources: Sources): Promise<P2pdError> {
  try {
    await load(sources);
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(P2pdError);
    return thrown as P2pdError;
  }
  throw new Error("the configuration was taken");
}

/** A TOML basic string: JSON's escapes, with DEL and lone surrogates kept out as TOML demands. */
function tomlText(value: string): string {
  return JSON.stringify(value.toWellFormed()).replaceAll("\u007f", "\\u007f");
}
