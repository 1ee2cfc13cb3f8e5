/**
 * How allocations come and go (RFC 8656 section 7, RFC 6062 section 5.1): what a client may ask for, quotas, ports and
 * reservations, the relayed addresses being bound one after the other, and the end. Sockets are asked for and reported by
 * the caller.
 */
import { sameSum } from "../wire/stun-integrity.ts";
import type { Family } from "../ip.ts";
import * as kinds from "../wire/stun-attributes.ts";
import { decodeStun, hasAttribute, readAttribute, type StunMessage } from "../wire/stun.ts";
import * as turn from "../wire/turn.ts";
import { createRelayPorts, type RelayPorts } from "./relay-ports.ts";
import type { Allocation, Relay, RelaySocket, TurnCounts } from "./turn-parts.ts";
import { errorOf, reasonOf, successOf, type TurnRequest } from "./turn-request.ts";

export interface AllocationLimits {
  readonly allocations: number;
  /** Of one account. */
  readonly perAccount: number;
  readonly portFirst: number;
  readonly portLast: number;
}

export interface AllocationOptions {
  readonly limits: AllocationLimits;
  /** Relay addresses as peers see them; a family without one cannot be had. */
  readonly relayIps: ReadonlyMap<Family, string>;
  readonly random: (count: number) => Uint8Array;
  /** Binds a relay's address; `relayOpened` or `relayFailed` follows, not before this returns. */
  readonly openRelay: (relay: Relay) => void;
  readonly counts: TurnCounts;
  /** Hears of allocations whose addresses are bound. */
  readonly made: (allocation: Allocation) => void;
  /** Hears of allocations that are gone. */
  readonly removed: (allocation: Allocation, why: "refreshed to 0" | "expired" | "closed" | "failed") => void;
}

export interface Allocations {
  readonly all: ReadonlySet<Allocation>;
  /** Serves an Allocate request; the answer may come later. */
  allocate(request: TurnRequest): void;
  relayOpened(relay: Relay, socket: RelaySocket): void;
  relayFailed(relay: Relay, isPortTaken: boolean): void;
  /** Whether that is the address of a relay that is bound. */
  readonly isRelay: (transport: "udp" | "tcp", ip: string, port: number) => boolean;
  remove(allocation: Allocation, why: "refreshed to 0" | "expired" | "closed" | "failed"): void;
  /** Gives up one of two families. */
  removeRelay(allocation: Allocation, family: Family): void;
  sweep(nowMs: number): void;
}

/** RFC 8656 section 7.2: the least that a client gets, and the most we give, in seconds. */
const LIFETIME_DEFAULT = 600;
const LIFETIME_MAX = 3600;
const RESERVATION_MS = 30_000;
/** A port may be somebody else's of this machine; after so many of those there is none. */
const BIND_TRIES = 16;

interface Wanted {
  readonly transport: "udp" | "tcp";
  readonly families: readonly Family[];
  readonly parity: "any" | "even" | "pair";
  readonly token?: string;
}

interface Pending {
  readonly request: TurnRequest;
  readonly wanted: Wanted;
  readonly errors: Map<Family, number>;
  reservation: Uint8Array | undefined;
  tries: number;
  open: number;
}

interface Reservation {
  readonly account: string;
  readonly family: Family;
  readonly port: number;
  readonly expiresMs: number;
}

export function lifetimeSeconds(message: StunMessage): number {
  const asked = readAttribute(message, turn.LIFETIME) ?? LIFETIME_DEFAULT;
  return Math.min(LIFETIME_MAX, Math.max(LIFETIME_DEFAULT, asked));
}

