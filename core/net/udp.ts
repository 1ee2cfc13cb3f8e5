/** UDP sockets on Bun's: canonical addresses, errors that do not throw, nothing after close. */
import { nativeSockets } from "../../native/sockets.ts";
import { P2pdError } from "../errors.ts";
import { canonicalIp, type Endpoint, familyOf, formatEndpoint, sameEndpoint } from "../ip.ts";
import { isLinkLocal6, zoneOf } from "./socket-endpoints.ts";
import { openError, systemCodeOf } from "./socket-errors.ts";
import type { UdpHandlers, UdpOptions, UdpSocket } from "./world.ts";

type BunUdpSocket = Bun.udp.Socket<"uint8array"> & { readonly fd: number };

/** IPV6_V6ONLY, so that IPv4 and IPv6 sockets share a port; Bun takes it and its types do not name it. */
const ONLY_IP6: object = { flags: 8 };

const ICMP_ERRORS: ReadonlySet<string> = new Set(["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH"]);

/** See `World.openUdp`. Datagrams that arrive while nobody is attached are dropped. */
export async function openUdp({
  local,
  device,
  receiveBufferBytes,
  handlers: first,
}: UdpOptions): Promise<UdpSocket> {
  const what = `UDP on ${formatEndpoint(local)}${device === undefined ? "" : ` of ${device}`}`;
  let handlers: UdpHandlers | undefined = first;
  let closed = false;
  const zone = familyOf(local.ip) === 6 ? zoneOf(local, device)?.name : undefined;
  const report = (thrown: unknown, doing: string): void => handlers?.error?.(openError(thrown, doing));
  /** Where datagrams went last, and whether they ever went anywhere else. */
  let lastTo: Endpoint | undefined;
  let isOnlyTo = true;

  let socket: BunUdpSocket;
  try {
    socket = (await Bun.udpSocket({
      hostname: zone !== undefined && isLinkLocal6(local.ip) ? `${local.ip}%${zone}` : local.ip,
      port: local.port,
      binaryType: "uint8array",
      ...(familyOf(local.ip) === 6 ? ONLY_IP6 : {}),
      socket: {
        data(_, bytes, port, address, flags) {
          if (closed || flags.truncated) return;
          handlers?.message(bytes, { ip: plainAddress(address), port });
        },
        drain() {
          if (!closed) handlers?.drain?.();
        },
        // The declarations name the socket first; it comes without.
        error(...told: unknown[]) {
          const thrown = told.find((one) => one instanceof Error);
          if (!closed) report(thrown, icmpText({ ip: local.ip, port: socket.port }, lastTo, isOnlyTo));
        },
      },
    })) as BunUdpSocket;
  } catch (thrown) {
    throw openError(thrown, what);
  }
  if (device !== undefined) tieToDevice(socket, familyOf(local.ip), device, what);
  const { fd, port } = socket;
  if (receiveBufferBytes !== undefined) enlarge(fd, receiveBufferBytes);

  return {
    local: { ip: local.ip, port },
    fd,
    attach(next) {
      handlers = next;
    },
    send(bytes, to) {
      if (closed) return true;
      isOnlyTo &&= lastTo === undefined || sameEndpoint(lastTo, to);
      lastTo = to;
      const ip = zone !== undefined && isLinkLocal6(to.ip) ? `${to.ip}%${zone}` : to.ip;
      try {
        try {
          return socket.send(bytes, to.port, ip);
        } catch (thrown) {
          // An ICMP error of an earlier datagram is told, once, in place of sending this one.
          if (!ICMP_ERRORS.has(systemCodeOf(thrown))) throw thrown;
          return socket.send(bytes, to.port, ip);
        }
      } catch (thrown) {
        // Never out of `send` itself: a caller in the middle of its own work is not interrupted.
        queueMicrotask(() => {
          if (!closed) report(thrown, sendText(local.ip, port, to));
        });
        return true;
      }
    },
    ...fragmentsOf(fd, familyOf(local.ip)),
    close() {
      if (closed) return;
      closed = true;
      handlers = undefined;
      socket.close();
    },
  };
}

/** The system does not say which datagram an ICMP error is about. */
function icmpText(from: Endpoint, to: Endpoint | undefined, isOnlyTo: boolean): string {
  const own = `UDP from ${formatEndpoint(from)}`;
  if (to === undefined) return own;
  return isOnlyTo ? `${own} to ${formatEndpoint(to)}` : `${own}, last to ${formatEndpoint(to)}`;
}

function sendText(ip: string, port: number, to: Endpoint): string {
  return `UDP from ${formatEndpoint({ ip, port })} to ${formatEndpoint(to)}`;
}

/** The system's text is canonical already, except for zones and mapped IPv4 addresses. */
function plainAddress(address: string): string {
  if (!address.includes(":")) return address;
  const zone = address.indexOf("%");
  const ip = zone < 0 ? address : address.slice(0, zone);
  return ip.startsWith("::ffff:") ? (canonicalIp(ip) ?? ip) : ip;
}

function fragmentsOf(fd: number, family: 4 | 6): Pick<UdpSocket, "allowFragments"> {
  try {
    const native = nativeSockets();
    return { allowFragments: (allowed) => native.allowFragments(fd, family, allowed) };
  } catch {
    // A platform without these calls.
    return {};
  }
}

function enlarge(fd: number, octets: number): void {
  try {
    nativeSockets().receiveBuffer(fd, octets);
  } catch {
    // Where the system does not let us, its own size serves too.
    return;
  }
}

function tieToDevice(socket: BunUdpSocket, family: 4 | 6, device: string, what: string): void {
  try {
    nativeSockets().bindToDevice(socket.fd, family, device);
  } catch (thrown) {
    socket.close();
    if (thrown instanceof Error && "code" in thrown) throw openError(thrown, what);
    const text = thrown instanceof Error ? thrown.message : String(thrown);
    throw new P2pdError("unsupported", `${what}: ${text}`, {}, { cause: thrown });
  }
}
