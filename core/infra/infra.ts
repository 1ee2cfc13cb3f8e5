/**
 * The servers that anyone can run for his own nodes: broker, STUN and TURN, started together from one configuration. Says
 * where they listen, what clients need, and how they fare.
 */
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { P2pdError } from "../errors.ts";
import { type Endpoint, familyOf, scopeOf } from "../ip.ts";
import type { Log } from "../log.ts";
import type { Nic, World } from "../net/world.ts";
import { BROKER_BOUNDS, type InfraBroker, openBroker } from "./broker.ts";
import { clientLine } from "./client-line.ts";
import type { InfraConfig } from "./infra-config.ts";
import { keptSecret } from "./kept-secret.ts";
import { createCredentials, type TurnUser } from "./turn-credentials.ts";
import { type HostAddress, openTurnSockets, type TurnSockets } from "./turn-sockets.ts";

export interface Infra {
  /** The command line that clients need. */
  readonly clientLine: string;
  /** Where each server listens, as clients know it. */
  readonly listening: readonly { readonly server: string; readonly endpoint: Endpoint }[];
  /** Absent where it is switched off. */
  readonly broker?: InfraBroker;
  readonly turn?: TurnSockets;
  readonly limits: { readonly allocations: number; readonly clients: number };
  /** Monotonic milliseconds of the start. */
  readonly startedMs: number;
  close(): Promise<void>;
}

/** Rejects with `configuration`, `address-in-use`, `unreachable` or `corrupt-file`; nothing is left open then. */
export async function startInfra(
  world: World,
  config: InfraConfig & { readonly dataDir: string },
  log: Log,
): Promise<Infra> {
  const hosts = hostsOf(config, world.nics());
  const runs = new Set(config.infraServers);
  for (const { shown } of hosts) {
    if (scopeOf(shown) === "public") continue;
    log.warn("only clients in its own network reach this address; infraPublicIps names a public one", {
      address: shown,
      scope: scopeOf(shown),
    });
  }
  const random = (count: number): Uint8Array => world.randomBytes(count);
  const secret = runs.has("turn") ? (config.infraSecret ?? keptSecret(config.dataDir, random)) : "";
  const users = config.infraUsers.length > 0 ? config.infraUsers : [firstUser(secret)];
  const broker = runs.has("broker") ? await startBroker(world, config, hosts, log) : undefined;
  let turn: TurnSockets | undefined;
  try {
    if (runs.has("stun") || runs.has("turn")) {
      turn = await startTurn(world, config, hosts, runs.has("turn") ? { users, secret } : undefined, log);
    }
  } catch (thrown) {
    await broker?.close();
    throw thrown;
  }
  const shownOf = ({ ip, port }: Endpoint): Endpoint => ({
    ip: hosts.find((host) => host.ip === ip)?.shown ?? ip,
    port,
  });
  const mqtt = broker?.listening.tcp.map(shownOf) ?? [];
  const at = (transport: "udp" | "tcp" | "tls"): Endpoint[] =>
    (turn?.listening ?? []).filter((one) => one.transport === transport).map(({ endpoint }) => endpoint);
  const name = runs.has("turn") ? "turn" : "stun";
  return {
    clientLine: clientLine({
      stun: runs.has("stun") ? onePerFamily(at("udp")) : [],
      mqtt: onePerFamily(mqtt),
      turn: runs.has("turn") ? onePerFamily(at("udp")) : [],
      turns: at("tls"),
      ...(users[0] === undefined ? {} : { user: users[0] }),
    }),
    listening: [
      ...(turn?.listening ?? []).map(({ transport, endpoint }) => ({
        server: `${runs.has("stun") && runs.has("turn") ? "stun and turn" : name} over ${transport}`,
        endpoint,
      })),
      ...mqtt.map((endpoint) => ({ server: "mqtt", endpoint })),
      ...(broker?.listening.webSocket ?? []).map((endpoint) => ({
        server: "mqtt over websocket",
        endpoint: shownOf(endpoint),
      })),
    ],
    ...(broker === undefined ? {} : { broker }),
    ...(turn === undefined ? {} : { turn }),
    limits: { allocations: config.infraMaxAllocations, clients: config.infraMaxClients },
    startedMs: world.time.now(),
    async close() {
      turn?.close();
      await broker?.close();
    },
  };
}

