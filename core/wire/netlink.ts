/**
 * rtnetlink messages (rtnetlink(7), RFC 3549): requests for links, addresses and routes, and what the kernel
 * answers. Octets to values only; sockets are in `native/netlink-linux.ts`, what the values mean for a
 * program in `core/net/nics-linux.ts`. Whatever is malformed is left out.
 */
import { type Family, formatIp } from "../ip.ts";

export interface NetlinkLink {
  readonly message: "link";
  readonly index: number;
  readonly name: string;
  /** ARPHRD_*: 1 Ethernet, 772 loopback, 65534 none, … */
  readonly hardware: number;
  /** IFF_*: 1 up, 8 loopback, 64 running, … */
  readonly flags: number;
  readonly mac: string;
  readonly mtu: number;
  /** Name of the driver kind, `bridge`, `veth`, `tun`; "" for hardware. */
  readonly kind: string;
  /** Index of the bridge or bond it belongs to; 0 if none. */
  readonly master: number;
}

export interface NetlinkAddress {
  readonly message: "address";
  readonly index: number;
  readonly family: Family;
  readonly ip: string;
  readonly prefixLength: number;
  /** IFA_F_*: 1 temporary (IPv6) or secondary (IPv4), 4 optimistic, 8 DAD failed, 32 deprecated, 64 tentative. */
  readonly flags: number;
}

export interface NetlinkRoute {
  readonly message: "route";
  readonly family: Family;
  /** Length of the destination prefix; 0: a default route. */
  readonly prefixLength: number;
  readonly table: number;
  /** RTN_*: 1 unicast, 2 local, 6 blackhole, 7 unreachable, … */
  readonly type: number;
  readonly metric: number;
  /** Next hops; `gateway` is "" where the destination is on the link itself. */
  readonly hops: readonly { readonly index: number; readonly gateway: string }[];
}

export type NetlinkMessage = NetlinkLink | NetlinkAddress | NetlinkRoute;

export interface NetlinkDatagram {
  readonly messages: readonly NetlinkMessage[];
  /** `more` follows, the dump is `done`, or it ended in an `error`. */
  readonly end: "more" | "done" | "error";
  /** The tables changed while they were dumped: ask again. */
  readonly interrupted: boolean;
}

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const RTM_NEWLINK = 16;
const RTM_NEWADDR = 20;
const RTM_NEWROUTE = 24;
const NLM_F_REQUEST = 1;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_DUMP = 0x300;
const HEADER = 16;
const REQUESTS = { links: 18, addresses: 22, routes: 26 } as const;
const FIXED = { links: 16, addresses: 8, routes: 12 } as const;

/** A request for everything of one sort, in all families. */
export function encodeDump(what: "links" | "addresses" | "routes", sequence: number): Uint8Array {
  // IFLA_EXT_MASK with RTEXT_FILTER_SKIP_STATS: counters would be nine tenths of the answer
  const attributes = what === "links" ? attribute(29, new Uint8Array(Uint32Array.of(8).buffer)) : [];
  return request(REQUESTS[what], NLM_F_DUMP, sequence, new Uint8Array(FIXED[what]), attributes);
}

/** A request for the route that packets to `octets` (4 or 16) would take, policy rules included. */
export function encodeRouteQuery(octets: Uint8Array, sequence: number): Uint8Array {
  const fixed = new Uint8Array(FIXED.routes);
  fixed[0] = octets.length === 4 ? 2 : 10;
  fixed[1] = octets.length * 8;
  return request(REQUESTS.routes, 0, sequence, fixed, attribute(1, octets));
}

function request(
  type: number,
  flags: number,
  sequence: number,
  fixed: Uint8Array,
  attributes: readonly number[],
): Uint8Array {
  const bytes = new Uint8Array(HEADER + fixed.length + attributes.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, NLM_F_REQUEST | flags, true);
  view.setUint32(8, sequence, true);
  bytes.set(fixed, HEADER);
  bytes.set(attributes, HEADER + fixed.length);
  return bytes;
}

function attribute(type: number, value: Uint8Array): number[] {
  return [4 + value.length, 0, type, 0, ...value];
}

/**
 * Reads one datagram from the kernel. Messages of other sorts, and malformed ones, are left out.
 * @param longestPrefix routes to longer prefixes are left out unread, for a table may have a million
 */
export function decodeNetlink(bytes: Uint8Array, longestPrefix = 128): NetlinkDatagram {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const messages: NetlinkMessage[] = [];
  let interrupted = false;
  for (let at = 0; at + HEADER <= bytes.length; ) {
    const length = view.getUint32(at, true);
    if (length < HEADER || length > bytes.length - at) break;
    const type = view.getUint16(at + 4, true);
    if ((view.getUint16(at + 6, true) & NLM_F_DUMP_INTR) !== 0) interrupted = true;
    if (type === NLMSG_DONE) return { messages, end: "done", interrupted };
    if (type === NLMSG_ERROR) return { messages, end: "error", interrupted };
    const message = decodeMessage(type, bytes.subarray(at + HEADER, at + length), longestPrefix);
    if (message !== undefined) messages.push(message);
    at += align(length);
  }
  return { messages, end: "more", interrupted };
}

