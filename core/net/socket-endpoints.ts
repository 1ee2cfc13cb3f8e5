/** Endpoints of sockets: Bun's words and system addresses made canonical, and zones of link-local ones. */
import { networkInterfaces } from "node:os";
import { nativeSockets } from "../../native/sockets.ts";
import type { SocketAddress } from "../../native/socket-address.ts";
import { P2pdError } from "../errors.ts";
import { canonicalIp, type Endpoint, familyOf, formatIp, parseIp, scopeOf } from "../ip.ts";

const UNKNOWN: Endpoint = { ip: "0.0.0.0", port: 0 };

/** The endpoint that Bun shows as text, perhaps with a zone or mapped into IPv6; undefined if it shows none. */
export function endpointOf(address: string | undefined, port: number | undefined): Endpoint | undefined {
  if (address === undefined || port === undefined) return undefined;
  const zone = address.indexOf("%");
  const ip = canonicalIp(zone < 0 ? address : address.slice(0, zone));
  return ip === undefined ? undefined : { ip, port };
}

/** An address as system calls return it. */
export function endpointFrom({ octets, port }: SocketAddress): Endpoint {
  return { ip: formatIp(octets), port };
}

/** Both ends of a connected socket, from Bun where it knows them, else from the system. */
export function endpointsOf(socket: Bun.Socket<unknown> & { readonly fd: number }): {
  readonly local: Endpoint;
  readonly remote: Endpoint;
} {
  const local = endpointOf(socket.localAddress, socket.localPort);
  const remote = endpointOf(socket.remoteAddress, socket.remotePort);
  if (local !== undefined && remote !== undefined) return { local, remote };
  try {
    const native = nativeSockets();
    return {
      local: local ?? endpointFrom(native.localAddress(socket.fd)),
      remote: remote ?? endpointFrom(native.remoteAddress(socket.fd)),
    };
  } catch {
    // The peer has gone already; the stream's first event will be its close.
    return { local: local ?? UNKNOWN, remote: remote ?? UNKNOWN };
  }
}

/** For a system call. `scope` is the NIC's index, needed by link-local IPv6 addresses only. */
export function socketAddressOf({ ip, port }: Endpoint, scope: number): SocketAddress {
  const octets = parseIp(ip);
  if (octets === undefined || !Number.isInteger(port) || port < 0 || port > 65535) {
    throw new P2pdError(
      "bad-argument",
      `"${ip}" port ${port}: expected an IP address and a port of 0 to 65535`,
    );
  }
  return { octets, port, scope: isLinkLocal6(ip) ? scope : 0 };
}

export function isLinkLocal6(ip: string): boolean {
  return familyOf(ip) === 6 && scopeOf(ip) === "link-local";
}

/** Name and index of the NIC that link-local IPv6 traffic of `local` uses; undefined where it needs none. */
export function zoneOf(local: Endpoint | undefined, device: string | undefined): ZoneId | undefined {
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    for (const { address, family, scopeid } of addresses ?? []) {
      if (family !== "IPv6" || !scopeid) continue;
      if (device === undefined ? address === local?.ip : name === device) return { name, index: scopeid };
    }
  }
  return undefined;
}

export interface ZoneId {
  readonly name: string;
  readonly index: number;
}
