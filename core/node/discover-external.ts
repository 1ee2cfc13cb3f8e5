/**
 * Finds under which external address each address of a NIC is seen, by STUN in both families at once. What
 * routes follow from that is decided in `compose-routes.ts`.
 */
import { P2pdError } from "../errors.ts";
import { type Family, scopeOf } from "../ip.ts";
import type { Nic, World } from "../net/world.ts";
import { type AskOptions, askServers } from "../stun/ask-servers.ts";
import type { StunServer } from "../stun/server-url.ts";
import { routableAddresses } from "./compose-routes.ts";
import { isContested } from "./default-nic.ts";

export interface DiscoverOptions {
  readonly stunServers: readonly StunServer[];
  /** Milliseconds for everything; 3,000 unless given. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** So that a NIC with a large block does not flood the servers; a block's other addresses need no asking. */
const MAX_ASKED = 8;

/**
 * External address by NIC address, as far as servers answered. UDP is asked first, TCP where that was silent.
 * Rejects with `aborted` only.
 */
export async function discoverExternal(
  world: World,
  nics: readonly Nic[],
  nic: Nic,
  options: DiscoverOptions,
): Promise<ReadonlyMap<string, string>> {
  const seen = new Map<string, string>();
  if (options.stunServers.length === 0) return seen;
  const questions = ([4, 6] as const).flatMap((family) =>
    addressesToAsk(nics, nic, family).map(async (ip) => {
      const external = await askExternal(world, options, {
        local: { ip, port: 0 },
        family,
        ...(isContested(nics, family) && nic.metric[family] !== undefined ? { device: nic.name } : {}),
      });
      if (external !== undefined) seen.set(ip, external);
    }),
  );
  await Promise.all(questions);
  return seen;
}

/** Addresses to ask from. Where only other NICs have a default route, packets would leave by those and say nothing of this one. */
export function addressesToAsk(nics: readonly Nic[], nic: Nic, family: Family): readonly string[] {
  const routed = nics.some((other) => other.up && other.metric[family] !== undefined);
  if (routed && nic.metric[family] === undefined) return [];
  return routableAddresses(nic, family)
    .map(({ ip }) => ip)
    .filter((ip) => !["loopback", "link-local"].includes(scopeOf(ip)))
    .slice(0, MAX_ASKED);
}

async function askExternal(
  world: World,
  { stunServers, timeoutMs = 3000, signal }: DiscoverOptions,
  from: Pick<AskOptions, "local" | "family" | "device">,
): Promise<string | undefined> {
  for (const protocol of ["udp", "tcp"] as const) {
    const servers = stunServers.filter(({ transport = protocol }) => transport === protocol);
    if (servers.length === 0) continue;
    try {
      const answer = await askServers(world, {
        ...from,
        servers,
        protocol,
        timeoutMs: timeoutMs / 2,
        ...(signal === undefined ? {} : { signal }),
      });
      if (answer.external !== undefined && isExternal(answer.external)) return answer.external;
    } catch (thrown) {
      // A port or a family that is not to be had leaves the address unknown, as silence does.
      if (thrown instanceof P2pdError && thrown.code === "aborted") throw thrown;
    }
  }
  return undefined;
}

function isExternal(ip: string): boolean {
  const scope = scopeOf(ip);
  return scope === "public" || scope === "private" || scope === "shared";
}
