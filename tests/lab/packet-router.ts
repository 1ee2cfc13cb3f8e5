/**
 * Carries packets through the NAT engine: reads what the engine needs to know, rewrites addresses, ports and
 * checksums as it says, translates ICMP errors with the packet they quote, keeps fragments together, answers
 * SYNs that are refused. No devices, no delay: `natbox.ts` brings both.
 */
import type { Endpoint } from "../../core/ip.ts";
import type { NatEngine, NatPacket, Verdict } from "../nat/engine.ts";
import type { NatProtocol } from "../nat/session.ts";
import { adjustUnfinished } from "./offload.ts";
import {
  ICMP,
  ICMP6,
  TCP,
  UDP,
  adjustChecksum,
  checksumOffset,
  destinationIp,
  get16,
  ipOctets,
  layoutOf,
  resetFor,
  set16,
  sourceIp,
  sumWords,
  tcpFlagsAt,
  transportChecksum,
  transportMinimum,
  unreachableFor,
} from "./packet.ts";
import type { PacketLayout } from "./packet.ts";

export interface PacketRouterOptions {
  readonly ipv4: NatEngine;
  readonly ipv6: NatEngine;
  /** Takes a packet for a side; its octets are the receiver's during the call only. `offload` as in `fromLan`. */
  readonly toLan: (packet: Uint8Array, offload?: Uint8Array) => void;
  readonly toWan: (packet: Uint8Array, offload?: Uint8Array) => void;
  /** Deliberate faults of the packet path. */
  readonly faults: { readonly quotedChecksum?: boolean; readonly quotedHeader?: boolean };
}

export interface PacketRouter {
  /** A packet from an inside host; its octets are changed. `offload`: of a large segment (`offload.ts`). */
  fromLan(now: number, packet: Uint8Array, offload?: Uint8Array): void;
  /** A packet from outside; its octets are changed. */
  fromWan(now: number, packet: Uint8Array, offload?: Uint8Array): void;
  /** Packets that no rule covers: malformed, of unknown protocols, fragments without their first. */
  readonly ignored: number;
}

const MAX_FRAGMENTED = 1024;
const FRAGMENT_LIFE_MS = 30_000;

interface FragmentedPacket {
  readonly verdict: Verdict;
  readonly until: number;
}

