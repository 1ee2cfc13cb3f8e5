/**
 * Whether a forwarded port can be reached from the internet, as far as addresses tell: a router that stands behind
 * another NAT forwards ports that nobody outside can use.
 */
import { scopeOf } from "../ip.ts";

export interface ExternalVerdict {
  /** Another NAT stands above the router; undefined where that cannot be told. */
  readonly doubleNat: boolean | undefined;
  readonly why: string;
}

/**
 * @param routerIp the router's own external address
 * @param seenIp what servers on the internet see
 * @param lacksAddress the router says that it has no public address
 */
export function judgeExternal(
  routerIp: string | undefined,
  seenIp: string | undefined,
  lacksAddress = false,
): ExternalVerdict {
  if (lacksAddress && seenIp !== undefined) {
    const why = `the router has no public address itself, yet servers see ${seenIp}: another NAT stands between`;
    return { doubleNat: true, why };
  }
  if (routerIp === undefined) return { doubleNat: undefined, why: "the router does not tell its address" };
  const scope = scopeOf(routerIp);
  if (scope === "shared")
    return { doubleNat: true, why: `the router's own address ${routerIp} belongs to a carrier's NAT` };
  if (scope !== "public")
    return { doubleNat: true, why: `the router's own address ${routerIp} is not one of the internet` };
  if (seenIp === undefined)
    return { doubleNat: undefined, why: `no server has told yet whether we are seen as ${routerIp}` };
  if (seenIp === routerIp)
    return { doubleNat: false, why: `servers see the router's own address ${routerIp}` };
  return {
    doubleNat: true,
    why: `the router's own address is ${routerIp}, but servers see ${seenIp}: another NAT stands between`,
  };
}
