/** What the transports of a simulated machine need of it, and the rules of binding that they share. */
import { P2pdError } from "../../core/errors.ts";
import { type Endpoint, familyOf } from "../../core/ip.ts";
import type { SeededRandom } from "../nat/seeded-random.ts";
import type { SimPacket } from "./packet.ts";
import type { Scheduler } from "./scheduler.ts";

/** What the transports need of their machine. */
export interface HostStack {
  readonly name: string;
  readonly scheduler: Scheduler;
  readonly random: SeededRandom;
  /** The address that packets to `ip` get as their source; undefined where there is no route. */
  sourceFor(ip: string, device: string | undefined): string | undefined;
  /** Whether this machine has the address now. */
  hasAddress(ip: string): boolean;
  hasDevice(name: string): boolean;
  /** Whether packets to `ip` stay inside. */
  isOwn(ip: string): boolean;
  send(packet: SimPacket, device?: string): void;
}

/** Where systems hand out ports from. */
export const EPHEMERAL: readonly [low: number, high: number] = [32_768, 60_999];

/** Whether a socket at `bound` gets what is sent to `to`. */
export function isBoundTo(bound: Endpoint, to: Endpoint): boolean {
  return (
    bound.port === to.port &&
    (bound.ip === to.ip || (isAny(bound.ip) && familyOf(bound.ip) === familyOf(to.ip)))
  );
}

/** Whether two sockets want the same place. */
export function overlaps(a: Endpoint, b: Endpoint): boolean {
  return isBoundTo(a, b) || isBoundTo(b, a);
}

/** Whether an address means all of the machine's. */
export function isAny(ip: string): boolean {
  return ip === "0.0.0.0" || ip === "::";
}

/** Throws `unreachable` if the machine has no such address or device. */
export function checkLocal(host: HostStack, local: Endpoint, device: string | undefined, what: string): void {
  if (!isAny(local.ip) && !host.isOwn(local.ip)) {
    throw new P2pdError(
      "unreachable",
      `${what}: the local address is not one of this machine (EADDRNOTAVAIL)`,
    );
  }
  if (device !== undefined && !host.hasDevice(device)) {
    throw new P2pdError("unreachable", `${what}: there is no NIC of that name (ENODEV)`);
  }
}