export function createPacketRouter({ ipv4, ipv6, toLan, toWan, faults }: PacketRouterOptions): PacketRouter {
  const fragmented = new Map<string, FragmentedPacket>();
  let ignored = 0;

  function route(now: number, bytes: Uint8Array, outward: boolean, offload: Uint8Array | undefined): void {
    const layout = layoutOf(bytes);
    if (layout === undefined || !isRoutable(bytes, layout.version)) {
      ignored++;
      return;
    }
    const packet = bytes.length === layout.length ? bytes : bytes.subarray(0, layout.length);
    const engine = layout.version === 4 ? ipv4 : ipv6;
    const { protocol, transport } = layout;
    if (layout.fragmentOffset > 0) {
      const first = fragmented.get(fragmentKey(packet, layout));
      if (first === undefined || first.until < now) ignored++;
      else carryOut(packet, layout, first.verdict, outward, undefined);
      return;
    }
    if (layout.length - transport < transportMinimum(protocol)) {
      ignored++;
      return;
    }
    if (isIcmpError(packet, layout)) return routeError(now, engine, packet, layout, outward);
    const seen = describe(packet, layout, outward);
    if (seen === undefined) {
      ignored++;
      return;
    }
    const verdict = outward ? engine.outbound(now, seen) : engine.inbound(now, seen);
    if (layout.moreFragments) remember(now, fragmentKey(packet, layout), verdict);
    carryOut(packet, layout, verdict, outward, offload);
  }

  function remember(now: number, key: string, verdict: Verdict): void {
    fragmented.delete(key);
    fragmented.set(key, { verdict, until: now + FRAGMENT_LIFE_MS });
    if (fragmented.size > MAX_FRAGMENTED) fragmented.delete(fragmented.keys().next().value as string);
  }

  function carryOut(
    packet: Uint8Array,
    layout: PacketLayout,
    verdict: Verdict,
    outward: boolean,
    offload: Uint8Array | undefined,
  ): void {
    if (verdict.action === "drop") return;
    if (verdict.action === "reject") {
      if (layout.fragmentOffset > 0) return;
      const reply = verdict.with === "rst" ? resetFor(packet, layout) : unreachableFor(packet, layout);
      return outward ? toLan(reply) : toWan(reply);
    }
    const unfinished = offload !== undefined;
    rewrite(packet, layout, "source", verdict.source, unfinished);
    rewrite(packet, layout, "destination", verdict.destination, unfinished);
    if (verdict.action === "hairpin" || !outward) toLan(packet, offload);
    else toWan(packet, offload);
  }

  /** An ICMP error belongs to the session of the packet it quotes (RFC 5508 section 4). */
  function routeError(
    now: number,
    engine: NatEngine,
    packet: Uint8Array,
    layout: PacketLayout,
    outward: boolean,
  ): void {
    const quote = packet.subarray(layout.transport + 8, layout.length);
    const inner = layoutOf(quote, true);
    if (inner === undefined || inner.fragmentOffset > 0 || quote.length < inner.transport + 8) {
      ignored++;
      return;
    }
    // What we sent out comes back quoted as sent; the port a session knows is at its source then.
    const seen = describe(quote, inner, !outward);
    const found =
      seen === undefined
        ? undefined
        : outward
          ? engine.externalOf(now, seen.protocol, seen.destination, seen.source)
          : engine.internalOf(now, seen.protocol, seen.source, seen.destination);
    if (found === undefined) {
      ignored++;
      return;
    }
    if (faults.quotedHeader !== true) {
      const kept = faults.quotedChecksum === true ? quote.slice() : undefined;
      rewrite(quote, inner, outward ? "destination" : "source", found);
      if (kept !== undefined) restoreChecksums(quote, kept, inner);
    }
    // A router's error about its own has the router's address as source, which is nobody's mapping.
    if (!outward) setAddress(packet, layout, "destination", found.ip);
    else setAddress(packet, layout, "source", found.ip);
    set16(packet, layout.transport + 2, transportChecksum(packet, layout));
    if (outward) toWan(packet);
    else toLan(packet);
  }

  return {
    fromLan: (now, packet, offload) => route(now, packet, true, offload),
    fromWan: (now, packet, offload) => route(now, packet, false, offload),
    get ignored() {
      return ignored;
    },
  };
}

/** Link-local and multicast packets stay on their link. */
function isRoutable(packet: Uint8Array, version: 4 | 6): boolean {
  if (version === 4) return (packet[16] as number) < 224 && packet[12] !== 169;
  const linkLocal = (at: number): boolean =>
    packet[at] === 0xfe && ((packet[at + 1] as number) & 0xc0) === 0x80;
  return packet[24] !== 0xff && !linkLocal(8) && !linkLocal(24);
}

function isIcmpError(packet: Uint8Array, { version, protocol, transport }: PacketLayout): boolean {
  const type = packet[transport] as number;
  if (protocol === ICMP && version === 4) return type === 3 || type === 4 || type === 11 || type === 12;
  return protocol === ICMP6 && version === 6 && type < 128;
}