function decodeMessage(type: number, body: Uint8Array, longestPrefix: number): NetlinkMessage | undefined {
  if (type === RTM_NEWLINK) return decodeLink(body);
  if (type === RTM_NEWADDR) return decodeAddress(body);
  if (type === RTM_NEWROUTE) return decodeRoute(body, longestPrefix);
  return undefined;
}

function decodeLink(body: Uint8Array): NetlinkLink | undefined {
  if (body.length < FIXED.links) return undefined;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const attributes = readAttributes(body, FIXED.links);
  const name = text(attributes.get(3));
  if (name === "") return undefined;
  const mac = attributes.get(1);
  const info = attributes.get(18);
  return {
    message: "link",
    index: view.getInt32(4, true),
    name,
    hardware: view.getUint16(2, true),
    flags: view.getUint32(8, true),
    mac:
      mac?.length === 6 ? Array.from(mac, (octet) => octet.toString(16).padStart(2, "0")).join(":") : NO_MAC,
    mtu: number32(attributes.get(4)),
    kind: info === undefined ? "" : text(readAttributes(info, 0).get(1)),
    master: number32(attributes.get(10)),
  };
}

const NO_MAC = "00:00:00:00:00:00";

function decodeAddress(body: Uint8Array): NetlinkAddress | undefined {
  if (body.length < FIXED.addresses) return undefined;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const family = familyOfNumber(body[0] as number);
  const attributes = readAttributes(body, FIXED.addresses);
  // On point-to-point links the local address is apart and IFA_ADDRESS is the peer's.
  const octets = attributes.get(2) ?? attributes.get(1);
  const prefixLength = body[1] as number;
  const width = family === 4 ? 4 : 16;
  if (family === undefined || octets?.length !== width || prefixLength > width * 8) return undefined;
  const longFlags = attributes.get(8);
  const flags = longFlags === undefined ? (body[2] as number) : number32(longFlags);
  return {
    message: "address",
    index: view.getUint32(4, true),
    family,
    ip: formatIp(octets),
    prefixLength,
    flags,
  };
}

function decodeRoute(body: Uint8Array, longestPrefix: number): NetlinkRoute | undefined {
  if (body.length < FIXED.routes || (body[1] as number) > longestPrefix) return undefined;
  const family = familyOfNumber(body[0] as number);
  if (family === undefined) return undefined;
  const attributes = readAttributes(body, FIXED.routes);
  const table = attributes.get(15);
  const multipath = attributes.get(9);
  const index = number32(attributes.get(4));
  return {
    message: "route",
    family,
    prefixLength: body[1] as number,
    table: table === undefined ? (body[4] as number) : number32(table),
    type: body[7] as number,
    metric: number32(attributes.get(6)),
    hops: multipath === undefined ? [{ index, gateway: gatewayOf(attributes) }] : decodeHops(multipath),
  };
}

/** struct rtnexthop: length u16, flags u8, weight u8, interface index i32, then attributes. */
function decodeHops(bytes: Uint8Array): { index: number; gateway: string }[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const hops: { index: number; gateway: string }[] = [];
  for (let at = 0; at + 8 <= bytes.length; ) {
    const length = view.getUint16(at, true);
    if (length < 8 || length > bytes.length - at) break;
    const attributes = readAttributes(bytes.subarray(at, at + length), 8);
    hops.push({ index: view.getInt32(at + 4, true), gateway: gatewayOf(attributes) });
    at += align(length);
  }
  return hops;
}

/** RTA_GATEWAY, or RTA_VIA where the next hop is of the other family. */
function gatewayOf(attributes: ReadonlyMap<number, Uint8Array>): string {
  const octets = attributes.get(5) ?? attributes.get(18)?.subarray(2);
  return octets?.length === 4 || octets?.length === 16 ? formatIp(octets) : "";
}

/** Attributes (struct rtattr: length u16, type u16, value) by type, the flag bits taken off. */
function readAttributes(bytes: Uint8Array, start: number): ReadonlyMap<number, Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = new Map<number, Uint8Array>();
  for (let at = start; at + 4 <= bytes.length; ) {
    const length = view.getUint16(at, true);
    if (length < 4 || length > bytes.length - at) break;
    found.set(view.getUint16(at + 2, true) & 0x3fff, bytes.subarray(at + 4, at + length));
    at += align(length);
  }
  return found;
}

function align(length: number): number {
  return (length + 3) & ~3;
}

function familyOfNumber(af: number): Family | undefined {
  if (af === 2) return 4;
  return af === 10 ? 6 : undefined;
}

function number32(bytes: Uint8Array | undefined): number {
  return bytes?.length === 4 ? new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true) : 0;
}

function text(bytes: Uint8Array | undefined): string {
  if (bytes === undefined) return "";
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}
