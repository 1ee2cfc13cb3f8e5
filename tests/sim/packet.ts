/** A packet of the simulated network, as an object: addresses, ports, what TCP needs, octets. */
import { type Endpoint, formatEndpoint } from "../../core/ip.ts";
import type { TcpFlags } from "../nat/session.ts";

export interface TcpHeader extends TcpFlags {
  /** Sequence numbers begin at 32-bit numbers and do not wrap. */
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly window: number;
  /** Where the segments begin that arrived ahead of a missing one (RFC 2018, without its limits). */
  readonly selective?: readonly number[];
}

/** The packet that an ICMP error is about, as the sender of the error saw it. */
export interface QuotedPacket {
  readonly protocol: "udp" | "tcp";
  readonly source: Endpoint;
  readonly destination: Endpoint;
}

interface Addressed {
  readonly source: Endpoint;
  readonly destination: Endpoint;
}

export type SimPacket =
  | (Addressed & { readonly protocol: "udp"; readonly payload: Uint8Array })
  | (Addressed & { readonly protocol: "tcp"; readonly tcp: TcpHeader; readonly payload: Uint8Array })
  | (Addressed & {
      readonly protocol: "icmp";
      readonly unreachable: "port" | "host";
      readonly quoted: QuotedPacket;
    });

/** The ICMP error that answers `packet`, from the address `from`; undefined where none is due. */
export function unreachableFor(
  packet: SimPacket,
  unreachable: "port" | "host",
  from = packet.destination.ip,
): SimPacket | undefined {
  if (packet.protocol === "icmp") return undefined;
  const { protocol, source, destination } = packet;
  return {
    protocol: "icmp",
    source: { ip: from, port: 0 },
    destination: { ip: source.ip, port: 0 },
    unreachable,
    quoted: { protocol, source, destination },
  };
}

/** The RST that answers a segment of no connection (RFC 9293 section 3.10.7.1); undefined where none is due. */
export function resetFor(packet: SimPacket): SimPacket | undefined {
  if (packet.protocol !== "tcp" || packet.tcp.rst) return undefined;
  const { tcp, payload, source, destination } = packet;
  const length = payload.length + (tcp.syn ? 1 : 0) + (tcp.fin ? 1 : 0);
  return {
    protocol: "tcp",
    source: destination,
    destination: source,
    tcp: {
      syn: false,
      fin: false,
      rst: true,
      ack: !tcp.ack,
      sequence: tcp.ack ? tcp.acknowledgement : 0,
      acknowledgement: tcp.ack ? 0 : tcp.sequence + length,
      window: 0,
    },
    payload: new Uint8Array(0),
  };
}

/** One packet for a reader of the trace. */
export function describePacket(packet: SimPacket): string {
  const { source, destination } = packet;
  if (packet.protocol === "icmp") {
    const { protocol, source: from, destination: to } = packet.quoted;
    const about = `${protocol} ${formatEndpoint(from)} > ${formatEndpoint(to)}`;
    return `icmp ${source.ip} > ${destination.ip} ${packet.unreachable} unreachable for ${about}`;
  }
  const ends = `${packet.protocol} ${formatEndpoint(source)} > ${formatEndpoint(destination)}`;
  const size = `${packet.payload.length} octets`;
  if (packet.protocol === "udp") return `${ends} ${size}`;
  const { syn, ack, fin, rst, sequence, acknowledgement } = packet.tcp;
  const flags = `${syn ? "S" : ""}${fin ? "F" : ""}${rst ? "R" : ""}${ack ? "." : ""}`;
  return `${ends} [${flags}] ${sequence}${ack ? ` ack ${acknowledgement}` : ""} ${size}`;
}
