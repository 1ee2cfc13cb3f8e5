/**
 * Keeps the node's listening port open on its routers: one search for each address of a NIC with a gateway, and what
 * came of it for the address line, the status and the API. The protocols are in `core/portmap/`.
 */
import { type P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, type Family, inPrefix, scopeOf } from "../ip.ts";
import type { Log } from "../log.ts";
import type { World } from "../net/world.ts";
import { Forwarding } from "../portmap/forwarding.ts";
import { type ExternalVerdict, judgeExternal } from "../portmap/judge-external.ts";
import type { Mapping, Place, PortmapCounters, Wish } from "../portmap/mapping.ts";
import { isContested } from "./default-nic.ts";
import type { Interface } from "./interface.ts";
import type { Listener } from "./listener.ts";
import type { StatusPart } from "./node-api.ts";
import type { Network } from "./network.ts";
import type { NodeConfig } from "./node-config.ts";
import { PortMappingRecord } from "./port-mapping-record.ts";
import { describePortMapping, type PortMappingPlace, type PortMappingReport } from "./port-mapping-report.ts";

/** So that a machine with many addresses does not fill a router's table. */
const MAX_PLACES = 8;
const MAX_PLACES_PER_NIC6 = 2;

export interface PortMappingOptions {
  readonly config: Pick<NodeConfig, "dataDir" | "portMapping">;
  /** What the node listens on; without QUIC there is no UDP. */
  readonly listener: Pick<Listener, "port" | "has" | "quic">;
  readonly log: Log;
  /** Tells the NICs that the node uses, and is told when a router has another address than before. */
  readonly network: Pick<Network, "used" | "recheck">;
  /** Told when a forwarded port came, went or moved. */
  readonly changed: () => void;
}

/** A forwarded port as an address line shows it. */
export interface ForwardedEndpoint {
  readonly nic: string;
  readonly family: Family;
  /** The NIC's address that it leads to. */
  readonly internalIp: string;
  readonly external: Endpoint;
  /** Anybody may connect to it, as far as is known: no other NAT stands above the router. */
  readonly isOpen: boolean;
}

export class PortMapping {
  readonly #world: World;
  readonly #options: PortMappingOptions;
  readonly #record: PortMappingRecord | undefined;
  readonly #counters: PortmapCounters = { sent: 0, requests: 0, answered: 0, ignored: 0 };
  readonly #forwardings = new Map<string, Forwarding>();
  readonly #wishes: readonly Wish[];
  /** Forwarded ports that peers from the internet connected by, as `verifiedKey` names them. */
  readonly #verified = new Set<string>();
  #told = "";
  #toldIps = "";
  #isClosed = false;

  /** Begins at once, unless the configuration switches it off. */
  constructor(world: World, options: PortMappingOptions) {
    this.#world = world;
    this.#options = options;
    const { config, listener } = options;
    const { port } = listener;
    const transports = listener.quic === undefined ? (["tcp"] as const) : (["tcp", "udp"] as const);
    this.#wishes = transports.map((transport) => ({ transport, internalPort: port, externalPort: port }));
    if (!config.portMapping) return;
    this.#record = new PortMappingRecord(config.dataDir, world.time.wallMs());
    this.update();
  }

