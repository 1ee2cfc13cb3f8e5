/**
 * The settings of P2PD: one table, from which the file's keys, the environment variables, the flags, `--help` and
 * docs/configuration.md all follow. Reading them from their sources is `load-config.ts`.
 */
import type { InfraConfig } from "../infra/infra-config.ts";
import { PUNCH_BUDGET } from "../nat/punch-budget.ts";
import type { ConfigKey } from "./config-key.ts";
import {
  readBindAddress,
  readBroker,
  readPath,
  readServer,
  readStunServer,
  readTurnServer,
} from "./config-values.ts";
import { INFRA_KEYS } from "./infra-keys.ts";
import type { RelayPolicy, Strategy } from "./node-api.ts";
import type { NodeConfig } from "./node-config.ts";

export type LogLevel = "error" | "warn" | "info" | "debug";
export type LogFormat = "text" | "json";

/** Everything that can be set, checked and in the form in which it is used. */
export interface Config extends Omit<NodeConfig, "services">, InfraConfig {
  /** Address on which the API listens. */
  readonly apiHost: string;
  /** 0: any free port. */
  readonly apiPort: number;
  readonly apiToken?: string;
  /** Path of a local socket on which the API listens as well. */
  readonly apiSocket?: string;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

export type ConfigName = keyof Config;

const STRATEGIES: readonly Strategy[] = ["direct", "reverse", "punch", "relay"];
const RELAY_POLICIES: readonly RelayPolicy[] = ["never", "last", "first"];
const LOG_LEVELS: readonly LogLevel[] = ["error", "warn", "info", "debug"];
const LOG_FORMATS: readonly LogFormat[] = ["text", "json"];

const text = (pattern: string, maxLength: number): object => ({
  type: "string",
  pattern,
  minLength: 1,
  maxLength,
});
const integer = (minimum: number, maximum: number): object => ({ type: "integer", minimum, maximum });
const list = (items: object): object => ({ type: "array", items, maxItems: 64 });
const PORT = "a port, 0 to 65535, where 0 means any free one";
const PATH = text("^[^\\u0000]+$", 4096);
const ENTRIES = list(text("^[^\\s\\u0000-\\u001f]+$", 1024));

/** The settings in the order in which they are shown. */
export const CONFIG_KEYS: { readonly [Name in ConfigName]-?: ConfigKey } = {
  apiHost: {
    shape: "text",
    schema: text("^\\S+$", 64),
    fallback: "127.0.0.1",
    expects: "an IP address of this machine, or localhost",
    example: "127.0.0.1",
    help: "address on which the API listens",
    read: readBindAddress,
  },
  apiPort: {
    shape: "integer",
    schema: integer(0, 65535),
    fallback: 12333,
    expects: PORT,
    example: "12333",
    help: "port on which the API listens",
  },
  apiToken: {
    shape: "text",
    schema: text("^[\\u0021-\\u007e]+$", 512),
    expects: "1 to 512 visible ASCII characters without a space",
    example: "a-long-random-word",
    help: "token that every request to the API must bear",
    secret: "always",
  },
  apiSocket: {
    shape: "text",
    // sockaddr_un has room for 107 octets on Linux and 103 on macOS and FreeBSD.
    schema: text("^[^\\u0000]+$", 103),
    expects: "a path of at most 103 characters",
    example: "/run/p2pd.sock",
    help: "path of a local socket on which the API listens as well",
    read: readPath,
  },
  dataDir: {
    shape: "text",
    schema: PATH,
    defaultText: "the user's state directory, see below",
    expects: "the path of a directory",
    example: "/var/lib/p2pd",
    help: "directory of the node's key; one node per directory",
    read: readPath,
  },
  listenPort: {
    shape: "integer",
    schema: integer(0, 65535),
    defaultText: "derived from the machine's id, next free",
    expects: PORT,
    example: "20000",
    help: "TCP and UDP port on which peers reach the node",
  },
  interfaces: {
    shape: "list",
    schema: list(text("^[^,\\u0000-\\u001f]+$", 256)),
    defaultText: "all that have a route",
    expects: "names of network interfaces, separated by commas",
    example: "eth0,wlan0",
    help: "network interfaces to use",
  },
  stunServers: {
    shape: "list",
    schema: ENTRIES,
    fallback: [
      "stun:stun.cloudflare.com:3478",
      "stun:stunserver2025.stunprotocol.org:3478",
      "stun:stun.l.google.com:19302",
    ],
    expects: "stun:HOST[:PORT], separated by commas",
    example: "stun:stun.example.org:3478,stun:192.0.2.7",
    help: "servers that tell the external address",
    read: readStunServer,
  },
  mqttBrokers: {
    shape: "list",
    schema: ENTRIES,
    fallback: [
      "mqtts://broker.hivemq.com:8883",
      "mqtts://broker.emqx.io:8883",
      "mqtts://test.mosquitto.org:8886",
    ],
    expects: "mqtt://, mqtts://, ws:// or wss:// with HOST[:PORT], separated by commas",
    example: "mqtt://broker.example.org:1883,mqtts://192.0.2.7",
    help: "brokers that carry the signals between nodes",
    secret: "with-user",
    read: readBroker,
  },
  turnServers: {
    shape: "list",
    schema: ENTRIES,
    fallback: [],
    expects: "turn:USER:PASSWORD@HOST[:PORT][?transport=udp|tcp], or turns: for TLS, separated by commas",
    example: "turn:USER:PASSWORD@turn.example.org:3478?transport=udp",
    help: "servers that relay when nothing else works",
    secret: "always",
    read: readTurnServer,
  },
  ntpServers: {
    shape: "list",
    schema: ENTRIES,
    fallback: ["time.cloudflare.com", "time.google.com"],
    expects: "HOST[:PORT], separated by commas",
    example: "time.example.org,192.0.2.7:123",
    help: "time servers, asked where a punch needs a common clock",
    read: (raw: string) => readServer(raw, 123),
  },
  portMapping: {
    shape: "switch",
    schema: { type: "boolean" },
    fallback: true,
    expects: "on or off",
    example: "off",
    help: "ask the router for a forwarded port",
  },
  strategies: {
    shape: "list",
    schema: { type: "array", items: { enum: STRATEGIES }, minItems: 1, uniqueItems: true },
    fallback: STRATEGIES,
    expects: `one or more of ${STRATEGIES.join(", ")}, each once`,
    example: "direct,punch",
    help: "ways of connecting that may be tried",
  },
  punchMaxPackets: {
    shape: "integer",
    schema: integer(256, 65_536),
    fallback: PUNCH_BUDGET.packets,
    expects: "a number of packets, 256 to 65536",
    example: "2048",
    help: "packets that the punches of one open may cost",
  },
  punchMaxSockets: {
    shape: "integer",
    schema: integer(64, 1024),
    fallback: PUNCH_BUDGET.sockets,
    expects: "a number of sockets, 64 to 1024",
    example: "128",
    help: "UDP sockets that the punches of one open may use at once",
  },
  punchMaxMs: {
    shape: "integer",
    schema: integer(1000, 60_000),
    fallback: PUNCH_BUDGET.ms,
    expects: "milliseconds, 1000 to 60000",
    example: "10000",
    help: "milliseconds that the punches of one open may go on",
  },
  relay: {
    shape: "text",
    schema: { enum: RELAY_POLICIES },
    fallback: "last",
    expects: `one of ${RELAY_POLICIES.join(", ")}`,
    example: "never",
    help: "when a relay may carry a connection: never, last, first",
  },
  relayAfterMs: {
    shape: "integer",
    schema: integer(0, 600_000),
    fallback: 1500,
    expects: "milliseconds, 0 to 600000",
    example: "1500",
    help: "milliseconds of search before the relay begins beside it",
  },
  resumeForMs: {
    shape: "integer",
    schema: integer(0, 86_400_000),
    fallback: 60_000,
    expects: "milliseconds, 0 to 86400000",
    example: "60000",
    help: "milliseconds that a lost path of a connection is replaced in; 0: it is the end",
  },
  logLevel: {
    shape: "text",
    schema: { enum: LOG_LEVELS },
    fallback: "info",
    expects: `one of ${LOG_LEVELS.join(", ")}`,
    example: "debug",
    help: "least important message logged: error, warn, info, debug",
  },
  logFormat: {
    shape: "text",
    schema: { enum: LOG_FORMATS },
    fallback: "text",
    expects: `one of ${LOG_FORMATS.join(", ")}`,
    example: "json",
    help: "form of the log: text, json",
  },
  ...INFRA_KEYS,
};

/** The names in the order of the table. */
export const CONFIG_NAMES = Object.keys(CONFIG_KEYS) as readonly ConfigName[];

/** Whether `p2pd infra` alone uses the setting. */
export function isOfInfra(name: ConfigName): boolean {
  return Object.hasOwn(INFRA_KEYS, name);
}

/** `apiPort` -> `P2PD_API_PORT`. */
export function environmentName(name: ConfigName): string {
  return `P2PD_${words(name).join("_").toUpperCase()}`;
}

/** `apiPort` -> `--api-port`. */
export function flagName(name: ConfigName): string {
  return `--${words(name).join("-").toLowerCase()}`;
}

/** The default as a person reads it. */
export function defaultText({ fallback, defaultText }: ConfigKey): string {
  if (fallback === undefined) return defaultText ?? "none";
  if (typeof fallback === "boolean") return fallback ? "on" : "off";
  if (typeof fallback === "object") return fallback.length === 0 ? "none" : fallback.join(",");
  return String(fallback);
}

function words(name: string): string[] {
  return name.split(/(?=[A-Z])/);
}
