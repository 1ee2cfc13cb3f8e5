/** The settings of `p2pd infra`: rows of the table in `config.ts`, whose flags this command alone shows. */
import type { InfraConfig, InfraServer } from "../infra/infra-config.ts";
import { parsePrefix } from "../infra/peer-policy.ts";
import type { ConfigKey } from "./config-key.ts";
import { readBindAddress, readPath, readUser } from "./config-values.ts";

const SERVERS: readonly InfraServer[] = ["broker", "stun", "turn"];

const text = (pattern: string, maxLength: number): object => ({
  type: "string",
  pattern,
  minLength: 1,
  maxLength,
});
const integer = (minimum: number, maximum: number): object => ({ type: "integer", minimum, maximum });
const entries = (maxItems: number): object => ({
  type: "array",
  items: text("^[^\\s\\u0000-\\u001f]+$", 1024),
  maxItems,
});
const PATH = text("^[^\\u0000]+$", 4096);

function port(fallback: number, help: string): ConfigKey {
  return {
    shape: "integer",
    schema: integer(0, 65535),
    fallback,
    expects: "a port, 0 to 65535, where 0 means any free one",
    example: String(fallback),
    help,
  };
}

function count(fallback: number, least: number, most: number, help: string): ConfigKey {
  return {
    shape: "integer",
    schema: integer(least, most),
    fallback,
    expects: `a number, ${least} to ${most}`,
    example: String(fallback),
    help,
  };
}

export const INFRA_KEYS: { readonly [Name in keyof InfraConfig]-?: ConfigKey } = {
  infraServers: {
    shape: "list",
    schema: { type: "array", items: { enum: SERVERS }, minItems: 1, uniqueItems: true },
    fallback: SERVERS,
    expects: `one or more of ${SERVERS.join(", ")}, each once`,
    example: "stun,turn",
    help: "servers that infra runs",
  },
  infraIps: {
    shape: "list",
    schema: entries(4),
    defaultText: "those of the default NICs",
    expects: "one or two IP addresses of this machine of each family, separated by commas",
    example: "192.0.2.1,192.0.2.2",
    help: "addresses that infra listens on; two of a family serve NAT detection",
    read: readBindAddress,
  },
  infraPublicIps: {
    shape: "list",
    schema: entries(4),
    defaultText: "the same",
    expects: "an IP address for each of infraIps, separated by commas",
    example: "198.51.100.1",
    help: "those addresses as clients see them, where a router translates",
    read: readBindAddress,
  },
  infraPort: port(3478, "port of STUN and TURN, UDP and TCP"),
  infraOtherPort: port(3479, "second port of STUN, used with two addresses"),
  infraTlsPort: port(5349, "port of TURN over TLS"),
  infraTlsCertificate: {
    shape: "text",
    schema: PATH,
    expects: "the path of a PEM file",
    example: "/etc/p2pd/fullchain.pem",
    help: "certificate for TURN over TLS, with those that lead to its authority",
    read: readPath,
  },
  infraTlsKey: {
    shape: "text",
    schema: PATH,
    expects: "the path of a PEM file",
    example: "/etc/p2pd/privkey.pem",
    help: "private key of that certificate",
    read: readPath,
  },
  infraMqttPort: port(1883, "port of the broker"),
  infraWebSocketPort: port(8083, "port of the broker for WebSockets"),
  infraRealm: {
    shape: "text",
    schema: text("^[!-~]+$", 128),
    fallback: "p2pd",
    expects: "1 to 128 visible ASCII characters without a space",
    example: "turn.example.org",
    help: "realm of the TURN server",
  },
  infraUsers: {
    shape: "list",
    schema: entries(1024),
    fallback: [],
    expects: "USER:PASSWORD, separated by commas",
    example: "alice:a-long-random-word",
    help: "users of the TURN server; without any, p2pd with a password made from infraSecret",
    secret: "always",
    read: readUser,
  },
  infraSecret: {
    shape: "text",
    schema: text("^[!-~]+$", 512),
    defaultText: "made at the first start and kept in dataDir",
    expects: "1 to 512 visible ASCII characters without a space",
    example: "a-long-random-word",
    help: "secret behind TURN passwords, of p2pd and of users EXPIRY:NAME",
    secret: "always",
  },
  infraRelayPorts: {
    shape: "text",
    schema: text("^[0-9]{1,5}-[0-9]{1,5}$", 11),
    fallback: "49152-65535",
    expects: "FIRST-LAST, two ports from 1024 to 65535",
    example: "50000-59999",
    help: "ports that TURN relays from",
    read: readPortRange,
  },
  infraAllowPeers: {
    shape: "list",
    schema: entries(64),
    fallback: [],
    expects: "IP addresses or prefixes such as 10.0.0.0/8, separated by commas",
    example: "192.168.0.0/16",
    help: "private addresses that TURN may relay to all the same",
    read: parsePrefix,
  },
  infraMaxAllocations: count(4096, 1, 60_000, "TURN allocations at a time"),
  infraMaxPerUser: count(512, 1, 60_000, "TURN allocations of one user at a time"),
  infraMaxClients: count(4096, 1, 60_000, "clients of the broker at a time"),
  infraAnswersPerSecond: count(
    200,
    0,
    1_000_000,
    "STUN answers and refusals per second to one network, 0: any number",
  ),
  infraStatusHost: {
    shape: "text",
    schema: text("^\\S+$", 64),
    fallback: "127.0.0.1",
    expects: "an IP address of this machine, or localhost",
    example: "127.0.0.1",
    help: "address of infra's status page and metrics",
    read: readBindAddress,
  },
  infraStatusPort: port(12380, "port of infra's status page and metrics"),
};

function readPortRange(range: string): { first: number; last: number } | undefined {
  const [first = 0, last = 0] = range.split("-").map(Number);
  return first >= 1024 && last <= 65_535 && first <= last ? { first, last } : undefined;
}
