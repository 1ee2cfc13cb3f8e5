/**
 * Which of a NIC's addresses comes first. Everything that takes "the" address of a NIC takes the first of
 * its family.
 */
import { scopeOf } from "../ip.ts";
import type { NicAddress } from "./world.ts";

const SCOPE_ORDER = ["public", "shared", "private", "loopback", "link-local", "multicast", "unspecified"];

/** IPv4 before IPv6, wide scopes before narrow ones, stable addresses before temporary ones; else as told. */
export function byPreference(a: NicAddress, b: NicAddress): number {
  if (a.family !== b.family) return a.family - b.family;
  const scope = SCOPE_ORDER.indexOf(scopeOf(a.ip)) - SCOPE_ORDER.indexOf(scopeOf(b.ip));
  return scope !== 0 ? scope : Number(a.temporary ?? false) - Number(b.temporary ?? false);
}
