/**
 * The table of a router: which inside endpoint is which external endpoint, and the sessions of each. Looks up
 * and forgets; which port a mapping gets and which packets pass is the engine's affair.
 */
import type { Endpoint } from "../../core/ip.ts";
import type { NatProtocol, Session } from "./session.ts";
import type { Behaviour } from "./settings.ts";

export interface Mapping {
  readonly protocol: NatProtocol;
  readonly internal: Endpoint;
  readonly external: Endpoint;
  /** The remote endpoint or address that it is for, when mapping depends on that. */
  readonly scope: string;
  readonly sessions: Map<string, Session>;
  /** Scopes of remotes that came in by this mapping, so that answers leave by it. */
  readonly aliases: string[];
  /** A forwarded port lives until then although nothing uses it. */
  forwardedUntil: number;
}

/** Sessions of one mapping; beyond that an unsolicited one is passed without being remembered. */
const MAX_SESSIONS = 2048;

export class MappingTable {
  readonly #byInternal = new Map<string, Mapping>();
  readonly #byExternal = new Map<string, Mapping>();

  get size(): number {
    return this.#byExternal.size;
  }

  /** The part of a remote endpoint that a mapping of this behaviour is bound to. */
  static scopeOf(behaviour: Behaviour, remote: Endpoint): string {
    if (behaviour === "endpoint-independent") return "";
    return behaviour === "address-dependent" ? remote.ip : `${remote.ip}|${remote.port}`;
  }

  byInternal(protocol: NatProtocol, internal: Endpoint, scope: string, now: number): Mapping | undefined {
    return this.#live(this.#byInternal.get(`${protocol}|${internal.ip}|${internal.port}|${scope}`), now);
  }

  byExternal(protocol: NatProtocol, external: Endpoint, now: number): Mapping | undefined {
    return this.#live(this.#byExternal.get(`${protocol}|${external.ip}|${external.port}`), now);
  }

  add(mapping: Mapping): void {
    const { protocol, internal, external, scope } = mapping;
    this.#byInternal.set(`${protocol}|${internal.ip}|${internal.port}|${scope}`, mapping);
    this.#byExternal.set(`${protocol}|${external.ip}|${external.port}`, mapping);
  }

  /** From now on what the inside sends to a remote of `scope` leaves by this mapping too. */
  alias(mapping: Mapping, scope: string): void {
    const { protocol, internal } = mapping;
    mapping.aliases.push(scope);
    this.#byInternal.set(`${protocol}|${internal.ip}|${internal.port}|${scope}`, mapping);
  }

  remove(mapping: Mapping): void {
    const { protocol, internal, external, scope } = mapping;
    for (const each of [scope, ...mapping.aliases]) {
      this.#byInternal.delete(`${protocol}|${internal.ip}|${internal.port}|${each}`);
    }
    this.#byExternal.delete(`${protocol}|${external.ip}|${external.port}`);
  }

  clear(): void {
    this.#byInternal.clear();
    this.#byExternal.clear();
  }

  /** Forgets what has expired. */
  sweep(now: number): void {
    for (const mapping of this.#byExternal.values()) {
      for (const [key, session] of mapping.sessions)
        if (session.expiresAt <= now) mapping.sessions.delete(key);
      if (mapping.sessions.size === 0 && mapping.forwardedUntil <= now) this.remove(mapping);
    }
  }

  *all(): Iterable<Mapping> {
    yield* this.#byExternal.values();
  }

  #live(mapping: Mapping | undefined, now: number): Mapping | undefined {
    if (mapping === undefined || isLive(mapping, now)) return mapping;
    this.remove(mapping);
    return undefined;
  }
}

export function isLive(mapping: Mapping, now: number): boolean {
  if (mapping.forwardedUntil > now) return true;
  for (const session of mapping.sessions.values()) if (session.expiresAt > now) return true;
  return false;
}

/** The live session with this remote. */
export function sessionWith(mapping: Mapping, remote: Endpoint, now: number): Session | undefined {
  const session = mapping.sessions.get(`${remote.ip}|${remote.port}`);
  return session !== undefined && session.expiresAt > now ? session : undefined;
}

/** Remembers a session. An inside host's own evict the oldest when there are too many; others are refused (false). */
export function keepSession(mapping: Mapping, session: Session): boolean {
  const key = `${session.remote.ip}|${session.remote.port}`;
  if (mapping.sessions.size >= MAX_SESSIONS && !mapping.sessions.has(key)) {
    if (!session.outbound) return false;
    mapping.sessions.delete(mapping.sessions.keys().next().value as string);
  }
  mapping.sessions.set(key, session);
  return true;
}

/** Whether the filter lets a first packet from `remote` in. */
export function admits(mapping: Mapping, filtering: Behaviour, remote: Endpoint, now: number): boolean {
  if (filtering === "endpoint-independent" || mapping.forwardedUntil > now) return true;
  if (filtering === "address-and-port-dependent") return sessionWith(mapping, remote, now)?.outbound === true;
  for (const session of mapping.sessions.values()) {
    if (session.outbound && session.remote.ip === remote.ip && session.expiresAt > now) return true;
  }
  return false;
}
