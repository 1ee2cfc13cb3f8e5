/**
 * What the runtime has no option for: a QUIC endpoint is tied to a NIC, and has room for bursts. The runtime does not show
 * its socket, so the socket is found among those of this process, by the address that it is bound to.
 */
import { readdirSync } from "node:fs";
import { type NativeSockets, nativeSockets } from "../../native/sockets.ts";
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, familyOf, sameEndpoint } from "../ip.ts";
import { endpointFrom } from "./socket-endpoints.ts";
import { openError } from "./socket-errors.ts";

/** Lists the open descriptors of the process that asks, on Linux and macOS. */
const OWN_DESCRIPTORS = "/dev/fd";
/**
 * What may come while this process is busy, of all paths of an endpoint. The system's own size, 208 KiB on Linux, has room
 * for some 90 packets: at 50 Mbit/s and 100 ms a tenth to a quarter of all were lost there.
 */
const RECEIVE_BUFFER = 2 * 1024 * 1024;

/**
 * Gives the endpoint at `local`, which must be bound by nobody else, as much room as the system grants, and ties it to
 * `device` if one is named; that alone can fail. Throws `unsupported`, or as `World.openUdp` rejects for a bad device.
 */
export function prepareQuicSocket(local: Endpoint, device: string | undefined, what: string): void {
  try {
    const native = nativeSockets();
    // The endpoint is new, and new descriptors are among the highest as a rule.
    const fd = readdirSync(OWN_DESCRIPTORS)
      .map(Number)
      .findLast((one) => isBoundTo(native, one, local));
    if (fd === undefined) throw new P2pdError("unsupported", `${what}: its socket cannot be found`);
    native.receiveBuffer(fd, RECEIVE_BUFFER);
    if (device !== undefined) native.bindToDevice(fd, familyOf(local.ip), device);
  } catch (thrown) {
    // A platform without these calls, or a system that grants nothing: its own size serves too.
    if (device === undefined) return;
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
