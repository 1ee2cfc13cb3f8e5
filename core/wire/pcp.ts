/**
 * PCP (RFC 6887): octets and values of MAP and ANNOUNCE. IPv4 addresses travel as IPv4-mapped IPv6 ones. What is
 * asked and when is decided in `core/portmap/`.
 */
import { P2pdError } from "../errors.ts";
import { formatIp, parseIp } from "../ip.ts";

export const PCP_PORT = 5351;
export const PCP_NONCE_OCTETS = 12;

/** Section 7.1. */
const MAX_OCTETS = 1100;
const HEADER_OCTETS = 24;
const MAP_OCTETS = 36;
const OPCODES = { announce: 0, map: 1 } as const;

export interface PcpMapRequest {
  /** The client's own address, also the internal one of the mapping. */
  readonly clientIp: string;
  readonly nonce: Uint8Array;
  readonly transport: "tcp" | "udp";
  readonly internalPort: number;
  /** What is wished for; 0 where nothing is. */
  readonly externalPort: number;
  /** As the router gave it before; absent: any. */
  readonly externalIp?: string;
  /** 0 ends the mapping. */
  readonly lifetimeSeconds: number;
}

export type PcpAnswer = {
  /** 0 is success; see `pcpResult`. */
  readonly result: number;
  /** Of the mapping, or how long the error is expected to last. */
  readonly lifetimeSeconds: number;
  /** Seconds since the router's table was empty (section 8.5). */
  readonly epochSeconds: number;
} & (
  | { readonly kind: "announce" }
  | {
      readonly kind: "map";
      readonly nonce: Uint8Array;
      readonly transport: "tcp" | "udp" | "other";
      readonly internalPort: number;
      readonly externalPort: number;
      readonly externalIp: string;
    }
);

const RESULTS: readonly string[] = [
  "done",
  "the router speaks another version",
  "the router's owner has forbidden it",
  "the router could not read the request",
  "the router does not know the request",
  "the router does not know an option",
  "the router could not read an option",
  "the router has no connection or no public address itself",
  "the router's table is full",
  "the router does not map this protocol",
  "this machine has as many mappings as the router allows",
  "the router cannot give the port that was asked for",
  "another NAT stands between this machine and the router",
  "the router cannot exclude so many peers",
];

/** A result code in words (section 7.4). */
export function pcpResult(code: number): string {
  return RESULTS[code] ?? `the router answered with error ${code}`;
}

/** Section 14.1: asks for nothing but the epoch. */
export function encodePcpAnnounce(clientIp: string): Uint8Array {
  return header(OPCODES.announce, clientIp, 0, HEADER_OCTETS);
}

/**
 * Section 11.1, after the header of section 7.1:
 *
 *     | version 2 | R, opcode | reserved      | lifetime | client address |
 *     | nonce, 12 octets | protocol | reserved, 3 octets | internal port | external port | external address |
 */
export function encodePcpMap(request: PcpMapRequest): Uint8Array {
  if (request.nonce.length !== PCP_NONCE_OCTETS) {
    throw new P2pdError(
      "bad-argument",
      `a PCP nonce has ${PCP_NONCE_OCTETS} octets, not ${request.nonce.length}`,
    );
  }
  const bytes = header(OPCODES.map, request.clientIp, request.lifetimeSeconds, HEADER_OCTETS + MAP_OCTETS);
  const view = new DataView(bytes.buffer);
  bytes.set(request.nonce, 24);
  bytes[36] = request.transport === "tcp" ? 6 : 17;
  view.setUint16(40, request.internalPort);
  view.setUint16(42, request.externalPort);
  const any = request.clientIp.includes(":") ? "::" : "0.0.0.0";
  bytes.set(sixteen(request.externalIp ?? any), 44);
  return bytes;
}

/** Reads an answer; undefined if it is none, or of an opcode that nobody here asks with. Options are passed over. */
export function decodePcpAnswer(bytes: Uint8Array): PcpAnswer | undefined {
  if (bytes.length < HEADER_OCTETS || bytes.length > MAX_OCTETS || bytes.length % 4 !== 0) return undefined;
  if (bytes[0] !== 2) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const head = {
    result: bytes[3] as number,
    lifetimeSeconds: view.getUint32(4),
    epochSeconds: view.getUint32(8),
  };
  if (bytes[1] === (0x80 | OPCODES.announce)) return { ...head, kind: "announce" };
  if (bytes[1] !== (0x80 | OPCODES.map) || bytes.length < HEADER_OCTETS + MAP_OCTETS) return undefined;
  const protocol = bytes[36];
  return {
    ...head,
    kind: "map",
    nonce: bytes.slice(24, 36),
    transport: protocol === 6 ? "tcp" : protocol === 17 ? "udp" : "other",
    internalPort: view.getUint16(40),
    externalPort: view.getUint16(42),
    externalIp: formatIp(bytes.subarray(44, 60)),
  };
}

function header(opcode: number, clientIp: string, lifetimeSeconds: number, octets: number): Uint8Array {
  const bytes = new Uint8Array(octets);
  bytes[0] = 2;
  bytes[1] = opcode;
  new DataView(bytes.buffer).setUint32(4, lifetimeSeconds);
  bytes.set(sixteen(clientIp), 8);
  return bytes;
}

/** IPv4 as ::ffff:0:0/96 (section 5). */
function sixteen(ip: string): Uint8Array {
  const octets = parseIp(ip);
  if (octets === undefined) throw new P2pdError("bad-argument", `"${ip}" is no IP address`);
  if (octets.length === 16) return octets;
  return Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, ...octets);
}
