/**
 * Ties a QUIC endpoint to a NIC. The runtime has no option for that and does not show its socket, so the socket is found
 * among those of this process, by the address that it is bound to.
 */
import { readdirSync } from "node:fs";
import { type NativeSockets, nativeSockets } from "../../native/sockets.ts";
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, familyOf, sameEndpoint } from "../ip.ts";
import { endpointFrom } from "./socket-endpoints.ts";
import { openError } from "./socket-errors.ts";

/** Lists the open descriptors of the process that asks, on Linux and macOS. */
const OWN_DESCRIPTORS = "/dev/fd";

/** `local` must be bound by nobody else. Throws `unsupported`, or as `World.openUdp` rejects for a bad device. */
export function tieQuicToDevice(local: Endpoint, device: string, what: string): void {
  try {
    const native = nativeSockets();
    const fd = readdirSync(OWN_DESCRIPTORS)
      .map(Number)
      .find((one) => isBoundTo(native, one, local));
    if (fd === undefined) throw new P2pdError("unsupported", `${what}: its socket cannot be found`);
    native.bindToDevice(fd, familyOf(local.ip), device);
  } catch (thrown) {
    if (thrown instanceof P2pdError) throw thrown;
    if (thrown instanceof Error && "code" in thrown) throw openError(thrown, what);
    throw toP2pdError(thrown, "unsupported", what);
  }
}

function isBoundTo(native: NativeSockets, fd: number, local: Endpoint): boolean {
  try {
    return native.isDatagram(fd) && sameEndpoint(endpointFrom(native.localAddress(fd)), local);
  } catch {
    // A file, a pipe, a socket of another kind.
    return false;
  }
}
