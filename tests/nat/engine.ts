/**
 * A router in thought: given its settings, the time and the endpoints of a packet, says what becomes of the
 * packet. No packets, sockets or clocks: the NAT box of the laboratory and the simulator bring those. One
 * engine serves one address family; an IPv6 firewall is an engine of its own (`ipv6Settings`).
 */
import type { Endpoint } from "../../core/ip.ts";
import { admits, keepSession, MappingTable, sessionWith } from "./mapping-table.ts";
import type { Mapping } from "./mapping-table.ts";
import { createPortAllocator } from "./port-allocator.ts";
import type { PortAllocator } from "./port-allocator.ts";
import { seededRandom } from "./seeded-random.ts";
import { newSession, noteSession } from "./session.ts";
import type { NatProtocol, SessionState, TcpFlags } from "./session.ts";
import type { NatSettings, ProtocolSettings } from "./settings.ts";

/** What the engine sees of a packet. For ICMP echo both ports are the identifier. */
export interface NatPacket {
  readonly protocol: NatProtocol;
  readonly source: Endpoint;
  readonly destination: Endpoint;
  /** Of a TCP segment. */
  readonly flags?: TcpFlags;
}

export type Verdict =
  /** Goes on in its direction with these endpoints. */
  | { readonly action: "forward"; readonly source: Endpoint; readonly destination: Endpoint }
  /** Came from inside and goes back inside with these endpoints. */
  | { readonly action: "hairpin"; readonly source: Endpoint; readonly destination: Endpoint }
  | { readonly action: "drop"; readonly reason: DropReason }
  /** Is dropped, and the sender of the SYN hears so. */
  | { readonly action: "reject"; readonly with: "rst" | "icmp"; readonly reason: DropReason };

export type DropReason = "blocked" | "no-mapping" | "filtered" | "no-state" | "table-full" | "no-hairpinning";

/** One mapping as `table` shows it. */
export interface TableEntry {
  readonly protocol: NatProtocol;
  readonly internal: Endpoint;
  readonly external: Endpoint;
  readonly forwarded: boolean;
  readonly sessions: readonly {
    readonly remote: Endpoint;
    readonly state: SessionState;
    readonly outbound: boolean;
    readonly expiresInMs: number;
  }[];
}

export interface NatEngine {
  readonly settings: NatSettings;
  /** A packet from an inside host. `now`: milliseconds that never run backwards. */
  outbound(now: number, packet: NatPacket): Verdict;
  /** A packet from outside. */
  inbound(now: number, packet: NatPacket): Verdict;
  /**
   * An ICMP error about a packet that went out as `source` → `destination`: the inside endpoint it was from;
   * undefined when this router has no such session.
   */
  internalOf(
    now: number,
    protocol: NatProtocol,
    source: Endpoint,
    destination: Endpoint,
  ): Endpoint | undefined;
  /** An inside host's ICMP error about a packet that came from `remote`: what its endpoint is called outside. */
  externalOf(now: number, protocol: NatProtocol, internal: Endpoint, remote: Endpoint): Endpoint | undefined;
  /** Forwards an external port as UPnP and its like do; false if the port is another host's. */
  forwardPort(
    now: number,
    protocol: "udp" | "tcp",
    port: number,
    internal: Endpoint,
    lifetimeMs: number,
  ): boolean;
  /** Ends a forwarding; false if there was none. */
  unforwardPort(now: number, protocol: "udp" | "tcp", port: number): boolean;
  /** The router's public address. */
  readonly externalIp: string;
  /** A new public address; all state of the old one is gone. */
  setExternalIp(ip: string): void;
  /** Forgets everything, as a power cut does. */
  reboot(): void;
  /** Lets time pass without a packet: background mappings are made, expired state goes. */
  advance(now: number): void;
  table(now: number): readonly TableEntry[];
  /** How many packets met which fate. */
  readonly counts: ReadonlyMap<string, number>;
}

const SWEEP_EVERY_MS = 1000;
/** Background mappings made in one go at most, after a long silence. */
const MAX_BACKGROUND_BURST = 10_000;

/** The settings under which the same engine is this router's IPv6 firewall. */
export function ipv6Settings(settings: NatSettings): NatSettings {
  const { mode, filtering } = settings.ipv6;
  const plain = (protocol: ProtocolSettings): ProtocolSettings => ({ ...protocol, filtering });
  return { ...settings, mode, udp: plain(settings.udp), tcp: plain(settings.tcp), backgroundPerSecond: 0 };
}

