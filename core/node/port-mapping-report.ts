/** What there is to say of forwarded ports: the values that the API shows, and the same in words. */
import type { Endpoint, Family } from "../ip.ts";
import { formatEndpoint } from "../ip.ts";
import type { Protocol, Transport } from "../portmap/mapping.ts";

/** One forwarded port or pin hole. */
export interface ForwardedPort {
  readonly protocol: Protocol;
  readonly transport: Transport;
  readonly internal: Endpoint;
  /** `ip` is absent where the router does not tell its address. */
  readonly external: { readonly ip?: string; readonly port: number };
  /** 0: until it is deleted or the router restarts. */
  readonly lifetimeSeconds: number;
}

/** One address of one NIC, and what its router was asked for. */
export interface PortMappingPlace {
  readonly nic: string;
  readonly family: Family;
  readonly ip: string;
  readonly gateway: string;
  readonly state: "searching" | "mapped" | "none";
  readonly mappings: readonly ForwardedPort[];
  /** The router's own external address. */
  readonly externalIp?: string;
  /** Whether another NAT stands above the router; absent where that cannot be told. */
  readonly doubleNat?: boolean;
  /**
   * `verified`: a peer has connected from the internet; `likely`: the router's address is the one that servers see;
   * `no`: another NAT stands above; `unknown`; `none`: nothing is forwarded.
   */
  readonly reachable: "verified" | "likely" | "no" | "unknown" | "none";
  readonly why: string;
  /** How each protocol fared in the last search. */
  readonly outcomes: Readonly<Partial<Record<Protocol, string>>>;
  /** Milliseconds from the start to the first mapping. */
  readonly mappedAfterMs?: number;
  readonly renewsInMs?: number;
}

export interface PortMappingReport {
  readonly state: "on" | "off";
  readonly places: readonly PortMappingPlace[];
  readonly packets: {
    /** Datagrams. */
    readonly sent: number;
    /** HTTP requests, each a TCP connection of its own. */
    readonly requests: number;
    readonly answered: number;
    /** Answers from the wrong address, and ones that cannot be read. */
    readonly ignored: number;
  };
}

const NAMES: Readonly<Record<Protocol, string>> = { pcp: "PCP", "nat-pmp": "NAT-PMP", upnp: "UPnP" };

/** One sentence for each place; for people, and for the advice of `p2pd nat`. */
export function describePortMapping({ state, places }: PortMappingReport): readonly string[] {
  if (state === "off") return ["port mapping is switched off (portMapping)"];
  if (places.length === 0) return ["no NIC has a router to ask for a forwarded port"];
  return places.map(describePlace);
}

function describePlace(place: PortMappingPlace): string {
  const { nic, family, state, gateway, mappings, why, reachable } = place;
  const head = `${nic} IPv${family}:`;
  if (state === "searching" && mappings.length === 0) return `${head} asking ${gateway} for a forwarded port`;
  const above = place.doubleNat === true ? `; double NAT: ${why}` : "";
  const [first] = mappings;
  if (first === undefined) return `${head} ${gateway} forwards no port${above}`;
  const ports = mappings.map(({ transport, external }) => {
    const at =
      external.ip === undefined
        ? `port ${external.port}`
        : formatEndpoint({ ip: external.ip, port: external.port });
    return `${transport.toUpperCase()} ${at}`;
  });
  const verdict = {
    verified: "; a peer has connected by it",
    likely: "",
    unknown: `; ${why}`,
    no: `; not reachable from the internet${above}`,
    none: "",
  }[reachable];
  const what = family === 6 ? "lets in" : "forwards";
  return `${head} ${gateway} ${what} ${ports.join(" and ")} by ${NAMES[first.protocol]}${verdict}`;
}
