/**
 * What a node is told when it starts: plain data, already checked. Where it comes from (files, environment,
 * flags) and what its defaults are is the loader's business.
 */
import type { RelayPolicy, Strategy } from "./node-api.ts";

/** A server by host name or address (IPv6 without brackets) and port. */
export interface ServerAddress {
  readonly host: string;
  readonly port: number;
}

/** A TURN server with the credentials it was given to us with. */
export interface TurnServer extends ServerAddress {
  readonly transport: "udp" | "tcp" | "tls";
  readonly username: string;
  readonly password: string;
}

/** A service that is offered from the start: a local TCP port under a name. */
export interface ServiceConfig {
  readonly name: string;
  /** `127.0.0.1:22` or `[::1]:22`. */
  readonly to: string;
  /** Node ids that may use it; absent: every peer. */
  readonly allow?: readonly string[];
}

export interface NodeConfig {
  /** Directory of the node key; created with mode 0700 if it is missing. One node per directory. */
  readonly dataDir: string;
  /** TCP and UDP port to listen on; 0: any; absent: derived from the machine id, next free. */
  readonly listenPort?: number;
  /** Names of the NICs to use; absent: all that have a route. */
  readonly interfaces?: readonly string[];
  readonly stunServers: readonly ServerAddress[];
  /** URLs, `mqtt://broker.example.org:1883`. */
  readonly mqttBrokers: readonly string[];
  readonly turnServers: readonly TurnServer[];
  readonly ntpServers: readonly ServerAddress[];
  readonly portMapping: boolean;
  readonly strategies: readonly Strategy[];
  /** What punches of one open may cost: datagrams, SYNs and STUN requests; UDP sockets at once; milliseconds. */
  readonly punchMaxPackets?: number;
  readonly punchMaxSockets?: number;
  readonly punchMaxMs?: number;
  readonly relay: RelayPolicy;
  /** When the relay begins beside a search that is still going on. */
  readonly relayAfterMs: number;
  /** How long another path is sought for a connection that has lost its own; 0: not at all. */
  readonly resumeForMs: number;
  readonly services?: readonly ServiceConfig[];
}
