/**
 * What the kernel leaves undone on packets it hands to a TUN device when asked to (struct virtio_net_hdr of
 * linux/virtio_net.h): checksums not yet computed, and TCP segments not yet cut to size. Large segments pass a
 * router whole, which is what makes a userspace router fast; everything else is finished here.
 */
import { get16, set16, sumWords } from "./packet.ts";

/** Octets of the header before every packet. */
export const OFFLOAD_HEADER = 10;

const NEEDS_CHECKSUM = 1;

/**
 * The header of a large TCP segment, to be given back with it; its checksum covers the addresses alone so far.
 * A packet that only lacks its checksum gets it, and needs nothing more (undefined).
 */
export function acceptOffload(header: Uint8Array, packet: Uint8Array): Uint8Array | undefined {
  if (header[1] !== 0) return header;
  if (((header[0] as number) & NEEDS_CHECKSUM) === 0) return undefined;
  const start = (header[6] as number) | ((header[7] as number) << 8);
  const field = start + ((header[8] as number) | ((header[9] as number) << 8));
  if (field + 2 > packet.length) return undefined;
  const checksum = ~sumWords(packet, start, packet.length) & 0xffff;
  set16(packet, field, checksum === 0 ? 0xffff : checksum);
  return undefined;
}

/** The sum over the addresses in an unfinished checksum after these changed. */
export function adjustUnfinished(packet: Uint8Array, field: number, before: number, after: number): void {
  let sum = get16(packet, field) + (~before & 0xffff) + after;
  sum = (sum & 0xffff) + (sum >> 16);
  set16(packet, field, (sum & 0xffff) + (sum >> 16));
}