export function createNatEngine(settings: NatSettings, publicIp: string): NatEngine {
  const random = seededRandom(settings.seed);
  const backgroundRandom = random.fork("background");
  const table = new MappingTable();
  const counts = new Map<string, number>();
  const icmp: ProtocolSettings = { ...settings.udp, delta: { kind: "equal" }, blocked: false };
  const rules: Readonly<Record<NatProtocol, ProtocolSettings>> = {
    udp: settings.udp,
    tcp: settings.tcp,
    icmp,
  };
  let externalIp = publicIp;
  let allocators = newAllocators(0);
  let boots = 0;
  let nextSweep = Number.NEGATIVE_INFINITY;
  let nextBackground: number | undefined;

  function newAllocators(boot: number): Record<NatProtocol, PortAllocator> {
    const allocator = (protocol: NatProtocol): PortAllocator =>
      createPortAllocator(
        rules[protocol].delta,
        protocol === "icmp" ? [0, 65535] : settings.ports,
        random.fork(`${protocol} ${boot}`),
      );
    return { udp: allocator("udp"), tcp: allocator("tcp"), icmp: allocator("icmp") };
  }

  function count(fate: string): void {
    counts.set(fate, (counts.get(fate) ?? 0) + 1);
  }

  function drop(reason: DropReason): Verdict {
    count(reason);
    return { action: "drop", reason };
  }

  /** The mapping that a packet from `internal` to `remote` leaves by, if there is one. */
  function findMapping(
    now: number,
    protocol: NatProtocol,
    internal: Endpoint,
    remote: Endpoint,
  ): Mapping | undefined {
    const forwarded = table.byInternal(protocol, internal, "forwarded", now);
    return forwarded ?? table.byInternal(protocol, internal, scopeOf(protocol, remote), now);
  }

  function scopeOf(protocol: NatProtocol, remote: Endpoint): string {
    return MappingTable.scopeOf(
      settings.mode === "nat" ? rules[protocol].mapping : "endpoint-independent",
      remote,
    );
  }

  function makeMapping(
    now: number,
    protocol: NatProtocol,
    internal: Endpoint,
    remote: Endpoint,
  ): Mapping | undefined {
    if (table.size >= settings.maxMappings) return undefined;
    let external = internal;
    if (settings.mode === "nat") {
      const isFree = (port: number): boolean =>
        table.byExternal(protocol, { ip: externalIp, port }, now) === undefined;
      const port = allocators[protocol].allocate(internal.ip, internal.port, isFree);
      if (port === undefined) return undefined;
      external = { ip: externalIp, port };
    }
    const scope = scopeOf(protocol, remote);
    const sessions: Mapping["sessions"] = new Map();
    const mapping = {
      protocol,
      internal,
      external,
      scope,
      sessions,
      aliases: [],
      forwardedUntil: Number.NEGATIVE_INFINITY,
    };
    table.add(mapping);
    return mapping;
  }

  function note(
    now: number,
    mapping: Mapping,
    remote: Endpoint,
    flags: TcpFlags | undefined,
    outbound: boolean,
  ): void {
    const known = sessionWith(mapping, remote, now);
    const session = known ?? newSession(remote);
    const refresh = outbound || settings.inboundRefresh;
    noteSession(session, mapping.protocol, outbound, flags, now, refresh, settings.timeouts);
    if (known !== undefined || !(refresh || mapping.protocol === "tcp")) return;
    if (!keepSession(mapping, session) || outbound) return;
    if (findMapping(now, mapping.protocol, mapping.internal, remote) === undefined) {
      table.alias(mapping, scopeOf(mapping.protocol, remote));
    }
  }

  function startsTcp(flags: TcpFlags | undefined): boolean {
    return flags !== undefined && flags.syn && !flags.ack && !flags.rst;
  }

  function outbound(now: number, packet: NatPacket): Verdict {
    advance(now);
    const { protocol, source, destination, flags } = packet;
    if (rules[protocol].blocked) return drop("blocked");
    if (settings.mode === "open") return pass("out", source, destination);
    const hairpin = settings.mode === "nat" && destination.ip === externalIp;
    if (hairpin && !settings.hairpinning) return drop("no-hairpinning");
    let mapping = findMapping(now, protocol, source, destination);
    const session = mapping === undefined ? undefined : sessionWith(mapping, destination, now);
    if (protocol === "tcp" && session === undefined && !startsTcp(flags)) return drop("no-state");
    mapping ??= makeMapping(now, protocol, source, destination);
    if (mapping === undefined) return drop("table-full");
    note(now, mapping, destination, flags, true);
    if (!hairpin) return pass("out", mapping.external, destination);
    const inside = inbound(now, { ...packet, source: mapping.external });
    return inside.action === "forward" ? { ...inside, action: "hairpin" } : inside;
  }

  function inbound(now: number, packet: NatPacket): Verdict {
    advance(now);
    const { protocol, source, destination, flags } = packet;
    if (rules[protocol].blocked) return drop("blocked");
    if (settings.mode === "open") return pass("in", source, destination);
    const mapping = table.byExternal(protocol, destination, now);
    if (mapping === undefined) return refuse("no-mapping", flags);
    if (sessionWith(mapping, source, now) === undefined) {
      if (!admits(mapping, rules[protocol].filtering, source, now)) return refuse("filtered", flags);
      if (protocol === "tcp" && !startsTcp(flags)) return drop("no-state");
    }
    note(now, mapping, source, flags, false);
    return pass("in", source, mapping.internal);
  }

  function pass(direction: "in" | "out", source: Endpoint, destination: Endpoint): Verdict {
    count(direction);
    return { action: "forward", source, destination };
  }

  function refuse(reason: DropReason, flags: TcpFlags | undefined): Verdict {
    if (!startsTcp(flags) || settings.unsolicitedSyn === "drop") return drop(reason);
    count(reason);
    return { action: "reject", with: settings.unsolicitedSyn, reason };
  }

  function advance(now: number): void {
    if (now >= nextSweep) {
      table.sweep(now);
      nextSweep = now + SWEEP_EVERY_MS;
    }
    if (settings.backgroundPerSecond === 0) return;
    const gap = (): number => backgroundRandom.exponential(1000 / settings.backgroundPerSecond);
    nextBackground ??= now + gap();
    for (let made = 0; nextBackground <= now; nextBackground += gap()) {
      if (++made > MAX_BACKGROUND_BURST) nextBackground = now;
      addBackground(nextBackground);
    }
  }

  /** One new mapping per protocol of an inside host that does not exist. */
  function addBackground(now: number): void {
    for (const protocol of ["udp", "tcp"] as const) {
      const internal = {
        ip: `0.0.0.${backgroundRandom.between(1, 8)}`,
        port: backgroundRandom.between(1024, 65535),
      };
      const remote = {
        ip: `0.0.1.${backgroundRandom.between(1, 250)}`,
        port: backgroundRandom.between(1, 65535),
      };
      const mapping =
        findMapping(now, protocol, internal, remote) ?? makeMapping(now, protocol, internal, remote);
      const flags = { syn: true, ack: false, fin: false, rst: false };
      if (mapping !== undefined) note(now, mapping, remote, flags, true);
    }
  }

  function forget(): void {
    table.clear();
    boots++;
    allocators = newAllocators(boots);
  }

  return {
    settings,
    counts,
    outbound,
    inbound,
    advance,
    get externalIp() {
      return externalIp;
    },
    setExternalIp(ip) {
      externalIp = ip;
      forget();
    },
    reboot: forget,
    internalOf(now, protocol, source, destination) {
      if (settings.mode === "open") return source;
      const mapping = table.byExternal(protocol, source, now);
      if (mapping === undefined) return undefined;
      return sessionWith(mapping, destination, now) === undefined ? undefined : mapping.internal;
    },
    externalOf(now, protocol, internal, remote) {
      if (settings.mode === "open") return internal;
      const mapping = findMapping(now, protocol, internal, remote);
      return mapping === undefined || sessionWith(mapping, remote, now) === undefined
        ? undefined
        : mapping.external;
    },
    forwardPort(now, protocol, port, internal, lifetimeMs) {
      const external = settings.mode === "nat" ? { ip: externalIp, port } : internal;
      const holder = table.byExternal(protocol, external, now);
      if (holder !== undefined) {
        if (holder.internal.ip !== internal.ip || holder.internal.port !== internal.port) return false;
        if (holder.scope !== "forwarded") table.remove(holder);
      }
      const earlier = table.byInternal(protocol, internal, "forwarded", now);
      if (earlier !== undefined && earlier !== holder) return false;
      const sessions = holder?.sessions ?? new Map();
      table.add({
        protocol,
        internal,
        external,
        scope: "forwarded",
        sessions,
        aliases: [],
        forwardedUntil: now + lifetimeMs,
      });
      return true;
    },
    unforwardPort(now, protocol, port) {
      for (const mapping of table.all()) {
        if (mapping.protocol !== protocol || mapping.external.port !== port || mapping.forwardedUntil <= now)
          continue;
        table.remove(mapping);
        return true;
      }
      return false;
    },
    table(now) {
      advance(now);
      return [...table.all()].map((mapping) => ({
        protocol: mapping.protocol,
        internal: mapping.internal,
        external: mapping.external,
        forwarded: mapping.forwardedUntil > now,
        sessions: [...mapping.sessions.values()]
          .filter(({ expiresAt }) => expiresAt > now)
          .map(({ remote, state, outbound: out, expiresAt }) => ({
            remote,
            state,
            outbound: out,
            expiresInMs: expiresAt - now,
          })),
      }));
    },
  };
}
