/** Which of this machine's addresses the system would send from: what a socket on `0.0.0.0` or `::` does not say. */
import { canonicalIp, type Endpoint, scopeOf } from "../ip.ts";

/** `local` with its address made concrete for datagrams to `remote`; unchanged where that cannot be known. */
export async function sourceAddress(local: Endpoint, remote: Endpoint): Promise<Endpoint> {
  if (scopeOf(local.ip) !== "unspecified") return local;
  try {
    // Connecting a UDP socket chooses the address and sends nothing.
    const socket = await Bun.udpSocket({ connect: { hostname: remote.ip, port: remote.port } });
    const { address } = socket.address;
    socket.close();
    return { ip: canonicalIp(address) ?? local.ip, port: local.port };
  } catch {
    return local; // no route any more: the connection will tell
  }
}
