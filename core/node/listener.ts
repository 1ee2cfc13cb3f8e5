/**
 * Where peers knock: TCP on one port in both families, TLS with the peer's key proved, the peer's HELLO. Whoever
 * has not come that far is a stranger: there is a bound on their number and on their time, and both are counted.
 * What a session is for is the node's business.
 */
import type { Strategy } from "../connect/race.ts";
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Family, scopeOf } from "../ip.ts";
import type { ByteStream, Credentials, TcpListener, World } from "../net/world.ts";
import type { Hello } from "../wire/session-frame.ts";
import { GREETING_TIMEOUT_MS, Session } from "./session.ts";

const MAX_STRANGERS = 1024;
const MAX_STRANGERS_PER_IP = 128;
const MAX_LOCAL_STRANGERS = 4096;
const LOCAL = "loopback";
/** How many ports after the derived one are tried. */
const PORT_TRIES = 64;
const FIRST_DERIVED_PORT = 10_000;
const DERIVED_PORTS = 22_000; // up to where systems begin to hand out ports of their own

/** A peer that has proved its key and said what it wants. The session waits for its answer. */
export interface Arrival {
  readonly session: Session;
  readonly hello: Hello;
  readonly peerKey: Uint8Array;
  readonly cipher: string;
  readonly strategy: Strategy;
  readonly transport: "tcp" | "udp";
  /** About one round trip: from the accepted connection to the end of the TLS handshake. */
  readonly rttMs: number;
  /** When the connection was accepted, as `Time.now()` told it. */
  readonly beganAt: number;
}

export interface ListenerOptions {
  readonly credentials: Credentials;
  /** 0: any; absent: derived from `machineId`, next free. */
  readonly port?: number;
  readonly machineId: string;
  /** Names of the NICs whose addresses may be connected to; absent: all. Loopback always may. */
  readonly interfaces?: readonly string[];
  /** Milliseconds for TLS, and again for HELLO. */
  readonly strangerTimeoutMs?: number;
  readonly arrived: (arrival: Arrival) => void;
}

export interface ListenerCounters {
  readonly accepted: number;
  /** Now between the connect and their HELLO. */
  readonly strangers: number;
  /** Turned away unheard, as too many were waiting. */
  readonly turnedAway: number;
  /** Left, were too slow or talked nonsense before HELLO. */
  readonly failed: number;
}

export class Listener {
  readonly #world: World;
  readonly #options: ListenerOptions;
  readonly #sockets = new Map<Family, TcpListener>();
  readonly #failures = new Map<Family, string>();
  readonly #strangers = new Set<ByteStream>();
  /** How many strangers come from each address; all loopback addresses are one. */
  readonly #strangersFrom = new Map<string, number>();
  #accepted = 0;
  #turnedAway = 0;
  #failed = 0;
  readonly #closing = new AbortController();

  private constructor(world: World, options: ListenerOptions) {
    this.#world = world;
    this.#options = options;
  }

