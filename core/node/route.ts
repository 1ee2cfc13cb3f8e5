/**
 * A route: addresses of a NIC and the external addresses they are seen under. Bound to an address and a port
 * it says where a socket is to be opened; opening it is the business of pipes and daemons.
 */
import { P2pdError } from "../errors.ts";
import type { Endpoint, Family } from "../ip.ts";
import type { Nic } from "../net/world.ts";
import { type IpRange, rangeHolds } from "./ip-range.ts";

export interface RangeDescription {
  readonly ip: string;
  readonly cidr: number;
  readonly af: 2 | 10;
}

/** NIC addresses that leave by one external address (or, for a block assigned to the NIC, by themselves). */
export interface RouteDescription {
  readonly af: 2 | 10;
  readonly nic_ips: readonly RangeDescription[];
  readonly ext_ips: readonly RangeDescription[];
}

/** Where to open a socket so that it uses a route. */
export interface BoundRoute {
  readonly route: Route;
  readonly local: Endpoint;
  /** Set where the address alone does not decide which NIC packets leave by. */
  readonly device?: string;
}

export class Route {
  /**
   * @param nicIps the preferred address first; never empty
   * @param extIps empty as long as none is known
   * @param device name of the NIC where sockets must be tied to it
   */
  constructor(
    readonly nic: Nic,
    readonly family: Family,
    readonly nicIps: readonly IpRange[],
    readonly extIps: readonly IpRange[],
    private readonly device?: string,
  ) {}

  /** The family in the numbers of Linux, as the REST API has it: 2 is IPv4, 10 IPv6. */
  get af(): 2 | 10 {
    return this.family === 4 ? 2 : 10;
  }

  /**
   * Says where to open a socket.
   * @param port 0 for any free one
   * @param ip one of the NIC's addresses in this route; absent: the preferred one
   * @throws P2pdError `bad-argument`
   */
  bind(port = 0, ip = this.nicIps[0]?.ip ?? ""): BoundRoute {
    if (!Number.isInteger(port) || port < 0 || port > 65535) {
      throw new P2pdError("bad-argument", `a port is a whole number from 0 to 65535, not ${port}`);
    }
    if (!this.nicIps.some((range) => rangeHolds(range, ip))) {
      const known = this.nicIps.map((range) => `${range.ip}/${range.prefixLength}`).join(", ");
      throw new P2pdError(
        "bad-argument",
        `"${ip}" is not an address of this route of ${this.nic.name}: ${known}`,
      );
    }
    const local = { ip, port };
    return this.device === undefined ? { route: this, local } : { route: this, local, device: this.device };
  }

  /** As `GET /p2p/ifs` shows it. */
  describe(): RouteDescription {
    const { af } = this;
    const show = ({ ip, prefixLength }: IpRange): RangeDescription => ({ ip, cidr: prefixLength, af });
    return { af, nic_ips: this.nicIps.map(show), ext_ips: this.extIps.map(show) };
  }
}
