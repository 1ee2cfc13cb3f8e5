/** Which of this machine's addresses the system would send from: what a socket on `0.0.0.0` or `::` does not say. */
import { nativeSockets } from "../../native/sockets.ts";
import { type Endpoint, familyOf, scopeOf } from "../ip.ts";
import { endpointFrom } from "./socket-endpoints.ts";

/** `local` with its address made concrete for datagrams to `remote`; unchanged where that cannot be known. */
export async function sourceAddress(local: Endpoint, remote: Endpoint): Promise<Endpoint> {
  if (scopeOf(local.ip) !== "unspecified") return local;
  try {
    // Connecting a UDP socket chooses the address and sends nothing.
    const socket = await Bun.udpSocket({
      hostname: familyOf(remote.ip) === 6 ? "::" : "0.0.0.0",
      connect: { hostname: remote.ip, port: remote.port },
    });
    const { fd } = socket as typeof socket & { readonly fd: number };
    try {
      return { ip: endpointFrom(nativeSockets().localAddress(fd)).ip, port: local.port };
    } finally {
      socket.close();
    }
  } catch {
    return local; // no route any more, which the connection will tell; or no system calls
  }
}
