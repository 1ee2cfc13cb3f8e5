/**
 * Which addresses a relay may send to. A relay sits inside its operator's network: whatever is not a public address of
 * somebody else is refused, lest strangers reach through it what the firewall keeps from them (RFC 8656 section 21).
 */
import { canonicalIp, familyOf, formatIp, inPrefix, parseIp, scopeOf } from "../ip.ts";

/** `relays`: only ports of this server's own relays, so that two of its clients can meet. */
export type PeerVerdict = "allowed" | "relays" | "denied";

export interface IpPrefix {
  readonly ip: string;
  readonly prefixLength: number;
}

export interface PeerPolicyOptions {
  /** Ranges that may be relayed to although they would be refused. */
  readonly allowed: readonly IpPrefix[];
  /** Addresses that this server's relays have. */
  readonly relayIps: readonly string[];
  /** Whether an address is one of this machine. */
  readonly isOwn: (ip: string) => boolean;
}

/** Public by their scope and nobody's all the same: IANA's special-purpose registries. */
const SPECIAL: readonly (readonly [network: string, prefixLength: number])[] = [
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.88.99.0", 24],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["::", 96],
  ["::ffff:0:0:0", 96],
  ["64:ff9b:1::", 48],
  ["100::", 64],
  ["2001::", 23],
  ["2001:db8::", 32],
  ["3fff::", 20],
  ["5f00::", 16],
  ["fec0::", 10],
];

/** What a peer's address, in canonical text, is to a relay. */
export function createPeerPolicy(options: PeerPolicyOptions): (ip: string) => PeerVerdict {
  const { allowed, relayIps, isOwn } = options;
  const judge = (ip: string): PeerVerdict => {
    if (allowed.some((range) => inPrefix(ip, range.ip, range.prefixLength))) return "allowed";
    if (relayIps.includes(ip)) return "relays";
    if (isOwn(ip) || scopeOf(ip) !== "public") return "denied";
    if (SPECIAL.some(([network, prefixLength]) => inPrefix(ip, network, prefixLength))) return "denied";
    const inner = embeddedIp4(ip);
    // What leads to an IPv4 address is as good as that; a translator would not lead back to us as a relay.
    return inner !== undefined && judge(inner) !== "allowed" ? "denied" : "allowed";
  };
  return judge;
}

/** The IPv4 address that a translator (RFC 6052) or a 6to4 router (RFC 3056) would send to. */
function embeddedIp4(ip: string): string | undefined {
  if (familyOf(ip) === 4) return undefined;
  const octets = parseIp(ip);
  if (octets === undefined) return undefined;
  if (inPrefix(ip, "64:ff9b::", 96)) return formatIp(octets.subarray(12));
  if (inPrefix(ip, "2002::", 16)) return formatIp(octets.subarray(2, 6));
  return undefined;
}

/** Reads `10.0.0.0/8`, or an address alone; undefined if it is neither. */
export function parsePrefix(text: string): IpPrefix | undefined {
  const [address = "", length, rest] = text.split("/");
  const ip = canonicalIp(address);
  if (ip === undefined || rest !== undefined) return undefined;
  const width = familyOf(ip) === 4 ? 32 : 128;
  const prefixLength = length === undefined ? width : /^[0-9]{1,3}$/.test(length) ? Number(length) : -1;
  return prefixLength < 0 || prefixLength > width ? undefined : { ip, prefixLength };
}
