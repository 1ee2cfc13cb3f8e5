/**
 * UDP ports kept warm: behind a NAT whose mappings are the same towards everybody, one port for each place we punch from
 * is bound and mapped ahead, and a STUN server asked from time to time where the mapping is, which also keeps it. A
 * punch takes it over and has no server to ask on its way; another is made then. What a sample is good for is decided in
 * `core/nat/`.
 */
import { toP2pdError } from "../errors.ts";
import { type Endpoint, type Family, familyOf } from "../ip.ts";
import type { PunchSample } from "../nat/punch-plan.ts";
import type { Timer, UdpSocket, World } from "../net/world.ts";
import { bindingRequest } from "../stun/binding.ts";
import { attachStun, type StunSocket } from "../stun/stun-socket.ts";
import { openPorts } from "./open-ports.ts";

/** Where a port is kept. */
export interface WarmPlace {
  readonly localIp: string;
  readonly device?: string | undefined;
  /** Under which the mapping must be seen. */
  readonly external: string;
}

/** A port that was taken over; the socket is the taker's to close. */
export interface WarmPort {
  readonly socket: UdpSocket;
  readonly sample: PunchSample;
  /** External address of the mapping. */
  readonly ip: string;
  /** Milliseconds since a server has seen it. */
  readonly ageMs: number;
}

export interface WarmPortsOptions {
  /** STUN servers by address. */
  readonly servers: (family: Family) => Promise<readonly Endpoint[]>;
  /** Within which time a mapping must be used to be kept, in milliseconds, where that is known; 20 s are not exceeded. */
  readonly refreshMs?: (place: WarmPlace) => number | undefined;
  /** Told when a mapping is seen under another external address than the place's. */
  readonly moved?: () => void;
}

type WarmWorld = Pick<World, "time" | "randomBytes" | "openUdp">;

/** Between two questions: shorter than the 30 s after which impatient routers forget. */
const REFRESH_MS = 20_000;
/** A router that forgets sooner than this is not worth its packets. */
const SHORTEST_MS = 5000;
/** The punch that has taken a port has sent its first packets by then, and whoever opens one after the other has one again. */
const REMAKE_MS = 150;
/** After a question that nobody answered; doubles. */
const RETRY_MS = 5000;
const LONGEST_RETRY_MS = 300_000;
const TIMEOUT_MS = 1500;

export class WarmPorts {
  readonly #world: WarmWorld;
  readonly #options: WarmPortsOptions;
  readonly #kept = new Map<string, KeptPort>();
  #isClosed = false;

  constructor(world: WarmWorld, options: WarmPortsOptions) {
    this.#world = world;
    this.#options = options;
  }

  /** Keeps a port for each of these places from now on, and for no other. */
  keep(places: readonly WarmPlace[]): void {
    const wanted = new Map((this.#isClosed ? [] : places).map((place) => [nameOf(place), place]));
    for (const [name, port] of this.#kept) {
      if (wanted.has(name)) continue;
      port.close();
      this.#kept.delete(name);
    }
    for (const [name, place] of wanted) {
      if (!this.#kept.has(name)) this.#kept.set(name, new KeptPort(this.#world, this.#options, place));
    }
  }

  /** The port of a place, once; undefined while there is none whose mapping is sure. */
  take(localIp: string, device?: string): WarmPort | undefined {
    for (const port of this.#kept.values()) {
      if (port.place.localIp === localIp && port.place.device === device) return port.take();
    }
    return undefined;
  }

  close(): void {
    this.#isClosed = true;
    this.keep([]);
  }
}

function nameOf({ localIp, device = "", external }: WarmPlace): string {
  return `${localIp} ${device} ${external}`;
}

/** The port of one place, and those that follow it when it is taken. */
class KeptPort {
  readonly place: WarmPlace;
  readonly #world: WarmWorld;
  readonly #options: WarmPortsOptions;
  #stun: StunSocket | undefined;
  #seen: { readonly externalPort: number; readonly atMs: number } | undefined;
  #timer: Timer | undefined;
  /** Which of the servers is asked next. */
  #turn = 0;
  #longestMs = REFRESH_MS;
  #retryMs = RETRY_MS;
  #isClosed = false;

  constructor(world: WarmWorld, options: WarmPortsOptions, place: WarmPlace) {
    this.#world = world;
    this.#options = options;
    this.place = place;
    this.#later(0);
  }

  take(): WarmPort | undefined {
    const { time } = this.#world;
    const [stun, seen] = [this.#stun, this.#seen];
    if (stun === undefined || seen === undefined) return undefined;
    const ageMs = time.now() - seen.atMs;
    if (ageMs > this.#refreshMs + TIMEOUT_MS) return undefined;
    this.#let();
    this.#later(REMAKE_MS);
    const { socket } = stun;
    const sample = { localPort: socket.local.port, externalPort: seen.externalPort };
    return { socket, sample, ip: this.place.external, ageMs };
  }

  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
    const socket = this.#stun?.socket;
    this.#let();
    socket?.close();
  }

  get #refreshMs(): number {
    return Math.min(this.#longestMs, this.#options.refreshMs?.(this.place) ?? REFRESH_MS);
  }

  /** Leaves the socket, which stays open. */
  #let(): void {
    const stun = this.#stun;
    this.#stun = undefined;
    this.#seen = undefined;
    stun?.close();
  }

  #later(delayMs: number): void {
    this.#timer?.cancel();
    this.#timer = this.#world.time.after(delayMs, () => void this.#ask(), { background: true });
  }

  async #ask(): Promise<void> {
    const stun = this.#stun ?? (await this.#open());
    if (stun === undefined) return;
    const { time } = this.#world;
    const servers = await this.#options.servers(familyOf(this.place.localIp));
    const server = servers[this.#turn % Math.max(1, servers.length)];
    try {
      if (server === undefined) return this.#fail();
      const { mapped } = await bindingRequest(stun, server, { timeoutMs: TIMEOUT_MS });
      if (this.#stun !== stun) return;
      if (mapped.ip === this.place.external) return this.#confirm(mapped.port, time.now());
      this.#options.moved?.();
      this.#fail();
    } catch (thrown) {
      // Taken or closed meanwhile; else the server is silent, as far as can be told.
      if (this.#stun === stun && toP2pdError(thrown).code !== "closed") this.#fail();
    }
  }

  async #open(): Promise<StunSocket | undefined> {
    try {
      const { localIp, device } = this.place;
      const [socket] = await openPorts(this.#world, { localIp, device, count: 1 });
      if (socket === undefined) return undefined;
      if (this.#isClosed) {
        socket.close();
        return undefined;
      }
      this.#stun = attachStun(this.#world, socket);
      return this.#stun;
    } catch {
      // No port, no network: a punch asks on its way then, and says what is wrong.
      this.#fail();
      return undefined;
    }
  }

  #confirm(externalPort: number, atMs: number): void {
    const forgot = this.#seen !== undefined && this.#seen.externalPort !== externalPort;
    if (forgot) this.#longestMs = this.#refreshMs / 2;
    if (this.#longestMs < SHORTEST_MS) return this.close();
    this.#retryMs = RETRY_MS;
    this.#seen = { externalPort, atMs };
    this.#later(this.#refreshMs);
  }

  #fail(): void {
    if (this.#isClosed) return;
    this.#seen = undefined;
    this.#turn++;
    this.#later(this.#retryMs);
    this.#retryMs = Math.min(2 * this.#retryMs, LONGEST_RETRY_MS);
  }
}