  /** Rejects with `address-in-use` or `unavailable` if no port can be had in any family. */
  static async open(world: World, options: ListenerOptions): Promise<Listener> {
    const listener = new Listener(world, options);
    for (const port of portsToTry(options)) {
      if (await listener.#bind(port)) return listener;
    }
    const [why = "no family is available"] = listener.#failures.values();
    const wanted = options.port === undefined ? "no port" : `listenPort ${options.port}`;
    const code = options.port === undefined ? "unavailable" : "address-in-use";
    throw new P2pdError(code, `${wanted} can be listened on: ${why}`);
  }

  get port(): number {
    return [...this.#sockets.values()][0]?.local.port ?? 0;
  }

  has(family: Family): boolean {
    return this.#sockets.has(family);
  }

  /** Why a family is not listened on. */
  failureOf(family: Family): string {
    return this.#failures.get(family) ?? "";
  }

  get counters(): ListenerCounters {
    return {
      accepted: this.#accepted,
      strangers: this.#strangers.size,
      turnedAway: this.#turnedAway,
      failed: this.#failed,
    };
  }

  close(): void {
    this.#closing.abort();
    for (const socket of this.#sockets.values()) socket.close();
    for (const stream of this.#strangers) stream.abort(new P2pdError("closed", "the node is closing"));
  }

  /** Both families on one port; false if the port is taken in either. A family that is not there is done without. */
  async #bind(wanted: number): Promise<boolean> {
    let port = wanted;
    for (const [family, ip] of [
      [4, "0.0.0.0"],
      [6, "::"],
    ] as const) {
      try {
        const socket = await this.#world.listenTcp({
          local: { ip, port },
          shared: true,
          accept: (stream) => {
            void this.#receive(stream);
          },
        });
        this.#sockets.set(family, socket);
        this.#failures.delete(family);
        port = socket.local.port;
      } catch (thrown) {
        const error = toP2pdError(thrown, "unavailable");
        this.#failures.set(family, error.message);
        if (error.code !== "address-in-use") continue;
        for (const socket of this.#sockets.values()) socket.close();
        this.#sockets.clear();
        return false;
      }
    }
    return this.#sockets.size > 0;
  }

  async #receive(stream: ByteStream): Promise<void> {
    this.#accepted++;
    const from = scopeOf(stream.remote.ip) === "loopback" ? LOCAL : stream.remote.ip;
    if (this.#closing.signal.aborted || !this.#isWelcome(from) || !this.#mayEnterAt(stream.local.ip)) {
      this.#turnedAway++;
      stream.abort();
      return;
    }
    this.#count(from, 1);
    this.#strangers.add(stream);
    try {
      const began = this.#world.time.now();
      const timeoutMs = this.#options.strangerTimeoutMs ?? GREETING_TIMEOUT_MS;
      const secured = await this.#world.secure(stream, {
        role: "server",
        credentials: this.#options.credentials,
        timeoutMs,
        signal: this.#closing.signal,
      });
      const rttMs = this.#world.time.now() - began;
      // From here on the stream to close is the secured one.
      this.#strangers.delete(stream);
      this.#strangers.add(secured);
      if (this.#closing.signal.aborted) secured.abort();
      try {
        const session = new Session(secured, {
          role: "acceptor",
          time: this.#world.time,
          greetingTimeoutMs: timeoutMs,
        });
        const hello = await session.hello;
        const { peerKey, cipher } = secured;
        if (this.#closing.signal.aborted) session.abort(new P2pdError("closed", "the node is closing"));
        else {
          const facts = { strategy: "direct", transport: "tcp", rttMs, beganAt: began } as const;
          this.#options.arrived({ session, hello, peerKey, cipher, ...facts });
        }
      } finally {
        this.#strangers.delete(secured);
      }
    } catch (thrown) {
      if (!(thrown instanceof P2pdError)) throw thrown;
      this.#failed++;
    } finally {
      this.#strangers.delete(stream);
      this.#count(from, -1);
    }
  }

  #isWelcome(from: string): boolean {
    const alike = this.#strangersFrom.get(from) ?? 0;
    if (from === LOCAL) return alike < MAX_LOCAL_STRANGERS;
    const remote = this.#strangers.size - (this.#strangersFrom.get(LOCAL) ?? 0);
    return alike < MAX_STRANGERS_PER_IP && remote < MAX_STRANGERS;
  }

  #count(from: string, change: number): void {
    const count = (this.#strangersFrom.get(from) ?? 0) + change;
    if (count === 0) this.#strangersFrom.delete(from);
    else this.#strangersFrom.set(from, count);
  }

  #mayEnterAt(ip: string): boolean {
    const { interfaces } = this.#options;
    if (interfaces === undefined || scopeOf(ip) === "loopback") return true;
    return this.#world
      .nics()
      .some(({ name, addresses }) => interfaces.includes(name) && addresses.some((own) => own.ip === ip));
  }
}

function portsToTry({ port, machineId }: ListenerOptions): readonly number[] {
  if (port !== undefined) return port === 0 ? [0, 0, 0, 0] : [port];
  const first = Buffer.from(machineId, "base64url").readUInt16BE(0) % DERIVED_PORTS;
  return [
    ...Array.from({ length: PORT_TRIES }, (_, i) => FIRST_DERIVED_PORT + ((first + i) % DERIVED_PORTS)),
    0,
  ];
}
