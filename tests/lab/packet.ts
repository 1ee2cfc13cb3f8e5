/**
 * IP packets as octets: where the fields are, how a checksum follows a change (RFC 1624), and the two answers
 * a router gives to a SYN it does not admit. What is done with packets is decided in `packet-router.ts`.
 */
import { formatIp, parseIp } from "../../core/ip.ts";
import type { TcpFlags } from "../nat/session.ts";

export const ICMP = 1;
export const TCP = 6;
export const UDP = 17;
export const ICMP6 = 58;

/** Where things are in one packet. */
export interface PacketLayout {
  readonly version: 4 | 6;
  readonly protocol: number;
  /** Offset of the transport header. */
  readonly transport: number;
  /** Octets of the packet that IP counts. */
  readonly length: number;
  /** Fragment offset in octets; 0 for whole packets and first fragments. */
  readonly fragmentOffset: number;
  readonly moreFragments: boolean;
}

export function get16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

export function set16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8;
  bytes[at + 1] = value & 0xff;
}

/**
 * The layout of a packet, or undefined if it is no sound IP packet. `quoted`: the packet is the beginning of
 * one inside an ICMP error, so its octets may end early.
 */
export function layoutOf(bytes: Uint8Array, quoted = false): PacketLayout | undefined {
  const version = (bytes[0] ?? 0) >> 4;
  if (version === 4) {
    if (bytes.length < 20) return undefined;
    const transport = ((bytes[0] as number) & 15) * 4;
    const length = get16(bytes, 2);
    if (transport < 20 || length < transport || bytes.length < (quoted ? transport : length))
      return undefined;
    const fragment = get16(bytes, 6);
    return {
      version,
      protocol: bytes[9] as number,
      transport,
      length,
      fragmentOffset: (fragment & 0x1fff) * 8,
      moreFragments: (fragment & 0x2000) !== 0,
    };
  }
  if (version !== 6 || bytes.length < 40) return undefined;
  const length = 40 + get16(bytes, 4);
  if (!quoted && bytes.length < length) return undefined;
  const protocol = bytes[6] as number;
  if (protocol !== 44)
    return { version, protocol, transport: 40, length, fragmentOffset: 0, moreFragments: false };
  if (bytes.length < 48) return undefined;
  const fragment = get16(bytes, 42);
  return {
    version,
    protocol: bytes[40] as number,
    transport: 48,
    length,
    fragmentOffset: fragment & 0xfff8,
    moreFragments: (fragment & 1) !== 0,
  };
}

/** Octets of a transport header that must be there to read its ports, flags or identifier. */
export function transportMinimum(protocol: number): number {
  return protocol === TCP ? 20 : 8;
}

export function tcpFlagsAt(bytes: Uint8Array, transport: number): TcpFlags {
  const flags = bytes[transport + 13] as number;
  return { fin: (flags & 1) !== 0, syn: (flags & 2) !== 0, rst: (flags & 4) !== 0, ack: (flags & 16) !== 0 };
}

export function sourceIp(bytes: Uint8Array, version: 4 | 6): string {
  return version === 4 ? ipText(bytes, 12, 4) : ipText(bytes, 8, 16);
}

export function destinationIp(bytes: Uint8Array, version: 4 | 6): string {
  return version === 4 ? ipText(bytes, 16, 4) : ipText(bytes, 24, 16);
}

const MAX_CACHED = 65_536;
const texts = new Map<number | string, string>();

/** The text of an address inside a packet; texts are remembered, since packets repeat them. */
function ipText(bytes: Uint8Array, at: number, length: 4 | 16): string {
  let key: number | string;
  if (length === 4) key = (get16(bytes, at) << 16) | get16(bytes, at + 2);
  else key = String.fromCharCode(...bytes.subarray(at, at + 16));
  let text = texts.get(key);
  if (text === undefined) {
    if (texts.size >= MAX_CACHED) texts.clear();
    text = formatIp(bytes.subarray(at, at + length));
    texts.set(key, text);
  }
  return text;
}

const octetsOf = new Map<string, Uint8Array>();

