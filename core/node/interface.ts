/**
 * A NIC with what was learnt of it: its routes (NIC addresses -> external addresses) per family. Programs
 * that use the library start here; `GET /p2p/ifs` shows the descriptions. What the NAT in front of it does is
 * found out elsewhere.
 */
import { P2pdError } from "../errors.ts";
import type { Family } from "../ip.ts";
import type { Nic, NicAddress, World } from "../net/world.ts";
import { composeRoutes } from "./compose-routes.ts";
import { defaultNic, isAlone, isContested } from "./default-nic.ts";
import { type DiscoverOptions, discoverExternal, type Seen } from "./discover-external.ts";
import type { Route, RouteDescription } from "./route.ts";

export interface InterfaceDescription {
  /** What the system knows it by: its name. */
  readonly id: string;
  readonly name: string;
  readonly mac: string;
  /** Position in the list of NICs. */
  readonly nic_no: number;
  /** The system's index. */
  readonly netiface_index: number;
  readonly kind: Nic["kind"];
  readonly mtu: number;
  readonly up: boolean;
  readonly addresses: readonly NicAddress[];
  /** Whether it is the NIC that the system prefers, per family. */
  readonly is_default: { readonly 2: boolean; readonly 10: boolean };
  readonly rp: { readonly 2: readonly RouteDescription[]; readonly 10: readonly RouteDescription[] };
}

export class Interface {
  /** By NIC address. */
  #seen: ReadonlyMap<string, Seen> = new Map();
  #isSilent = true;

  private constructor(
    private readonly world: World,
    private readonly nics: readonly Nic[],
    /** Position in the list of NICs. */
    readonly position: number,
    /** The NIC as it was when this object was made. */
    readonly nic: Nic,
  ) {}

  /**
   * Every NIC there is now, those without addresses included.
   * @param before an earlier list, whose external addresses count until servers are asked again
   */
  static list(world: World, before: readonly Interface[] = []): readonly Interface[] {
    const nics = world.nics();
    return nics.map((nic, position) => {
      const made = new Interface(world, nics, position, nic);
      const known = before.find(({ name }) => name === nic.name);
      if (known !== undefined) made.#seen = known.#seen;
      return made;
    });
  }

  /**
   * The NIC that the system prefers; on a machine without a network the loopback NIC.
   * @param family absent: IPv4, or IPv6 where there is no IPv4
   * @throws P2pdError `unavailable` if no NIC has an address
   */
  static default(world: World, family?: Family): Interface {
    const list = Interface.list(world);
    const families: readonly Family[] = family === undefined ? [4, 6] : [family];
    for (const candidate of families) {
      const found = list.find(({ nics, nic }) => defaultNic(nics, candidate) === nic);
      if (found !== undefined) return found;
    }
    const sort = family === undefined ? "address" : `IPv${family} address`;
    throw new P2pdError("unavailable", `no NIC is up and has an ${sort}; there are: ${namesOf(list)}`);
  }

  /** @throws P2pdError `bad-argument` if there is no NIC of that name */
  static named(world: World, name: string): Interface {
    const list = Interface.list(world);
    const found = list.find(({ nic }) => nic.name === name);
    if (found !== undefined) return found;
    throw new P2pdError("bad-argument", `there is no NIC named "${name}"; there are: ${namesOf(list)}`);
  }

  get name(): string {
    return this.nic.name;
  }

  /**
   * Asks STUN servers, in both families at once, under which external addresses this NIC's addresses are seen.
   * What nobody answers stays as it was; it never rejects for that.
   * @returns this
   */
  async discover(options: DiscoverOptions): Promise<this> {
    const seen = await discoverExternal(this.world, this.nics, this.nic, options, this.#seen);
    this.#seen = new Map([...this.#seen, ...seen]);
    this.#isSilent = seen.size === 0;
    return this;
  }

  /** External address by NIC address, as far as servers have told. */
  get seen(): ReadonlyMap<string, string> {
    return new Map([...this.#seen].map(([ip, { external }]) => [ip, external]));
  }

  /** Whether no server has answered, the last time or ever. */
  get isSilent(): boolean {
    return this.#isSilent;
  }

  /** The routes of one family, the best first; empty if it has no address that can be used. */
  routes(family: Family): readonly Route[] {
    return composeRoutes(this.nic, family, {
      seen: this.seen,
      alone: isAlone(this.nics),
      contested: isContested(this.nics, family),
    });
  }

  /**
   * The best route.
   * @param family absent: IPv4, or IPv6 where there is no IPv4
   * @throws P2pdError `no-such-route`
   */
  route(family?: Family): Route {
    const families: readonly Family[] = family === undefined ? [4, 6] : [family];
    const [best] = families.flatMap((candidate) => this.routes(candidate));
    if (best !== undefined) return best;
    const state = this.nic.up ? "has no usable" : "is down and has no";
    const sort = family === undefined ? "" : ` IPv${family}`;
    throw new P2pdError("no-such-route", `${this.name} ${state}${sort} address`);
  }

  /** Whether it is the NIC that the system prefers. */
  isDefault(family: Family): boolean {
    return defaultNic(this.nics, family) === this.nic;
  }

  /** As `GET /p2p/ifs` shows it. */
  describe(): InterfaceDescription {
    const { name, mac, index, kind, mtu, up, addresses } = this.nic;
    return {
      id: name,
      name,
      mac,
      nic_no: this.position,
      netiface_index: index,
      kind,
      mtu,
      up,
      addresses,
      is_default: { 2: this.isDefault(4), 10: this.isDefault(6) },
      rp: {
        2: this.routes(4).map((route) => route.describe()),
        10: this.routes(6).map((route) => route.describe()),
      },
    };
  }
}

function namesOf(list: readonly Interface[]): string {
  return list.length === 0 ? "none" : list.map(({ name }) => name).join(", ");
}
