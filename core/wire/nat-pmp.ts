/**
 * NAT-PMP (RFC 6886): octets and values. Every message is a header of version, opcode and, in answers, a result and
 * the seconds since the router forgot its mappings; what is asked and when is decided in `core/portmap/`.
 */
import { formatIp } from "../ip.ts";

export const NAT_PMP_PORT = 5351;

export type NatPmpAnswer = {
  /** Seconds since the router's table was empty (section 3.6). */
  readonly epochSeconds: number;
  /** 0 is success; see `natPmpResult`. */
  readonly result: number;
} & (
  | { readonly kind: "address"; readonly externalIp: string }
  | {
      readonly kind: "map";
      readonly transport: "tcp" | "udp";
      readonly internalPort: number;
      readonly externalPort: number;
      readonly lifetimeSeconds: number;
    }
);

const RESULTS: Readonly<Record<number, string>> = {
  1: "the router speaks another version",
  2: "the router's owner has forbidden it",
  3: "the router has no connection or no public address itself",
  4: "the router's table is full",
  5: "the router does not know the request",
};

/** A result code in words. */
export function natPmpResult(code: number): string {
  return RESULTS[code] ?? `the router answered with error ${code}`;
}

/** Section 3.2: asks for the router's external address. */
export function encodeNatPmpAddressRequest(): Uint8Array {
  return Uint8Array.of(0, 0);
}

/**
 * Section 3.3. Lifetime 0 with external port 0 ends a mapping (section 3.4).
 *
 *     | version 0 | opcode 1 UDP, 2 TCP | 0 | internal port | external port | lifetime |
 */
export function encodeNatPmpMapRequest(request: {
  readonly transport: "tcp" | "udp";
  readonly internalPort: number;
  readonly externalPort: number;
  readonly lifetimeSeconds: number;
}): Uint8Array {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  bytes[1] = request.transport === "udp" ? 1 : 2;
  view.setUint16(4, request.internalPort);
  view.setUint16(6, request.externalPort);
  view.setUint32(8, request.lifetimeSeconds);
  return bytes;
}

/** Reads an answer; undefined if it is none. Failures may be cut short after the epoch, where routers do so. */
export function decodeNatPmpAnswer(bytes: Uint8Array): NatPmpAnswer | undefined {
  if (bytes.length < 8 || bytes.length > 16 || bytes[0] !== 0) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const opcode = bytes[1];
  const head = { result: view.getUint16(2), epochSeconds: view.getUint32(4) };
  if (opcode === 128) {
    if (bytes.length === 12) return { ...head, kind: "address", externalIp: formatIp(bytes.subarray(8)) };
    return head.result !== 0 ? { ...head, kind: "address", externalIp: "0.0.0.0" } : undefined;
  }
  if ((opcode !== 129 && opcode !== 130) || bytes.length !== 16) return undefined;
  return {
    ...head,
    kind: "map",
    transport: opcode === 129 ? "udp" : "tcp",
    internalPort: view.getUint16(8),
    externalPort: view.getUint16(10),
    lifetimeSeconds: view.getUint32(12),
  };
}
