/**
 * Whether a relay should begin at once: a pure decision from our own NATs and what the peer's address tells of its own.
 * Wrong is cheap either way, as the search for a direct path goes on.
 */
import { familyOf, inPrefix } from "../ip.ts";
import { translates } from "../nat/gather-needs.ts";
import type { NatKind } from "../nat/nat-kind.ts";
import type { Address, AddressNic } from "../wire/address.ts";
import type { PunchPlace } from "./punch-pairs.ts";

/** One side, as far as a path to or from it depends on it. */
interface Side {
  /** Its external port towards a peer can be foreseen. */
  readonly isForeseen: boolean;
  /** Its external port is one for all peers. */
  readonly isOne: boolean;
  /** Whoever is at an address that was sent to may answer from another port. */
  readonly isLoose: boolean;
}

/**
 * Why a direct path has little chance or takes a long search; undefined: it may well come soon, or too little is known.
 * Where UDP is blocked that says nothing of TCP.
 */
export function doubtOf(places: readonly PunchPlace[], peer: Address): string | undefined {
  const pairs = places.flatMap((place) =>
    peer.nics.filter(({ family }) => family === familyOf(place.ip)).map((nic) => ({ place, nic })),
  );
  const doubts = pairs.map(({ place, nic }) => doubtOfPair(place, nic));
  return doubts.every((doubt) => doubt !== undefined) ? doubts[0] : undefined;
}

function doubtOfPair({ ip, prefixLength, profile }: PunchPlace, nic: AddressNic): string | undefined {
  const isNear = inPrefix(nic.address, ip, prefixLength) || nic.external === profile?.external;
  const [own, theirs] = [profile === undefined ? undefined : sideOf(profile.udp), sideOfNic(nic)];
  if (isNear || own === undefined || theirs === undefined) return undefined;
  const both = [own, theirs];
  if (both.every(({ isForeseen }) => isForeseen)) return undefined;
  if (both.some(({ isForeseen, isLoose }) => isForeseen && isLoose)) return undefined;
  const found = both.find(({ isForeseen }) => isForeseen);
  if (found?.isOne === true) return "one side's ports are random, which takes a long search";
  return found === undefined
    ? "both sides get a random port for each destination"
    : "one side gets a random port for each destination and the other a new one";
}

/** Undefined: it is reachable, or nothing can be said. */
function sideOf(kind: NatKind): Side | undefined {
  if (kind.type === "blocked" || kind.type === "open-internet" || kind.type === "full-cone") return undefined;
  const isOne = !translates(kind) || kind.mapping === "endpoint-independent";
  return {
    isOne,
    isForeseen: isOne || kind.delta.type !== "random",
    isLoose: kind.filtering === "address-dependent" || kind.filtering === "endpoint-independent",
  };
}

function sideOfNic({ nat, delta }: AddressNic): Side | undefined {
  switch (nat) {
    case "symmetric-firewall":
    case "port-restricted":
      return { isOne: true, isForeseen: true, isLoose: false };
    case "restricted":
      return { isOne: true, isForeseen: true, isLoose: true };
    case "symmetric":
      return delta === "unknown"
        ? undefined
        : { isOne: false, isForeseen: delta !== "random", isLoose: false };
    default:
      return undefined;
  }
}
