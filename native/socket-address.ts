/**
 * Socket addresses between their value and the octets that system calls take (`struct sockaddr_in`,
 * `sockaddr_in6`). BSD systems put the length in the first octet and the family in the second; Linux has
 * a two-octet family.
 */
import type { Platform } from "./platform.ts";

/** An address as system calls know it. */
export interface SocketAddress {
  /** 4 or 16 octets. */
  readonly octets: Uint8Array;
  readonly port: number;
  /** Index of the NIC that a link-local IPv6 address belongs to; 0: none. */
  readonly scope: number;
}

/** Room for any address that the calls here return. */
export const MAX_ADDRESS_LENGTH = 28;

export function encodeSocketAddress(platform: Platform, { octets, port, scope }: SocketAddress): Uint8Array {
  const six = octets.length === 16;
  const bytes = new Uint8Array(six ? 28 : 16);
  const view = new DataView(bytes.buffer);
  const family = six ? platform.AF_INET6 : platform.AF_INET;
  if (platform.addressHasLength) bytes.set([bytes.length, family]);
  else view.setUint16(0, family, true);
  view.setUint16(2, port);
  bytes.set(octets, six ? 8 : 4);
  if (six) view.setUint32(24, scope, true);
  return bytes;
}

/** The address in `bytes`; undefined if it is of another family than IPv4 and IPv6. */
export function decodeSocketAddress(platform: Platform, bytes: Uint8Array): SocketAddress | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const family = platform.addressHasLength ? view.getUint8(1) : view.getUint16(0, true);
  const port = view.getUint16(2);
  if (family === platform.AF_INET) return { octets: bytes.slice(4, 8), port, scope: 0 };
  if (family !== platform.AF_INET6) return undefined;
  return { octets: bytes.slice(8, 24), port, scope: view.getUint32(24, true) };
}