/** The octets of canonical address text. */
export function ipOctets(ip: string): Uint8Array {
  let octets = octetsOf.get(ip);
  if (octets === undefined) {
    if (octetsOf.size >= MAX_CACHED) octetsOf.clear();
    octets = parseIp(ip) as Uint8Array;
    octetsOf.set(ip, octets);
  }
  return octets;
}

/** The checksum after one 16-bit word changed (RFC 1624 equation 3). */
export function adjustChecksum(checksum: number, before: number, after: number): number {
  let sum = (~checksum & 0xffff) + (~before & 0xffff) + after;
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

/** One's complement sum over a range, to go on with `start`; not yet inverted. */
export function sumWords(bytes: Uint8Array, from: number, to: number, start = 0): number {
  let sum = start;
  let at = from;
  for (; at + 1 < to; at += 2) sum += get16(bytes, at);
  if (at < to) sum += (bytes[at] as number) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return sum;
}

/** The checksum that a transport segment should carry, computed afresh with its own field taken as zero. */
export function transportChecksum(bytes: Uint8Array, layout: PacketLayout): number {
  const { version, protocol, transport, length } = layout;
  const field = transport + checksumOffset(protocol);
  let sum = 0;
  if (protocol !== ICMP) {
    sum = version === 4 ? sumWords(bytes, 12, 20) : sumWords(bytes, 8, 40);
    sum += protocol + (length - transport);
  }
  sum = sumWords(bytes, transport, length, sum - get16(bytes, field));
  return ~sum & 0xffff;
}

/** Where in its header a protocol keeps its checksum. */
export function checksumOffset(protocol: number): number {
  if (protocol === TCP) return 16;
  return protocol === UDP ? 6 : 2;
}

/** A RST that answers the SYN `syn` from the endpoint it was for (RFC 9293 section 3.5.2). */
export function resetFor(syn: Uint8Array, layout: PacketLayout): Uint8Array {
  const reply = answer(syn, layout.version, TCP, 20);
  const at = reply.length - 20;
  reply.set(syn.subarray(layout.transport + 2, layout.transport + 4), at);
  reply.set(syn.subarray(layout.transport, layout.transport + 2), at + 2);
  const view = new DataView(reply.buffer);
  const sequence = new DataView(syn.buffer, syn.byteOffset).getUint32(layout.transport + 4);
  view.setUint32(at + 8, (sequence + 1) >>> 0);
  reply[at + 12] = 0x50;
  reply[at + 13] = 0x14; // RST, ACK
  set16(reply, at + 16, transportChecksum(reply, layoutOf(reply) as PacketLayout));
  return reply;
}

/** "Port unreachable" about `packet`, from the address it was for (RFC 5382 REQ-4, RFC 4443 section 3.1). */
export function unreachableFor(packet: Uint8Array, { version, length }: PacketLayout): Uint8Array {
  const quote = packet.subarray(0, Math.min(length, version === 4 ? 548 : 1200));
  const reply = answer(packet, version, version === 4 ? ICMP : ICMP6, 8 + quote.length);
  const at = reply.length - 8 - quote.length;
  reply[at] = version === 4 ? 3 : 1;
  reply[at + 1] = version === 4 ? 3 : 4;
  reply.set(quote, at + 8);
  set16(reply, at + 2, transportChecksum(reply, layoutOf(reply) as PacketLayout));
  return reply;
}

/** An IP header back to where `packet` came from, with room for `size` octets after it. */
function answer(packet: Uint8Array, version: 4 | 6, protocol: number, size: number): Uint8Array {
  const header = version === 4 ? 20 : 40;
  const reply = new Uint8Array(header + size);
  if (version === 4) {
    reply[0] = 0x45;
    set16(reply, 2, reply.length);
    reply[8] = 64;
    reply[9] = protocol;
    reply.set(packet.subarray(16, 20), 12);
    reply.set(packet.subarray(12, 16), 16);
    set16(reply, 10, ~sumWords(reply, 0, 20) & 0xffff);
    return reply;
  }
  reply[0] = 0x60;
  set16(reply, 4, size);
  reply[6] = protocol;
  reply[7] = 64;
  reply.set(packet.subarray(24, 40), 8);
  reply.set(packet.subarray(8, 24), 24);
  return reply;
}
