/**
 * Which endpoints of a peer's address are worth a direct connect, the likeliest first. A pure decision: it knows
 * both addresses and our NICs, and opens nothing.
 */
import { type Endpoint, inPrefix, sameEndpoint, scopeOf } from "../ip.ts";
import type { Nic } from "../net/world.ts";
import type { Address } from "../wire/address.ts";
import type { DirectCandidate } from "./direct.ts";

/** An address line comes from others: it must not make us knock at more doors than this. */
export const MAX_DIRECT_CANDIDATES = 16;

/** Loopback for a peer on this machine, then addresses of networks we are in, then external, then other ones. */
export function directCandidates(
  peer: Address,
  own: { readonly machine: string; readonly nics: readonly Nic[] },
): readonly DirectCandidate[] {
  const sameMachine = peer.machine === own.machine;
  const here = own.nics.filter(({ up }) => up).flatMap(({ addresses }) => addresses);
  const candidates: DirectCandidate[] = [];
  const add = (ip: string, port: number, kind: string): void => {
    const scope = scopeOf(ip);
    if (scope === "unspecified" || scope === "multicast" || scope === "link-local") return;
    if (scope === "loopback" && !sameMachine) return;
    const endpoint: Endpoint = { ip, port };
    if (!candidates.some((known) => sameEndpoint(known.endpoint, endpoint)))
      candidates.push({ endpoint, kind });
  };
  if (sameMachine) {
    for (const { family, port } of peer.nics) add(family === 4 ? "127.0.0.1" : "::1", port, "this machine");
  }
  const isNear = (ip: string): boolean => here.some((own) => inPrefix(ip, own.ip, own.prefixLength));
  const near = peer.nics.filter(({ address }) => isNear(address));
  for (const { address, port } of near) add(address, port, "same network");
  for (const nic of peer.nics) {
    if (nic.external !== undefined) add(nic.external, nic.port, "external address");
  }
  for (const { address, port } of peer.nics) {
    if (hasFamily(address, own.nics)) add(address, port, "NIC address");
  }
  return candidates.slice(0, MAX_DIRECT_CANDIDATES);
}

/** A private address of a network we are not in may still have a route, over a VPN, if we have any of its family. */
function hasFamily(ip: string, nics: readonly Nic[]): boolean {
  const family = ip.includes(":") ? 6 : 4;
  return nics.some(
    ({ up, kind, addresses }) => up && kind !== "loopback" && addresses.some((own) => own.family === family),
  );
}
