/**
 * Finds under which external address each address of a NIC is seen, by STUN in both families at once. What
 * routes follow from that is decided in `compose-routes.ts`.
 */
import { pause } from "../connect/pause.ts";
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

/** How an address of a NIC is seen outside. */
export interface Seen {
  readonly external: string;
  /** What the answer came by. */
  readonly protocol: "udp" | "tcp";
}

/** So that a NIC with a large block does not flood the servers; a block's other addresses need no asking. */
const MAX_ASKED = 8;
/** UDP has the field for so long: its first datagram is lost, or all are. */
const UDP_ALONE_MS = 500;

/**
 * How each NIC address is seen, as far as servers answered. UDP is asked first and TCP beside it where that is silent: at
 * once where it was `before`, as whoever asks again may wait for the answer. Rejects with `aborted` only.
 */
export async function discoverExternal(
  world: World,
  nics: readonly Nic[],
  nic: Nic,
  options: DiscoverOptions,
  before: ReadonlyMap<string, Seen> = new Map(),
): Promise<ReadonlyMap<string, Seen>> {
  const seen = new Map<string, Seen>();
  if (options.stunServers.length === 0) return seen;
  const questions = ([4, 6] as const).flatMap((family) =>
    addressesToAsk(nics, nic, family).map(async (ip) => {
      const aloneMs = before.get(ip)?.protocol === "tcp" ? 0 : UDP_ALONE_MS;
      const found = await askExternal(world, options, aloneMs, {
        local: { ip, port: 0 },
        family,
        ...(isContested(nics, family) && nic.metric[family] !== undefined ? { device: nic.name } : {}),
      });
      if (found !== undefined) seen.set(ip, found);
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
  udpAloneMs: number,
  from: Pick<AskOptions, "local" | "family" | "device">,
): Promise<Seen | undefined> {
  const stopping = new AbortController();
  const stop = (): void => stopping.abort();
  signal?.addEventListener("abort", stop, { once: true });
  if (signal?.aborted === true) stop();
  const ask = async (protocol: "udp" | "tcp"): Promise<Seen> => {
    const servers = stunServers.filter(({ transport = protocol }) => transport === protocol);
    if (servers.length === 0) throw new P2pdError("unavailable", `no server speaks ${protocol}`);
    const asked = { ...from, servers, protocol, timeoutMs: timeoutMs / 2, signal: stopping.signal };
    const { external } = await askServers(world, asked);
    if (external === undefined || !isExternal(external))
      throw new P2pdError("unreachable", `no server tells over ${protocol}`);
    return { external, protocol };
  };
  try {
    const udp = ask("udp");
    const alone = pause(world, udpAloneMs, stopping.signal);
    const early = await Promise.race([udp, alone]).catch(() => undefined);
    return early ?? (await Promise.any([udp, ask("tcp")]));
  } catch {
    // A port or a family that is not to be had leaves the address unknown, as silence does.
    if (signal?.aborted === true)
      throw new P2pdError("aborted", "asking for external addresses was called off");
    return undefined;
  } finally {
    signal?.removeEventListener("abort", stop);
    stop();
  }
}

function isExternal(ip: string): boolean {
  const scope = scopeOf(ip);
  return scope === "public" || scope === "private" || scope === "shared";
}
