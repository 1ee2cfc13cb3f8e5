/**
 * From which of our NIC addresses to which of the peer's a punch is tried, and which addresses a peer may have us send
 * to: pure decisions.
 */
import { type Family, familyOf, inPrefix, scopeOf } from "../ip.ts";
import { gatherNeeds } from "../nat/gather-needs.ts";
import type { NatProfile } from "../nat/nat-kind.ts";
import type { Address, AddressNic } from "../wire/address.ts";
import { PUNCH_MAX_PAIRS, type SignalPunchPair } from "../wire/signal-punch.ts";

/** A NIC address of ours that a punch may leave from. */
export interface PunchPlace {
  readonly ip: string;
  readonly prefixLength: number;
  /** Name of the NIC, where the address alone does not lead packets out of it. */
  readonly device?: string | undefined;
  /** Absent while nothing is known: such a place serves for peers in its own network only. */
  readonly profile?: NatProfile | undefined;
}

export interface PunchPair {
  readonly place: PunchPlace;
  /** The peer's NIC address. */
  readonly to: string;
  /** Both are in one network: its routers do nothing between them. */
  readonly near: boolean;
}

/** At most `PUNCH_MAX_PAIRS`, families by turns, in the order of the places and of the peer's NICs. */
export function choosePairs(places: readonly PunchPlace[], peer: Address): readonly PunchPair[] {
  const of = (family: Family): readonly PunchPair[] =>
    peer.nics
      .filter((nic) => nic.family === family && !isForwarded(nic, peer))
      .flatMap(({ address, external }) =>
        places
          .filter(({ ip }) => familyOf(ip) === family)
          .map((place) => ({ place, to: address, near: isNear(place, address, external) })),
      );
  const [four, six] = [of(4), of(6)];
  return Array.from({ length: Math.max(four.length, six.length) }, (_, i) => [four[i], six[i]])
    .flat()
    .filter((pair) => pair !== undefined)
    .filter(({ near, place }) => near || place.profile !== undefined)
    .slice(0, PUNCH_MAX_PAIRS);
}

/** The first of these, and of the others as many as have room in `sockets` together; undefined in place of the rest. */
export function withinSockets<T extends Pick<PunchPair, "place" | "near">>(
  pairs: readonly (T | undefined)[],
  sockets: number,
): readonly (T | undefined)[] {
  let used = 0;
  return pairs.map((pair) => {
    if (pair === undefined) return undefined;
    const { udp } = pair.place.profile ?? {};
    const needs = pair.near || udp === undefined ? undefined : gatherNeeds(udp);
    const count = needs === undefined ? 1 : needs.samples + needs.spare;
    if (used > 0 && used + count > sockets) return undefined;
    used += count;
    return pair;
  });
}

/** The entry of a port that a router forwards names no address of the peer's own: there is nothing to punch from. */
function isForwarded({ index, family, address, external }: AddressNic, peer: Address): boolean {
  const isBehindIt = (nic: AddressNic): boolean =>
    nic.index === index && nic.family === family && nic.address !== nic.external;
  return family === 4 && address === external && peer.nics.some(isBehindIt);
}

function isNear(place: PunchPlace, address: string, external: string | undefined): boolean {
  if (!inPrefix(address, place.ip, place.prefixLength)) return false;
  const own = place.profile?.external;
  return scopeOf(address) === "public" || external === undefined || own === undefined || external === own;
}

/** The place of ours that a peer means with a pair of its offer; undefined: none of that family. */
export function placeFor(places: readonly PunchPlace[], pair: SignalPunchPair): PunchPlace | undefined {
  const ip = pair.udp?.ip ?? pair.tcp?.ip;
  const named = places.find((place) => place.ip === pair.to);
  if (named !== undefined || ip === undefined) return named;
  return places.find((place) => familyOf(place.ip) === familyOf(ip));
}

/**
 * Why nothing is sent to an address that a peer names as its own: it must be of the peer's address line, and such that
 * it can be meant from here. Undefined: it may be sent to.
 */
export function refuseTarget(
  ip: string,
  near: boolean,
  place: PunchPlace,
  peer: Address,
): string | undefined {
  const scope = scopeOf(ip);
  if (familyOf(ip) !== familyOf(place.ip)) return `${ip} is of another family than ${place.ip}`;
  if (scope === "loopback" || scope === "multicast" || scope === "unspecified" || scope === "link-local")
    return `${ip} is nobody's address outside of a machine`;
  const isOwn = peer.nics.some(({ address, external }) => ip === external || ip === address);
  if (!isOwn) return `${ip} is not in the peer's address`;
  if (near && !inPrefix(ip, place.ip, place.prefixLength))
    return `${ip} is not in the network of ${place.ip}`;
  return undefined;
}