  /** To be called after NICs, addresses or gateways changed. */
  update(): void {
    if (this.#record === undefined || this.#isClosed) return;
    const { listener, network } = this.#options;
    const families = ([4, 6] as const).filter((family) => listener.has(family));
    const places = placesOf(network.used, families);
    const keys = new Set(places.map(keyOf));
    for (const [key, forwarding] of this.#forwardings) {
      if (keys.has(key)) continue;
      this.#forwardings.delete(key);
      void forwarding.close(true);
    }
    for (const place of places) {
      if (this.#forwardings.has(keyOf(place))) continue;
      const forwarding = new Forwarding(this.#world, {
        place,
        wishes: this.#wishes,
        leftovers: this.#record.at(place.gateway, place.ip),
        counters: this.#counters,
        changed: () => this.#changed(),
      });
      this.#forwardings.set(keyOf(place), forwarding);
    }
  }

  /** Renews what routers hold for us at once: one that was away has forgotten it. */
  networkIsBack(): void {
    for (const forwarding of this.#forwardings.values())
      if (forwarding.mappings.length > 0) void forwarding.refresh();
  }

  /** Asks every router anew; resolves when all have answered or been given up. */
  async refresh(): Promise<PortMappingReport> {
    this.update();
    await Promise.all([...this.#forwardings.values()].map((forwarding) => forwarding.refresh()));
    return this.report();
  }

  /** A connection came to our listening port: from the internet to a private address only a forwarded port leads. */
  arrived(local: Endpoint, remote: Endpoint): void {
    if (scopeOf(remote.ip) !== "public") return;
    const found = [...this.#forwardings.values()].find(({ place }) => place.ip === local.ip);
    if (found === undefined || found.mappings.length === 0) return;
    // Over IPv6, and where networks are joined otherwise, a neighbour has a public address too.
    if (inPrefix(remote.ip, found.place.ip, found.place.prefixLength)) return;
    this.#verified.add(verifiedKey(found));
  }

  /** What a peer on the internet may connect to. */
  endpoints(): readonly ForwardedEndpoint[] {
    const all = [...this.#forwardings.values()].flatMap((forwarding) => {
      const { place, mappings } = forwarding;
      const isDouble = this.#verdictOn(forwarding).doubleNat === true;
      return mappings.flatMap(({ externalIp, externalPort }): ForwardedEndpoint[] => {
        if (externalIp === undefined || scopeOf(externalIp) !== "public") return [];
        const { nic, family, ip: internalIp } = place;
        const isOpen = this.#verified.has(verifiedKey(forwarding)) || !isDouble;
        return [{ nic, family, internalIp, external: { ip: externalIp, port: externalPort }, isOpen }];
      });
    });
    const key = ({ nic, internalIp, external }: ForwardedEndpoint): string =>
      `${nic} ${internalIp} ${external.ip} ${external.port}`;
    return [...new Map(all.map((endpoint) => [key(endpoint), endpoint])).values()];
  }

  report(): PortMappingReport {
    const places = [...this.#forwardings.values()].map((forwarding) => this.#placeReport(forwarding));
    return {
      state: this.#record === undefined ? "off" : "on",
      places,
      packets: { ...this.#counters },
    };
  }

  /** What follows for those who want to reach the node, in words; nothing where no router is asked. */
  get advice(): readonly string[] {
    const report = this.report();
    return report.places.length === 0 ? [] : describePortMapping(report);
  }

  get status(): StatusPart {
    const report = this.report();
    const detail = describePortMapping(report).join("; ");
    if (report.state === "off") return { part: "portmap", state: "off", detail };
    const isMapped = report.places.some(({ mappings }) => mappings.length > 0);
    const isSearching = report.places.some(({ state }) => state === "searching");
    return { part: "portmap", state: isMapped ? "up" : isSearching ? "starting" : "down", detail };
  }

  /** Ends what routers hold for us; resolves when they have, or in a second. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#forwardings.values()].map((forwarding) => forwarding.close()));
    this.#note();
  }

  #changed(): void {
    this.#note();
    const ips = [...this.#forwardings.values()].map(({ externalIp }) => externalIp ?? "").join(" ");
    const told = JSON.stringify(this.report().places.map(({ state, mappings }) => [state, mappings]));
    const moved = this.#toldIps !== "" && ips !== this.#toldIps;
    this.#toldIps = ips;
    if (told === this.#told || this.#isClosed) return;
    this.#told = told;
    if (moved) this.#options.network.recheck();
    this.#options.changed();
  }

  #note(): void {
    const forwardings = [...this.#forwardings.values()];
    try {
      this.#record?.put(
        forwardings.map(({ place }) => place),
        forwardings.flatMap(({ onRouter }) => onRouter),
        this.#world.time.wallMs(),
      );
    } catch (thrown) {
      const { message }: P2pdError = toP2pdError(thrown);
      this.#options.log.warn(message);
    }
  }

  #placeReport(forwarding: Forwarding): PortMappingPlace {
    const { place, mappings, externalIp, outcomes, isSearching, mappedAfterMs } = forwarding;
    const renewsInMs = forwarding.renewsInMs();
    const { nic, family, ip, gateway } = place;
    const verdict = this.#verdictOn(forwarding);
    const isMapped = mappings.length > 0;
    return {
      nic,
      family,
      ip,
      gateway,
      state: isSearching ? "searching" : isMapped ? "mapped" : "none",
      mappings: mappings.map(forwardedPort),
      ...(externalIp === undefined ? {} : { externalIp }),
      ...(verdict.doubleNat === undefined ? {} : { doubleNat: verdict.doubleNat }),
      reachable: !isMapped
        ? "none"
        : this.#verified.has(verifiedKey(forwarding))
          ? "verified"
          : reachOf(verdict.doubleNat),
      why: verdict.why,
      outcomes,
      ...(mappedAfterMs === undefined ? {} : { mappedAfterMs }),
      ...(renewsInMs === undefined ? {} : { renewsInMs }),
    };
  }

  #verdictOn({ place, externalIp, lacksAddress }: Forwarding): ExternalVerdict {
    return place.family === 6 ? PIN_HOLE : judgeExternal(externalIp, this.#seenIp(place), lacksAddress);
  }

  /** What servers on the internet see of a place. */
  #seenIp({ nic, family, ip }: Place): string | undefined {
    return this.#options.network.used
      .filter(({ name }) => name === nic)
      .flatMap((used) => used.routes(family))
      .find(({ nicIps }) => nicIps.some((range) => range.ip === ip))?.extIps[0]?.ip;
  }
}

const PIN_HOLE = { doubleNat: false, why: "a pin hole leads to the address itself" } as const;

function reachOf(doubleNat: boolean | undefined): "no" | "likely" | "unknown" {
  if (doubleNat === undefined) return "unknown";
  return doubleNat ? "no" : "likely";
}

function forwardedPort({
  protocol,
  transport,
  internalIp,
  internalPort,
  externalIp,
  externalPort,
  lifetimeSeconds,
}: Mapping): PortMappingPlace["mappings"][number] {
  return {
    protocol,
    transport,
    internal: { ip: internalIp, port: internalPort },
    external: { ...(externalIp === undefined ? {} : { ip: externalIp }), port: externalPort },
    lifetimeSeconds,
  };
}

/** Addresses behind a gateway that may need a port opened: private IPv4 ones, public IPv6 ones. */
function placesOf(interfaces: readonly Interface[], families: readonly Family[]): readonly Place[] {
  const nics = interfaces.map(({ nic }) => nic);
  const places = interfaces.flatMap((used) =>
    families.flatMap((family): Place[] => {
      const { nic } = used;
      const gateway = nic.gateway[family] ?? "";
      if (gateway === "" || nic.kind === "loopback") return [];
      const isPublic = family === 6;
      const own = used
        .routes(family)
        .flatMap(({ nicIps }) => nicIps.slice(0, 1).map(({ ip }) => ip))
        .filter((ip) => (scopeOf(ip) === "public") === isPublic)
        .slice(0, isPublic ? MAX_PLACES_PER_NIC6 : 1);
      // An address alone does not say by which NIC a link-local gateway is reached, nor one of several defaults.
      const device = isContested(nics, family) || scopeOf(gateway) === "link-local";
      return own.map((ip) => {
        const prefixLength = nic.addresses.find((address) => address.ip === ip)?.prefixLength;
        return {
          nic: nic.name,
          family,
          ip,
          prefixLength: prefixLength ?? (family === 4 ? 32 : 128),
          gateway,
          ...(device ? { device: nic.name } : {}),
        };
      });
    }),
  );
  return places.slice(0, MAX_PLACES);
}

/** What a peer has proved holds for this external endpoint alone. */
function verifiedKey({ place, mappings }: Forwarding): string {
  const [first] = mappings;
  return `${keyOf(place)} ${first?.externalIp ?? ""} ${first?.externalPort ?? ""}`;
}

function keyOf({ nic, ip, gateway }: Place): string {
  return `${nic} ${ip} ${gateway}`;
}
