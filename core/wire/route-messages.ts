/**
 * Routing messages of macOS and FreeBSD (route(4), as sysctl NET_RT_DUMP returns them): the default routes in
 * them. Octets to values only; the call is in `native/route-bsd.ts`. Whatever is malformed is left out.
 */
import { type Family, formatIp } from "../ip.ts";

export interface DefaultRoute {
  readonly family: Family;
  /** Index of the NIC. */
  readonly index: number;
  /** "" where the destination is on the link itself. */
  readonly gateway: string;
  /** For sockets bound to that NIC only (RTF_IFSCOPE of macOS). */
  readonly scoped: boolean;
}

/** What differs between the systems. */
export interface RouteMessageLayout {
  readonly headerBytes: number;
  /** To what the socket addresses behind the header are padded. */
  readonly alignment: number;
  readonly inet6: number;
}

export const ROUTE_MESSAGE_LAYOUTS: Readonly<Partial<Record<NodeJS.Platform, RouteMessageLayout>>> = {
  darwin: { headerBytes: 92, alignment: 4, inet6: 30 },
  freebsd: { headerBytes: 152, alignment: 8, inet6: 28 },
};

const AF_INET = 2;
const VERSION = 5;
const RTF_UP = 1;
const RTF_REJECT = 8;
const RTF_BLACKHOLE = 0x1000;
const RTF_IFSCOPE = 0x1000000;
const RTA_NETMASK = 2; // position of the socket addresses: destination, gateway, netmask

/** The default routes, also those that VPNs split in halves, in the order of the table. */
export function decodeDefaultRoutes(table: Uint8Array, layout: RouteMessageLayout): DefaultRoute[] {
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  const routes: DefaultRoute[] = [];
  for (let at = 0; at + layout.headerBytes <= table.length; ) {
    const length = view.getUint16(at, true);
    if (length < layout.headerBytes || length > table.length - at) break;
    const flags = view.getUint32(at + 8, true);
    const usable = (flags & RTF_UP) !== 0 && (flags & (RTF_REJECT | RTF_BLACKHOLE)) === 0;
    if (usable && table[at + 2] === VERSION) {
      const addresses = readSocketAddresses(
        table.subarray(at + layout.headerBytes, at + length),
        view.getUint32(at + 12, true),
        layout.alignment,
      );
      const route = defaultRoute(addresses, layout);
      const scoped = (flags & RTF_IFSCOPE) !== 0;
      if (route !== undefined) routes.push({ ...route, index: view.getUint16(at + 4, true), scoped });
    }
    at += length;
  }
  return routes;
}

type SocketAddresses = readonly (Uint8Array | undefined)[];

/** Those of destination, gateway and netmask that `present` names; each starts with its length. */
function readSocketAddresses(bytes: Uint8Array, present: number, alignment: number): SocketAddresses {
  const addresses: (Uint8Array | undefined)[] = [];
  let at = 0;
  for (let position = 0; position <= RTA_NETMASK; position++) {
    if ((present & (1 << position)) === 0) {
      addresses.push(undefined);
      continue;
    }
    const length = bytes[at] ?? 0;
    addresses.push(bytes.subarray(at, at + length));
    at += Math.max(alignment, Math.ceil(length / alignment) * alignment);
  }
  return addresses;
}

function defaultRoute(
  [destination, gateway, netmask]: SocketAddresses,
  { inet6 }: RouteMessageLayout,
): Pick<DefaultRoute, "family" | "gateway"> | undefined {
  if (destination === undefined || netmask === undefined) return undefined; // a host route
  const family = destination[1] === AF_INET ? 4 : destination[1] === inet6 ? 6 : undefined;
  if (family === undefined) return undefined;
  const offset = family === 4 ? 4 : 8;
  const maskOctets = netmask.subarray(offset); // trailing zero octets are not stored
  if (maskOctets.subarray(1).some((octet) => octet !== 0)) return undefined;
  // a half (0.0.0.0/1, ::/1) or, in IPv6, everything that is assigned (2000::/3)
  if (((maskOctets[0] ?? 0) & (family === 4 ? 0x7f : 0x1f)) !== 0) return undefined;
  return { family, gateway: gatewayText(gateway, family, inet6) };
}

function gatewayText(address: Uint8Array | undefined, family: Family, inet6: number): string {
  if (address?.[1] !== (family === 4 ? AF_INET : inet6)) return "";
  const octets = family === 4 ? address.slice(4, 8) : address.slice(8, 24);
  if (octets.length !== (family === 4 ? 4 : 16)) return "";
  // inside the kernel a link-local address carries its interface index
  if (family === 6 && octets[0] === 0xfe && ((octets[1] as number) & 0xc0) === 0x80) octets.fill(0, 2, 4);
  return formatIp(octets);
}
