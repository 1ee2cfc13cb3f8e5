/** What `p2pd infra` is told: plain data, already checked. Where it comes from is the loader's business. */
import type { IpPrefix } from "./peer-policy.ts";
import type { TurnUser } from "./turn-credentials.ts";

export type InfraServer = "broker" | "stun" | "turn";

export interface InfraConfig {
  readonly infraServers: readonly InfraServer[];
  /** Addresses to listen on; absent: the default NIC's, one of each family. */
  readonly infraIps?: readonly string[];
  /** How clients see them, in the same order; absent: as they are. */
  readonly infraPublicIps?: readonly string[];
  readonly infraPort: number;
  readonly infraOtherPort: number;
  readonly infraTlsPort: number;
  /** Paths of PEM files; absent: no TLS. */
  readonly infraTlsCertificate?: string;
  readonly infraTlsKey?: string;
  readonly infraMqttPort: number;
  readonly infraWebSocketPort: number;
  readonly infraRealm: string;
  /** Empty: one user whose password is made from the secret. */
  readonly infraUsers: readonly TurnUser[];
  /** Absent: one is made and kept in the data directory. */
  readonly infraSecret?: string;
  readonly infraRelayPorts: { readonly first: number; readonly last: number };
  readonly infraAllowPeers: readonly IpPrefix[];
  readonly infraMaxAllocations: number;
  readonly infraMaxPerUser: number;
  readonly infraMaxClients: number;
  /** 0: any number. */
  readonly infraAnswersPerSecond: number;
  readonly infraStatusHost: string;
  readonly infraStatusPort: number;
}