export function createAllocations(options: AllocationOptions): Allocations {
  const { limits, relayIps, random, openRelay, counts, made, removed } = options;
  const all = new Set<Allocation>();
  const perAccount = new Map<string, number>();
  const pending = new Map<Allocation, Pending>();
  const reservations = new Map<string, Reservation>();
  const below = (bound: number): number => Buffer.from(random(4)).readUInt32BE() % bound;
  const makePorts = (): RelayPorts => createRelayPorts(limits.portFirst, limits.portLast, below);
  const ports: Record<string, RelayPorts> = {
    udp4: makePorts(),
    udp6: makePorts(),
    tcp4: makePorts(),
    tcp6: makePorts(),
  };
  const portsOf = (transport: "udp" | "tcp", family: Family): RelayPorts =>
    ports[`${transport}${family}`] as RelayPorts;
  /** Ports of relays that are bound, by transport and family. */
  const bound: Record<string, Set<number>> = {
    udp4: new Set(),
    udp6: new Set(),
    tcp4: new Set(),
    tcp6: new Set(),
  };

  function wantedBy({ message, path }: TurnRequest): Wanted | number {
    const protocol = readAttribute(message, turn.REQUESTED_TRANSPORT);
    if (protocol === undefined) return 400;
    if (protocol !== turn.TRANSPORT_UDP && protocol !== turn.TRANSPORT_TCP) return 442;
    const transport = protocol === turn.TRANSPORT_UDP ? "udp" : "tcp";
    const has = (kind: { readonly type: number }): boolean => hasAttribute(message, kind);
    const even = readAttribute(message, turn.EVEN_PORT);
    const token = readAttribute(message, turn.RESERVATION_TOKEN);
    const family = readAttribute(message, turn.REQUESTED_ADDRESS_FAMILY);
    const additional = readAttribute(message, turn.ADDITIONAL_ADDRESS_FAMILY);
    const isMalformed =
      (has(turn.EVEN_PORT) && even === undefined) ||
      (has(turn.RESERVATION_TOKEN) && token === undefined) ||
      (has(turn.REQUESTED_ADDRESS_FAMILY) && family === undefined);
    if (isMalformed) return 400;
    // RFC 6062 section 5.1.
    const isForUdp = even !== undefined || token !== undefined || has(turn.DONT_FRAGMENT);
    if (transport === "tcp" && (path.transport === "udp" || isForUdp)) return 400;
    if (token !== undefined && (even !== undefined || family !== undefined || additional !== undefined))
      return 400;
    if (additional !== undefined && (family !== undefined || even === true)) return 400;
    if (additional !== undefined && additional !== turn.FAMILY_IP6) return 400;
    const base = { transport, parity: even === undefined ? "any" : even ? "pair" : "even" } as const;
    if (token !== undefined) {
      const kept = reservations.get(token.toBase64());
      return kept === undefined ? 508 : { ...base, families: [kept.family], token: token.toBase64() };
    }
    if (additional !== undefined) return { ...base, families: [4, 6] };
    if (family !== undefined && family !== turn.FAMILY_IP4 && family !== turn.FAMILY_IP6) return 440;
    return { ...base, families: [family === turn.FAMILY_IP6 ? 6 : 4] };
  }

  function allocate(request: TurnRequest): void {
    const { message, path, sender, nowMs } = request;
    const standing = path.allocation;
    if (standing !== undefined) {
      if (!sameSum(standing.transactionId, message.transactionId)) return refuse(request, 437);
      if (standing.answer !== undefined) path.send(standing.answer);
      return;
    }
    const wanted = wantedBy(request);
    if (typeof wanted === "number") return refuse(request, wanted);
    const families = wanted.families.filter((family) => relayIps.has(family));
    if (families.length === 0) return refuse(request, 440);
    const held = perAccount.get(sender.account) ?? 0;
    if (held >= limits.perAccount || !mayReserve(wanted, sender.account, held)) return refuse(request, 486);
    if (all.size >= limits.allocations) return refuse(request, 508);

    // The answer is made after the datagram's buffer has gone.
    const kept = decodeStun(message.bytes.slice()) as StunMessage;
    const allocation: Allocation = {
      path,
      username: sender.username,
      account: sender.account,
      key: sender.key,
      passwordHash: sender.passwordHash,
      transport: wanted.transport,
      createdMs: nowMs,
      expiresMs: nowMs + 1000 * lifetimeSeconds(message),
      relays: new Map(),
      permissions: new Map(),
      channels: new Map(),
      connections: new Map(),
      transactionId: kept.transactionId,
      answer: undefined,
      toPeers: 0,
      toClient: 0,
    };
    const job: Pending = {
      request: { ...request, message: kept },
      wanted,
      errors: new Map(),
      reservation: undefined,
      tries: 0,
      open: 0,
    };
    for (const family of wanted.families) {
      const ip = relayIps.get(family);
      const port = ip === undefined ? undefined : choosePort(job, family);
      if (ip === undefined || port === undefined) {
        job.errors.set(family, ip === undefined ? 440 : 508);
        continue;
      }
      allocation.relays.set(family, {
        allocation,
        family,
        transport: wanted.transport,
        port,
        ip,
        socket: undefined,
      });
    }
    if (allocation.relays.size === 0) return refuse(request, [...job.errors.values()][0] ?? 508);
    path.allocation = allocation;
    all.add(allocation);
    perAccount.set(sender.account, held + 1);
    pending.set(allocation, job);
    job.open = allocation.relays.size;
    for (const relay of allocation.relays.values()) openRelay(relay);
  }

  /** A kept port counts as an allocation, or who allocates and gives back in turn would soon have them all. */
  function mayReserve({ parity }: Wanted, account: string, held: number): boolean {
    if (parity !== "pair") return true;
    let kept = 0;
    for (const one of reservations.values()) if (one.account === account) kept++;
    return held + kept + 2 <= limits.perAccount;
  }

  function choosePort(job: Pending, family: Family): number | undefined {
    const { wanted, request } = job;
    const pool = portsOf(wanted.transport, family);
    if (wanted.token !== undefined) {
      const kept = reservations.get(wanted.token);
      // It stays taken: from the reservation it passes to the relay.
      reservations.delete(wanted.token);
      return kept?.port;
    }
    const port = pool.take(wanted.parity);
    if (port !== undefined && wanted.parity === "pair" && pool.takeExactly(port + 1)) {
      const token = random(8);
      job.reservation = token;
      const expiresMs = request.nowMs + RESERVATION_MS;
      const { account } = request.sender;
      reservations.set(token.toBase64(), { account, family, port: port + 1, expiresMs });
    }
    return port;
  }

  function dropReservation(job: Pending, transport: "udp" | "tcp"): void {
    const token = job.reservation?.toBase64();
    const kept = token === undefined ? undefined : reservations.get(token);
    if (token === undefined || kept === undefined) return;
    reservations.delete(token);
    portsOf(transport, kept.family).give(kept.port);
    job.reservation = undefined;
  }

  function relayOpened(relay: Relay, socket: RelaySocket): void {
    const job = pending.get(relay.allocation);
    if (job === undefined || relay.allocation.relays.get(relay.family) !== relay) return socket.close();
    relay.socket = socket;
    bound[`${relay.transport}${relay.family}`]?.add(relay.port);
    settle(relay.allocation, job);
  }

  function relayFailed(relay: Relay, isPortTaken: boolean): void {
    const { allocation, family, transport } = relay;
    const job = pending.get(allocation);
    if (job === undefined || allocation.relays.get(family) !== relay) return;
    portsOf(transport, family).give(relay.port);
    dropReservation(job, transport);
    const next = isPortTaken && ++job.tries < BIND_TRIES ? choosePort(job, family) : undefined;
    if (next !== undefined) {
      relay.port = next;
      openRelay(relay);
      return;
    }
    allocation.relays.delete(family);
    job.errors.set(family, 508);
    settle(allocation, job);
  }

  /** One relay more is bound or given up; the answer is due with the last. */
  function settle(allocation: Allocation, job: Pending): void {
    job.open--;
    if (job.open > 0) return;
    pending.delete(allocation);
    const { request } = job;
    if (allocation.relays.size === 0) {
      remove(allocation, "failed");
      return refuse(request, 508);
    }
    counts.allocated++;
    made(allocation);
    const attributes = [...allocation.relays.values()].map(({ ip, port }) =>
      kinds.attribute(turn.XOR_RELAYED_ADDRESS, { ip, port }),
    );
    const seconds = Math.round((allocation.expiresMs - allocation.createdMs) / 1000);
    attributes.push(
      kinds.attribute(turn.LIFETIME, seconds),
      kinds.attribute(kinds.XOR_MAPPED_ADDRESS, allocation.path.remote),
    );
    if (job.reservation !== undefined)
      attributes.push(kinds.attribute(turn.RESERVATION_TOKEN, job.reservation));
    for (const [family, code] of job.errors) {
      const wire = family === 6 ? turn.FAMILY_IP6 : turn.FAMILY_IP4;
      attributes.push(
        kinds.attribute(turn.ADDRESS_ERROR_CODE, { family: wire, code, reason: reasonOf(code) }),
      );
    }
    allocation.answer = successOf(request, attributes);
    allocation.path.send(allocation.answer);
  }

  function refuse({ message, path, sender }: TurnRequest, code: number): void {
    counts.errors.set(code, (counts.errors.get(code) ?? 0) + 1);
    path.send(errorOf(message, code, [], sender));
  }

  function removeRelay(allocation: Allocation, family: Family): void {
    const relay = allocation.relays.get(family);
    if (relay === undefined) return;
    allocation.relays.delete(family);
    bound[`${relay.transport}${family}`]?.delete(relay.port);
    portsOf(relay.transport, family).give(relay.port);
    relay.socket?.close();
    relay.socket = undefined;
  }

  function remove(allocation: Allocation, why: "refreshed to 0" | "expired" | "closed" | "failed"): void {
    if (!all.delete(allocation)) return;
    pending.delete(allocation);
    const held = (perAccount.get(allocation.account) ?? 1) - 1;
    if (held > 0) perAccount.set(allocation.account, held);
    else perAccount.delete(allocation.account);
    for (const family of [4, 6] as const) removeRelay(allocation, family);
    allocation.path.allocation = undefined;
    removed(allocation, why);
  }

  return {
    all,
    allocate,
    relayOpened,
    relayFailed,
    isRelay(transport, ip, port) {
      const family = ip.includes(":") ? 6 : 4;
      return relayIps.get(family) === ip && bound[`${transport}${family}`]?.has(port) === true;
    },
    remove,
    removeRelay,
    sweep(nowMs) {
      for (const allocation of all) {
        if (allocation.expiresMs > nowMs) continue;
        counts.expired++;
        remove(allocation, "expired");
      }
      for (const [token, { family, port, expiresMs }] of reservations) {
        if (expiresMs > nowMs) continue;
        reservations.delete(token);
        portsOf("udp", family).give(port);
      }
    },
  };
}
