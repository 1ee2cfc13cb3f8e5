/**
 * Runs of addresses as prefixes: what a route has on either side. A single address is a range of full length.
 */
import { type Family, familyOf, formatIp, inPrefix, parseIp } from "../ip.ts";

export interface IpRange {
  /** The address, or the first of the block. */
  readonly ip: string;
  readonly prefixLength: number;
}

/** The range that holds only `ip`. */
export function singleIp(ip: string): IpRange {
  return { ip, prefixLength: widthOf(familyOf(ip)) };
}

/** Bits of an address: 32 or 128. */
export function widthOf(family: Family): number {
  return family === 4 ? 32 : 128;
}

/** Whether every bit behind the prefix is zero, so that `ip/prefixLength` names a block and not a host in it. */
export function isBlock({ ip, prefixLength }: IpRange): boolean {
  const width = widthOf(familyOf(ip));
  // two addresses of a point-to-point link (RFC 3021, RFC 6164) are hosts, both of them
  return prefixLength < width - 1 && (toBits(ip) & ((1n << BigInt(width - prefixLength)) - 1n)) === 0n;
}

export function rangeHolds({ ip, prefixLength }: IpRange, candidate: string): boolean {
  return inPrefix(candidate, ip, prefixLength);
}

/**
 * The fewest ranges that hold exactly the same addresses. They keep the order in which their first member was
 * given, so that the preferred address stays in front.
 * @param ranges of one family
 */
export function mergeRanges(ranges: readonly IpRange[]): readonly IpRange[] {
  const first = ranges[0];
  if (first === undefined) return [];
  const width = widthOf(familyOf(first.ip));
  const blocks = new Map<string, { bits: bigint; prefixLength: number; order: number }>();
  const waiting = ranges.map(({ ip, prefixLength }, order) => ({ bits: toBits(ip), prefixLength, order }));
  for (let block = waiting.pop(); block !== undefined; block = waiting.pop()) {
    const size = 1n << BigInt(width - block.prefixLength);
    const twinKey = `${block.bits ^ size}/${block.prefixLength}`;
    const twin = blocks.get(twinKey);
    const key = `${block.bits}/${block.prefixLength}`;
    const same = blocks.get(key);
    if (twin !== undefined && block.prefixLength > 0) {
      blocks.delete(twinKey);
      waiting.push({
        bits: block.bits & ~size,
        prefixLength: block.prefixLength - 1,
        order: Math.min(block.order, twin.order),
      });
    } else {
      blocks.set(key, { ...block, order: Math.min(block.order, same?.order ?? block.order) });
    }
  }
  return [...blocks.values()]
    .sort((a, b) => a.order - b.order)
    .map(({ bits, prefixLength }) => ({ ip: fromBits(bits, width), prefixLength }));
}

function toBits(ip: string): bigint {
  return (parseIp(ip) ?? new Uint8Array(0)).reduce((bits, octet) => (bits << 8n) | BigInt(octet), 0n);
}

function fromBits(bits: bigint, width: number): string {
  return formatIp(
    Uint8Array.from({ length: width / 8 }, (_, i) => Number((bits >> BigInt(width - 8 - 8 * i)) & 255n)),
  );
}
