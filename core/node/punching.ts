/**
 * What the node brings to its punches: the NIC addresses they leave from with what is known of the NATs in front of
 * them, the addresses of the STUN servers, looked up ahead so that no punch waits for a name, and ports that are kept
 * warm, so that none waits for a server.
 */
import type { PunchPlace } from "../connect/punch-pairs.ts";
import type { PunchSetting } from "../connect/punch-sides.ts";
import type { Strategy } from "../connect/race.ts";
import { WarmPorts } from "../connect/warm-ports.ts";
import { doubtOf } from "../connect/relay-outlook.ts";
import { type Endpoint, type Family, scopeOf } from "../ip.ts";
import { gatherNeeds } from "../nat/gather-needs.ts";
import { keepAliveFor } from "../nat/mapping-life.ts";
import type { NatKind, NatProfile } from "../nat/nat-kind.ts";
import { PUNCH_BUDGET } from "../nat/punch-budget.ts";
import type { Credentials, World } from "../net/world.ts";
import type { StunServer } from "../stun/server-url.ts";
import type { Address } from "../wire/address.ts";
import { isContested } from "./default-nic.ts";
import { addressesToAsk } from "./discover-external.ts";
import { MappingLives } from "./mapping-lives.ts";
import type { NatWatch } from "./nat-watch.ts";
import type { Network } from "./network.ts";

export interface PunchingOptions {
  readonly credentials: Credentials;
  readonly stunServers: readonly StunServer[];
  readonly mqttBrokers: readonly string[];
  readonly strategies: readonly Strategy[];
  /** As `PUNCH_BUDGET` has it unless given. */
  readonly punchMaxPackets?: number;
  readonly punchMaxSockets?: number;
  readonly punchMaxMs?: number;
  readonly network: Pick<Network, "used" | "recheck">;
  readonly nat: Pick<NatWatch, "profile" | "profileOf" | "findings">;
  /** Ports that routers forward to us. */
  readonly forwarded: () => readonly unknown[];
}

/** A measurement that is under way is worth so long a wait. */
const PROFILE_WAIT_MS = 1000;
const QUIET_MS = 300;
const MAX_SERVERS = 4;
/** Names of servers are looked up again after this. */
const LOOKED_UP_MS = 600_000;

/** A public address is hardly translated; that it is filtered is assumed. */
const FIREWALLED: NatKind = {
  type: "symmetric-firewall",
  mapping: "endpoint-independent",
  filtering: "address-and-port-dependent",
  delta: { type: "equal", value: 0 },
  portPreservation: true,
  portParity: true,
};

interface LookedUp {
  readonly atMs: number;
  readonly endpoints: Promise<readonly Endpoint[]>;
}

export class Punching {
  readonly #world: World;
  readonly #options: PunchingOptions;
  readonly #servers = new Map<Family, LookedUp>();
  readonly #warm: WarmPorts;
  readonly #lives: MappingLives;