/** What the engine is told; undefined for protocols it does not know. An echo's identifier is the inner port. */
function describe(packet: Uint8Array, layout: PacketLayout, fromInside: boolean): NatPacket | undefined {
  const { version, transport } = layout;
  const protocol = protocolOf(packet, layout);
  if (protocol === undefined) return undefined;
  const source = sourceIp(packet, version);
  const destination = destinationIp(packet, version);
  if (protocol === "icmp") {
    const identifier = get16(packet, transport + 4);
    return {
      protocol,
      source: { ip: source, port: fromInside ? identifier : 0 },
      destination: { ip: destination, port: fromInside ? 0 : identifier },
    };
  }
  const endpoints = {
    protocol,
    source: { ip: source, port: get16(packet, transport) },
    destination: { ip: destination, port: get16(packet, transport + 2) },
  };
  return protocol === "tcp" && packet.length >= transport + 14
    ? { ...endpoints, flags: tcpFlagsAt(packet, transport) }
    : endpoints;
}

function protocolOf(
  packet: Uint8Array,
  { version, protocol, transport }: PacketLayout,
): NatProtocol | undefined {
  if (protocol === UDP) return "udp";
  if (protocol === TCP) return "tcp";
  const type = packet[transport];
  if (version === 4 && protocol === ICMP && (type === 8 || type === 0)) return "icmp";
  return version === 6 && protocol === ICMP6 && (type === 128 || type === 129) ? "icmp" : undefined;
}

/**
 * Puts another endpoint into a packet; the checksums follow. Nothing is done where nothing changes. A checksum
 * that is `unfinished` covers the addresses alone.
 */
function rewrite(
  packet: Uint8Array,
  layout: PacketLayout,
  side: "source" | "destination",
  to: Endpoint,
  unfinished = false,
): void {
  const { protocol, transport } = layout;
  const delta = setAddress(packet, layout, side, to.ip);
  if (layout.fragmentOffset > 0) return;
  const isEcho = protocol === ICMP || protocol === ICMP6;
  if (isEcho && to.port === 0) return; // the remote side of an echo has no port
  const field = transport + checksumOffset(protocol);
  if (unfinished) {
    adjustUnfinished(packet, field, delta.before, delta.after);
    set16(packet, transport + (side === "source" ? 0 : 2), to.port);
    return;
  }
  const hasChecksum = packet.length >= field + 2 && !(protocol === UDP && get16(packet, field) === 0);
  let checksum = hasChecksum ? get16(packet, field) : 0;
  if (protocol !== ICMP) checksum = adjustChecksum(checksum, delta.before, delta.after);
  const portAt = isEcho ? transport + 4 : transport + (side === "source" ? 0 : 2);
  const port = get16(packet, portAt);
  if (port !== to.port) {
    checksum = adjustChecksum(checksum, port, to.port);
    set16(packet, portAt, to.port);
  }
  if (hasChecksum) set16(packet, field, checksum === 0 && protocol === UDP ? 0xffff : checksum);
}

/** Puts another address into the IP header; returns the sums of the old and new one for other checksums. */
function setAddress(
  packet: Uint8Array,
  { version }: PacketLayout,
  side: "source" | "destination",
  ip: string,
): { before: number; after: number } {
  const length = version === 4 ? 4 : 16;
  const at = (version === 4 ? 12 : 8) + (side === "source" ? 0 : length);
  const before = sumWords(packet, at, at + length);
  packet.set(ipOctets(ip), at);
  const after = sumWords(packet, at, at + length);
  if (version === 4 && before !== after) set16(packet, 10, adjustChecksum(get16(packet, 10), before, after));
  return { before, after };
}

function restoreChecksums(
  quote: Uint8Array,
  kept: Uint8Array,
  { version, protocol, transport }: PacketLayout,
): void {
  if (version === 4) quote.set(kept.subarray(10, 12), 10);
  const field = transport + checksumOffset(protocol);
  if (quote.length >= field + 2) quote.set(kept.subarray(field, field + 2), field);
}

function fragmentKey(packet: Uint8Array, { version, protocol }: PacketLayout): string {
  const identification = version === 4 ? get16(packet, 4) : (get16(packet, 44) << 16) | get16(packet, 46);
  return `${sourceIp(packet, version)}|${destinationIp(packet, version)}|${protocol}|${identification}`;
}
