/**
 * Listens for TCP connections. A shared listener (SO_REUSEPORT) lets connects leave from its own port,
 * which hole punching and reverse connects need.
 */
import { nativeSockets } from "../../native/sockets.ts";
import { P2pdError } from "../errors.ts";
import { familyOf, formatEndpoint } from "../ip.ts";
import { endpointOf, endpointsOf, isLinkLocal6, zoneOf } from "./socket-endpoints.ts";
import { openError } from "./socket-errors.ts";
import { type BunSocket, createSocketStream, SOCKET_HANDLERS, type SocketEvents } from "./socket-stream.ts";
import type { ListenOptions, TcpListener } from "./world.ts";

/** See `World.listenTcp`. An IPv6 listener takes IPv6 only, so that both families may have one port. */
export async function listenTcp({ local, device, shared, accept }: ListenOptions): Promise<TcpListener> {
  const what = `listen on TCP ${formatEndpoint(local)}${device === undefined ? "" : ` of ${device}`}`;
  const zone = isLinkLocal6(local.ip) ? zoneOf(local, device) : undefined;
  const settings = {
    hostname: zone === undefined ? local.ip : `${local.ip}%${zone.name}`,
    port: local.port,
    allowHalfOpen: true,
    ipv6Only: familyOf(local.ip) === 6,
  };
  try {
    // Two listeners may share a port by SO_REUSEPORT, and connections would go to either: ask first
    // whether anybody listens there.
    if (shared === true && local.port !== 0) Bun.listen({ ...settings, socket: { data() {} } }).stop(true);
    const listener = Bun.listen<SocketEvents>({
      ...settings,
      ...(shared === true ? { reusePort: true } : {}),
      socket: {
        ...SOCKET_HANDLERS,
        open(opened) {
          const socket = opened as BunSocket;
          const ends = endpointsOf(socket);
          const { stream, events } = createSocketStream(socket, ends.local, ends.remote);
          socket.data = events;
          accept(stream);
        },
      },
    }) as Bun.TCPSocketListener<SocketEvents> & { readonly fd: number };
    if (device !== undefined) tieToDevice(listener, familyOf(local.ip), device);
    const bound = endpointOf(local.ip, listener.port) ?? local;
    return { local: bound, close: () => listener.stop(false) };
  } catch (thrown) {
    throw openError(thrown, what);
  }
}

function tieToDevice(
  listener: { readonly fd: number; stop(closeActiveConnections?: boolean): void },
  family: 4 | 6,
  device: string,
): void {
  try {
    nativeSockets().bindToDevice(listener.fd, family, device);
  } catch (thrown) {
    listener.stop(true);
    if (thrown instanceof Error && "code" in thrown) throw thrown;
    const text = thrown instanceof Error ? thrown.message : String(thrown);
    throw new P2pdError("unsupported", `listening on ${device} only: ${text}`, {}, { cause: thrown });
  }
}