  constructor(world: World, options: PunchingOptions) {
    this.#world = world;
    this.#options = options;
    this.#lives = new MappingLives(world, (family) => this.#serversOf(family));
    this.#warm = new WarmPorts(world, {
      servers: (family) => this.#serversOf(family),
      refreshMs: ({ localIp }) => {
        const lifeMs = this.#lives.lifeOf(localIp);
        return lifeMs === undefined ? undefined : keepAliveFor(lifeMs);
      },
      moved: () => options.network.recheck(),
    });
    for (const family of [4, 6] as const) void this.#serversOf(family);
  }

  /**
   * How long connections that peers ask for should wait, in milliseconds: behind a NAT whose next port depends on the
   * last packet of this host, what they send would take the ports that a punch has foreseen.
   */
  get quietMs(): number {
    const kinds = this.#known.flatMap(({ udp, tcp }) => [udp, tcp]);
    return kinds.some(({ delta }) => delta.type === "dependent") ? QUIET_MS : 0;
  }

  /**
   * How long asking a peer to connect to us should wait, in milliseconds: where nothing comes in unasked the offer goes
   * first, as brokers hold a message back until the one before has been acknowledged.
   */
  get reverseDelayMs(): number {
    const isFiltered = ({ udp }: NatProfile): boolean => udp.type !== "open-internet";
    const isShut = this.#known.length > 0 && this.#known.every(isFiltered);
    return isShut && this.#options.forwarded().length === 0 ? QUIET_MS : 0;
  }

  /** Why a direct path to a peer has little chance or takes a long search, as far as can be told before a punch. */
  async doubt(peer: Address): Promise<string | undefined> {
    return this.#options.forwarded().length > 0 ? undefined : doubtOf(await this.#places(), peer);
  }

  get #known(): readonly NatProfile[] {
    return this.#options.nat.findings.flatMap(({ detection }) => detection?.profile ?? []);
  }

  /** What every punch of the node needs. */
  get setting(): PunchSetting & { readonly places: () => Promise<readonly PunchPlace[]> } {
    const {
      credentials,
      punchMaxPackets: packets = PUNCH_BUDGET.packets,
      punchMaxSockets: sockets = PUNCH_BUDGET.sockets,
      punchMaxMs: ms = PUNCH_BUDGET.ms,
    } = this.#options;
    return {
      world: this.#world,
      credentials,
      servers: (family) => this.#serversOf(family),
      warm: ({ ip, device }) => this.#warm.take(ip, device),
      keepAliveMs: ({ ip }) => keepAliveFor(this.#lives.lifeOf(ip)),
      budget: { packets, sockets, ms },
      places: () => this.#places(),
    };
  }

  /** By address; looked up from the start on. */
  #serversOf(family: Family): Promise<readonly Endpoint[]> {
    const now = this.#world.time.now();
    const known = this.#servers.get(family);
    if (known !== undefined && now - known.atMs < LOOKED_UP_MS) return known.endpoints;
    const endpoints = this.#lookUp(family);
    this.#servers.set(family, { atMs: now, endpoints });
    void endpoints.then((found) => {
      if (found.length === 0) this.#servers.delete(family);
    });
    return endpoints;
  }

  /** One address of each NIC and family, those of the best NICs first. */
  #places(): Promise<readonly PunchPlace[]> {
    return Promise.all(
      this.#addresses.map(async (address) => ({ ...address, profile: await this.#profile(address.ip) })),
    );
  }

  /**
   * After the networks changed, or what is known of their NATs: keeps ports warm where one sample tells all, and measures
   * for how long mappings are kept.
   */
  update(): void {
    if (this.#world.openQuic === undefined) return;
    const { nat, strategies, mqttBrokers } = this.#options;
    const known = this.#addresses.flatMap(({ ip: localIp, device }) => {
      const { external, udp: kind } = nat.profileOf(localIp) ?? {};
      return external === undefined || kind === undefined ? [] : [{ localIp, device, external, kind }];
    });
    this.#lives.measure(known);
    const isPunching = strategies.includes("punch") && mqttBrokers.length > 0;
    this.#warm.keep(isPunching ? known.filter(({ kind }) => isToldByOneSample(kind)) : []);
  }

  /** How often paths over QUIC must show a sign of life, whichever NIC they leave by, in milliseconds. */
  get keepAliveMs(): number {
    const lives = this.#addresses.map(({ ip }) => this.#lives.lifeOf(ip));
    return lives.length === 0 ? keepAliveFor(undefined) : Math.min(...lives.map(keepAliveFor));
  }

  close(): void {
    this.#lives.close();
    this.#warm.close();
  }

  get #addresses(): readonly Omit<PunchPlace, "profile">[] {
    const all = this.#world.nics();
    return this.#options.network.used
      .filter(({ nic: { up, kind } }) => up && kind !== "loopback")
      .flatMap(({ nic }) =>
        ([4, 6] as const).flatMap((family) => {
          const [ip] = addressesToAsk(all, nic, family);
          const own = nic.addresses.find((address) => address.ip === ip);
          if (ip === undefined || own === undefined) return [];
          const isTied = isContested(all, family) && nic.metric[family] !== undefined;
          return [{ ip, prefixLength: own.prefixLength, device: isTied ? nic.name : undefined }];
        }),
      );
  }

  async #profile(ip: string): Promise<NatProfile | undefined> {
    let waited = (): void => undefined;
    const timer = this.#world.time.after(PROFILE_WAIT_MS, () => waited(), { background: true });
    const late = new Promise<undefined>((resolve) => {
      waited = () => resolve(undefined);
    });
    const found = await Promise.race([this.#options.nat.profile(ip), late]);
    timer.cancel();
    if (found !== undefined || scopeOf(ip) !== "public") return found;
    return { external: ip, udp: FIREWALLED, tcp: FIREWALLED };
  }

  async #lookUp(family: Family): Promise<readonly Endpoint[]> {
    const found = await Promise.all(
      this.#options.stunServers.slice(0, MAX_SERVERS).map(async ({ host, port }) => {
        const ips = await this.#world.lookup(host, family).catch(() => []);
        return ips.slice(0, 1).map((ip): Endpoint => ({ ip, port }));
      }),
    );
    return found.flat();
  }
}

function isToldByOneSample(kind: NatKind): boolean {
  const { samples, spare } = gatherNeeds(kind);
  return samples === 1 && spare === 0;
}