function startBroker(
  world: World,
  config: InfraConfig,
  hosts: readonly HostAddress[],
  log: Log,
): Promise<InfraBroker> {
  const at = (port: number): Endpoint[] => hosts.map(({ ip }) => ({ ip, port }));
  return openBroker(world, {
    tcp: at(config.infraMqttPort),
    webSocket: at(config.infraWebSocketPort),
    bounds: { ...BROKER_BOUNDS, clients: config.infraMaxClients },
    log,
  });
}

function startTurn(
  world: World,
  config: InfraConfig,
  hosts: readonly HostAddress[],
  turn: { readonly users: readonly TurnUser[]; readonly secret: string } | undefined,
  log: Log,
): Promise<TurnSockets> {
  const { infraRealm: realm, infraRelayPorts: ports, infraTlsCertificate, infraTlsKey } = config;
  const { infraTlsPort: port } = config;
  if ((infraTlsCertificate === undefined) !== (infraTlsKey === undefined)) {
    throw new P2pdError(
      "configuration",
      "TLS takes both infraTlsCertificate and infraTlsKey; only one is given",
    );
  }
  return openTurnSockets(world, {
    hosts,
    port: config.infraPort,
    otherPort: config.infraOtherPort,
    stun: config.infraServers.includes("stun"),
    answersPerSecond: config.infraAnswersPerSecond,
    log,
    ...(infraTlsCertificate === undefined || infraTlsKey === undefined
      ? {}
      : {
          tls: {
            port,
            certificatePem: readPem(infraTlsCertificate, "infraTlsCertificate"),
            privateKeyPem: readPem(infraTlsKey, "infraTlsKey"),
          },
        }),
    ...(turn === undefined
      ? {}
      : {
          turn: {
            realm,
            credentials: createCredentials({ realm, users: turn.users, secret: turn.secret }),
            limits: {
              allocations: config.infraMaxAllocations,
              perAccount: config.infraMaxPerUser,
              portFirst: ports.first,
              portLast: ports.last,
            },
            allowedPeers: config.infraAllowPeers,
          },
        }),
  });
}

/** The user that there is where none is configured; his password changes with the secret only. */
function firstUser(secret: string): TurnUser {
  const password = createHmac("sha256", secret).update("password of the user p2pd").digest("base64url");
  return { name: "p2pd", password: password.slice(0, 24) };
}

function readPem(path: string, key: string): string {
  try {
    const text = readFileSync(path, "utf8");
    if (text.includes("-----BEGIN ")) return text;
    throw new Error("it is no PEM file");
  } catch (thrown) {
    throw new P2pdError("configuration", `${key}: ${path} cannot be read: ${(thrown as Error).message}`, {
      key,
    });
  }
}

/** The addresses that are configured, or those of the default NICs. */
function hostsOf(config: InfraConfig, nics: readonly Nic[]): HostAddress[] {
  const ips = config.infraIps ?? defaultIps(nics);
  const { infraPublicIps: shown = ips } = config;
  if (ips.length === 0) {
    throw new P2pdError(
      "configuration",
      "no NIC has a default route; name addresses of this machine in infraIps",
    );
  }
  const pairs = ips.map((ip, i) => ({ ip, shown: shown[i] ?? ip }));
  if (shown.length !== ips.length || pairs.some((one) => familyOf(one.ip) !== familyOf(one.shown))) {
    throw new P2pdError(
      "configuration",
      `infraPublicIps has ${shown.join(",")}; expected one address for each of ${ips.join(",")}, of the same family`,
    );
  }
  for (const family of [4, 6] as const) {
    const ours = ips.filter((ip) => familyOf(ip) === family);
    if (
      ours.length > 2 ||
      new Set(ours).size !== ours.length ||
      ips.some((ip) => scopeOf(ip) === "unspecified")
    ) {
      throw new P2pdError(
        "configuration",
        `infraIps has ${ips.join(",")}; expected one or two different addresses of a family, and no wildcard`,
      );
    }
  }
  return pairs;
}

function defaultIps(nics: readonly Nic[]): string[] {
  return ([4, 6] as const).flatMap((family) => {
    const [nic] = nics
      .filter(({ up, metric }) => up && metric[family] !== undefined)
      .toSorted((a, b) => (a.metric[family] ?? 0) - (b.metric[family] ?? 0));
    const fit = nic?.addresses.find(
      (one) => one.family === family && one.temporary !== true && scopeOf(one.ip) !== "link-local",
    );
    return fit === undefined ? [] : [fit.ip];
  });
}

function onePerFamily(endpoints: readonly Endpoint[]): Endpoint[] {
  return ([4, 6] as const).flatMap((family) => endpoints.find(({ ip }) => familyOf(ip) === family) ?? []);
}
