/**
 * IP addresses as values: parsing, canonical text (RFC 5952 for IPv6), prefixes, and the special ranges
 * that decide which addresses a peer could reach. Knows nothing of sockets or NICs.
 */
import { P2pdError } from "./errors.ts";

export type Family = 4 | 6;

/** Where a datagram comes from or a connection goes to. `ip` is canonical text, without a zone. */
export interface Endpoint {
  readonly ip: string;
  readonly port: number;
}

/** The 4 or 16 octets of an address, or undefined if `text` is none. A zone (`%eth0`) is refused. */
export function parseIp(text: string): Uint8Array | undefined {
  return text.includes(":") ? parseIp6(text) : parseIp4(text);
}

const DOT = 46;
const ZERO = 48;

/** Digit by digit: every answer of a server takes this way. */
function parseIp4(text: string): Uint8Array | undefined {
  const octets = new Uint8Array(4);
  let part = 0;
  let value = -1; // of the part; -1 before its first digit
  for (let i = 0; i <= text.length; i++) {
    const code = i === text.length ? DOT : text.charCodeAt(i);
    if (code === DOT) {
      if (value < 0 || part === 4) return undefined;
      octets[part++] = value;
      value = -1;
      continue;
    }
    const digit = code - ZERO;
    if (digit < 0 || digit > 9 || value === 0) return undefined;
    value = (value < 0 ? 0 : 10 * value) + digit;
    if (value > 255) return undefined;
  }
  return part === 4 ? octets : undefined;
}

function parseIp6(text: string): Uint8Array | undefined {
  if (text.length > 45) return undefined;
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0] as string, halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1] as string, true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const groups = [...head, ...Array.from({ length: missing }, () => 0), ...tail];
  const octets = new Uint8Array(16);
  groups.forEach((group, i) => {
    octets[2 * i] = group >> 8;
    octets[2 * i + 1] = group & 255;
  });
  return octets;
}

function parseGroups(text: string, mayEndInIp4: boolean): number[] | undefined {
  if (text === "") return [];
  const groups: number[] = [];
  const parts = text.split(":");
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i] as string;
    if (part.includes(".")) {
      const embedded = mayEndInIp4 && i === parts.length - 1 ? parseIp4(part) : undefined;
      if (embedded === undefined) return undefined;
      const [a, b, c, d] = embedded as unknown as [number, number, number, number];
      groups.push((a << 8) | b, (c << 8) | d);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return undefined;
      groups.push(Number.parseInt(part, 16));
    }
  }
  return groups;
}

/** Canonical text of 4 or 16 octets; IPv4-mapped IPv6 addresses become plain IPv4. */
export function formatIp(octets: Uint8Array): string {
  if (octets.length === 4) return octets.join(".");
  if (octets.length !== 16)
    throw new P2pdError("bad-argument", `an IP address has 4 or 16 octets, not ${octets.length}`);
  if (isMapped(octets)) return octets.subarray(12).join(".");
  const groups = Array.from(
    { length: 8 },
    (_, i) => ((octets[2 * i] as number) << 8) | (octets[2 * i + 1] as number),
  );
  let bestStart = -1;
  let bestLength = 1;
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > bestLength) [bestStart, bestLength] = [start, length];
  }
  const hex = groups.map((group) => group.toString(16));
  if (bestStart < 0) return hex.join(":");
  return `${hex.slice(0, bestStart).join(":")}::${hex.slice(bestStart + bestLength).join(":")}`;
}

function isMapped(octets: Uint8Array): boolean {
  return octets.subarray(0, 10).every((octet) => octet === 0) && octets[10] === 255 && octets[11] === 255;
}

/** Canonical text of an address given in any spelling; undefined if it is none. */
export function canonicalIp(text: string): string | undefined {
  const octets = parseIp(text);
  return octets === undefined ? undefined : formatIp(octets);
}

/** Family of canonical address text. */
export function familyOf(ip: string): Family {
  return ip.includes(":") ? 6 : 4;
}

/** `192.0.2.1:80` or `[2001:db8::1]:80`. */
export function formatEndpoint({ ip, port }: Endpoint): string {
  return familyOf(ip) === 6 ? `[${ip}]:${port}` : `${ip}:${port}`;
}

/** Reads `192.0.2.1:80` or `[2001:db8::1]:80`; undefined if it is neither. */
export function parseEndpoint(text: string): Endpoint | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})$/.exec(text);
  if (match === null) return undefined;
  const ip = canonicalIp((match[1] ?? match[2]) as string);
  const port = Number(match[3]);
  return ip === undefined || port > 65535 ? undefined : { ip, port };
}

export function sameEndpoint(a: Endpoint, b: Endpoint): boolean {
  return a.port === b.port && a.ip === b.ip;
}

/** Whether `ip` lies in `network/prefixLength`; addresses of different families never do. */
export function inPrefix(ip: string, network: string, prefixLength: number): boolean {
  const a = parseIp(ip);
  const b = parseIp(network);
  if (a === undefined || b === undefined || a.length !== b.length) return false;
  const whole = prefixLength >> 3;
  for (let i = 0; i < whole; i++) if (a[i] !== b[i]) return false;
  const rest = prefixLength & 7;
  if (rest === 0) return true;
  const mask = (0xff << (8 - rest)) & 0xff;
  return ((a[whole] as number) & mask) === ((b[whole] as number) & mask);
}

export type AddressScope =
  | "unspecified"
  | "loopback"
  | "link-local"
  | "private"
  | "shared"
  | "multicast"
  | "public";

const RANGES: readonly (readonly [network: string, prefixLength: number, scope: AddressScope])[] = [
  ["0.0.0.0", 8, "unspecified"],
  ["127.0.0.0", 8, "loopback"],
  ["169.254.0.0", 16, "link-local"],
  ["10.0.0.0", 8, "private"],
  ["172.16.0.0", 12, "private"],
  ["192.168.0.0", 16, "private"],
  ["100.64.0.0", 10, "shared"], // RFC 6598, between carrier NATs and homes
  ["224.0.0.0", 3, "multicast"], // and the reserved class E, with broadcast
  ["::", 128, "unspecified"],
  ["::1", 128, "loopback"],
  ["fe80::", 10, "link-local"],
  ["fc00::", 7, "private"],
  ["ff00::", 8, "multicast"],
];

/** How far an address reaches (RFC 6890). */
export function scopeOf(ip: string): AddressScope {
  for (const [network, prefixLength, scope] of RANGES) if (inPrefix(ip, network, prefixLength)) return scope;
  return "public";
}
