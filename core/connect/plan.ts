/**
 * Where to knock for a direct connect, and in which order: a pure decision from the peer's address and what is
 * known of our own networks. It opens nothing.
 */
import { type Endpoint, type Family, familyOf, inPrefix, sameEndpoint, scopeOf } from "../ip.ts";
import type { Nic } from "../net/world.ts";
import type { Address, AddressNic } from "../wire/address.ts";

/** An address line comes from others: it must not make us knock at more doors than this. */
export const MAX_DIRECT_ENDPOINTS = 16;
/** Head start of an endpoint on the internet before the next one (RFC 8305 section 5). */
const FAR_LEAD_MS = 100;
/** Of one in our own network, which answers in a few milliseconds or not at all. */
const NEAR_LEAD_MS = 40;
/** Of one on this machine, where whatever is closed refuses at once and a slow answer only means a busy machine. */
const SAME_MACHINE_LEAD_MS = 2000;

/** A guess should not move the counters of a router that is punched meanwhile. */
const GUESS_AFTER_MS = 500;

/**
 * Where the peer's line says that its NAT lets nobody in unasked there is little hope, and the handshake's computing, some
 * milliseconds, should not hold up the offer of a punch.
 */
const SHUT_AFTER_MS = 20;
/** One endpoint does not use up the time of all; where there is little hope the second packet is the last one. */
const PATIENCE_MS = 8000;
const SLIM_PATIENCE_MS = 3000;

const SAME_MACHINE = "this machine";

export interface OwnNetworks {
  readonly machine: string;
  readonly nics: readonly Nic[];
  /** Our external addresses, as far as they are known. */
  readonly externals: readonly string[];
  /** Behind a NAT whose next port depends on the last packet of this host: nothing may be sent once a punch has begun. */
  readonly chained?: boolean;
}

export interface DirectCandidate {
  readonly transport: "tcp" | "udp";
  readonly endpoint: Endpoint;
  /** Why it is tried: "this machine", "same network", … */
  readonly kind: string;
  /** On this machine or in a network of ours, as far as that can be told. */
  readonly near: boolean;
  /** How long it has the field before the next candidate starts. */
  readonly leadMs: number;
  /** It does not start sooner than this after the first one. */
  readonly afterMs: number;
  /** How long it is waited for. */
  readonly patienceMs: number;
}

interface Place {
  readonly endpoint: Endpoint;
  readonly kind: string;
  readonly near: boolean;
  readonly afterMs: number;
  readonly patienceMs: number;
}

/**
 * Loopback for a peer on this machine, then addresses of networks that we share, then external ones, IPv6 and IPv4
 * by turns, then whatever a VPN may have a route to. Near, TCP begins, being the fastest there; far, UDP and TCP start
 * together, as QUIC needs a round trip less and TCP passes more firewalls.
 */
export function planDirect(
  peer: Address,
  own: OwnNetworks,
  transports: readonly ("tcp" | "udp")[],
): readonly DirectCandidate[] {
  return placesOf(peer, own).flatMap(({ endpoint, kind, near, ...waits }): DirectCandidate[] => {
    const isHere = kind === SAME_MACHINE;
    const leadMs = isHere ? SAME_MACHINE_LEAD_MS : near ? NEAR_LEAD_MS : FAR_LEAD_MS;
    const order = near ? (["tcp", "udp"] as const) : (["udp", "tcp"] as const);
    // Loopback loses nothing, so that QUIC there would only cost more.
    const wanted =
      isHere && transports.includes("tcp")
        ? (["tcp"] as const)
        : order.filter((transport) => transports.includes(transport));
    return wanted.map((transport, i) => {
      const together = !near && i < wanted.length - 1;
      return { transport, endpoint, kind, near, leadMs: together ? 0 : leadMs, ...waits };
    });
  });
}

function placesOf(peer: Address, own: OwnNetworks): readonly Place[] {
  const sameMachine = peer.machine === own.machine;
  const here = own.nics.filter(({ up }) => up).flatMap(({ addresses }) => addresses);
  const places: Place[] = [];
  const add = (
    ip: string,
    port: number,
    kind: string,
    near: boolean,
    afterMs = 0,
    patienceMs = PATIENCE_MS,
  ): void => {
    const scope = scopeOf(ip);
    if (scope === "unspecified" || scope === "multicast" || scope === "link-local") return;
    if (scope === "loopback" && !sameMachine) return;
    const endpoint: Endpoint = { ip, port };
    if (!places.some((known) => sameEndpoint(known.endpoint, endpoint)))
      places.push({ endpoint, kind, near, afterMs, patienceMs });
  };
  if (sameMachine) {
    for (const { family, port } of peer.nics)
      add(family === 4 ? "127.0.0.1" : "::1", port, SAME_MACHINE, true);
  }
  const behindSame = ({ external }: AddressNic): boolean =>
    external !== undefined && own.externals.includes(external);
  // Two homes often have the same private network; who is seen from elsewhere is not in ours.
  const isElsewhere = (nic: AddressNic): boolean =>
    scopeOf(nic.address) !== "public" &&
    nic.external !== undefined &&
    knowsOwn(own.externals, nic.family) &&
    !behindSame(nic);
  const onSubnet = ({ address }: AddressNic): boolean =>
    here.some((mine) => inPrefix(address, mine.ip, mine.prefixLength));
  for (const nic of peer.nics.filter((near) => onSubnet(near) && !isElsewhere(near)))
    add(nic.address, nic.port, "same network", true);
  // The entry of a forwarded port has nothing but the external address, and that is no way within the network.
  for (const nic of peer.nics.filter((near) => behindSame(near) && near.address !== near.external))
    add(nic.address, nic.port, "behind the same external address", true);
  for (const nic of byTurns(peer.nics.filter(({ family }) => hasFamily(family, own.nics)))) {
    const isShut = nic.nat !== "open-internet" && nic.nat !== "unknown";
    const afterMs = isShut && own.chained !== true ? SHUT_AFTER_MS : 0;
    const patienceMs = isShut ? SLIM_PATIENCE_MS : PATIENCE_MS;
    if (nic.external !== undefined)
      add(nic.external, nic.port, "external address", false, afterMs, patienceMs);
    else if (scopeOf(nic.address) === "public")
      add(nic.address, nic.port, "public address", false, afterMs, patienceMs);
  }
  // A private address of a network we are not in may still have a route, over a VPN.
  for (const { address, external, port, family } of peer.nics) {
    if (!hasFamily(family, own.nics)) continue;
    const [afterMs, patienceMs] =
      external === undefined ? [0, PATIENCE_MS] : [GUESS_AFTER_MS, SLIM_PATIENCE_MS];
    add(address, port, "NIC address", false, afterMs, patienceMs);
  }
  return places.slice(0, MAX_DIRECT_ENDPOINTS);
}

function knowsOwn(externals: readonly string[], family: Family): boolean {
  return externals.some((ip) => familyOf(ip) === family);
}

/** IPv6 and IPv4 in turns, each in its own order (RFC 8305 section 4). */
function byTurns(nics: readonly AddressNic[]): readonly AddressNic[] {
  const six = nics.filter(({ family }) => family === 6);
  const four = nics.filter(({ family }) => family === 4);
  return Array.from({ length: Math.max(six.length, four.length) }, (_, i) => [six[i], four[i]])
    .flat()
    .filter((nic) => nic !== undefined);
}

function hasFamily(family: Family, nics: readonly Nic[]): boolean {
  return nics.some(
    ({ up, kind, addresses }) =>
      up &&
      kind !== "loopback" &&
      addresses.some((own) => own.family === family && scopeOf(own.ip) !== "link-local"),
  );
}
