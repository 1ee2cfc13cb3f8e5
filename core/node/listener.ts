/**
 * Where peers knock: TCP and, where the world has QUIC, UDP on one port in both families; the peer's key proved; the
 * peer's first frame. Whoever has not come that far is a stranger: there is a bound on their number and on their
 * time, and both are counted. What a session is for is the node's business.
 */
import type { Path } from "../connect/race.ts";
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Family, formatEndpoint, scopeOf } from "../ip.ts";
import type {
  ByteStream,
  Credentials,
  QuicEndpoint,
  SecureStream,
  TcpListener,
  World,
} from "../net/world.ts";
import type { StatusPart } from "./node-api.ts";
import { GREETING_TIMEOUT_MS, type Opening, readOpening } from "./opening.ts";

const MAX_STRANGERS = 1024;
const MAX_STRANGERS_PER_IP = 128;
const MAX_LOCAL_STRANGERS = 4096;
const LOCAL = "loopback";
/** How long a closing node waits for QUIC, whose runtime may have handshakes under way. */
const FREE_WAIT_MS = 2000;
/** How many ports after the derived one are tried. */
const PORT_TRIES = 64;
const FIRST_DERIVED_PORT = 10_000;
const DERIVED_PORTS = 22_000; // up to where systems begin to hand out ports of their own

export interface ListenerOptions {
  readonly credentials: Credentials;
  /** 0: any; absent: derived from `machineId`, next free. */
  readonly port?: number;
  readonly machineId: string;
  /** Names of the NICs whose addresses may be connected to; absent: all. Loopback always may. */
  readonly interfaces?: readonly string[];
  /** Milliseconds for TLS, and again for HELLO. */
  readonly strangerTimeoutMs?: number;
  /**
   * A peer has proved its key and said what it wants; from here on the path is the receiver's. Its round trip is about
   * the time from the accepted connection to the end of the handshake. `beganAt`: when it was accepted.
   */
  readonly opened: (opening: Opening, path: Path, beganAt: number) => void;
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

/** One connection on its way from a stranger to an arrival. */
interface Knock {
  readonly from: string;
  readonly transport: "tcp" | "udp";
  readonly beganAt: number;
}

export class Listener {
  readonly #world: World;
  readonly #options: ListenerOptions;
  readonly #sockets = new Map<Family, TcpListener>();
  readonly #failures = new Map<Family | "udp", string>();
  readonly #strangers = new Set<ByteStream>();
  /** How many strangers come from each address; all loopback addresses are one. */
  readonly #strangersFrom = new Map<string, number>();
  #quic: QuicEndpoint | undefined;
  #outgoing: QuicEndpoint | undefined;
  /** Whether the node is ready for whoever comes. */
  #hearing = false;
  #accepted = 0;
  #turnedAway = 0;
  #failed = 0;
  readonly #closing = new AbortController();

  private constructor(world: World, options: ListenerOptions) {
    this.#world = world;
    this.#options = options;
  }

  /**
   * Takes the port; whoever comes before `hear` is turned away. Rejects with `address-in-use` or `unavailable` if no
   * port can be had in any family.
   */
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

  hear(): void {
    this.#hearing = true;
  }

  get port(): number {
    return [...this.#sockets.values()][0]?.local.port ?? 0;
  }

  has(family: Family): boolean {
    return this.#sockets.has(family);
  }

  /**
   * QUIC to connect from, on a port of its own: two nodes that call each other at once from the ports they listen on
   * would have two connections between the same two endpoints, in opposite roles, which the runtime mixes up. Absent
   * where there is no QUIC.
   */
  get quic(): QuicEndpoint | undefined {
    return this.#outgoing;
  }

  failureOf(what: Family | "udp"): string {
    return this.#failures.get(what) ?? "";
  }

  get counters(): ListenerCounters {
    const udp = this.#quic?.counters;
    return {
      accepted: this.#accepted + (udp?.accepted ?? 0),
      strangers: this.#strangers.size + (udp?.strangers ?? 0),
      turnedAway: this.#turnedAway + (udp?.turnedAway ?? 0),
      failed: this.#failed + (udp?.failed ?? 0),
    };
  }

  /** Each family, UDP, and who came, in words. `waiting` is what there is to say of those that have arrived. */
  status(waiting: string): readonly StatusPart[] {
    const { accepted, strangers, turnedAway, failed } = this.counters;
    const tcp = ([4, 6] as const).map((family): StatusPart => {
      const up = this.has(family);
      const detail = up ? `listening on port ${this.port}` : this.failureOf(family);
      return { part: `tcp${family}`, state: up ? "up" : "down", detail };
    });
    const udp: StatusPart =
      this.#quic === undefined
        ? { part: "udp", state: "down", detail: this.failureOf("udp") }
        : { part: "udp", state: "up", detail: `QUIC on port ${this.port}` };
    const incoming = `${accepted} accepted, ${strangers} not yet authenticated, ${turnedAway} turned away, ${failed} failed before their greeting; ${waiting}`;
    return [...tcp, udp, { part: "incoming", state: "up", detail: incoming }];
  }

  /** Hears nobody any more. Paths over UDP go on until `free`. */
  close(): void {
    this.#closing.abort();
    for (const socket of this.#sockets.values()) socket.close();
    for (const stream of this.#strangers) stream.abort(new P2pdError("closed", "the node is closing"));
  }

  /** Breaks off what goes on over UDP still; resolves when the port is free, or after `FREE_WAIT_MS`. */
  async free(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = this.#world.time.after(FREE_WAIT_MS, resolve, { background: true });
    await Promise.race([promise, Promise.all([this.#quic?.close(), this.#outgoing?.close()])]);
    timer.cancel();
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
            void this.#receiveTcp(stream);
          },
        });
        this.#sockets.set(family, socket);
        this.#failures.delete(family);
        port = socket.local.port;
      } catch (thrown) {
        const error = toP2pdError(thrown, "unavailable");
        this.#failures.set(family, error.message);
        if (error.code === "address-in-use") return this.#letGo();
      }
    }
    if (this.#sockets.size === 0) return false;
    const isTaken = await this.#bindUdp(port);
    // A port that was asked for is kept, with TCP alone.
    return isTaken && (this.#options.port ?? 0) === 0 ? this.#letGo() : true;
  }

  #letGo(): false {
    for (const socket of this.#sockets.values()) socket.close();
    this.#sockets.clear();
    return false;
  }

  /** Whether another program has the port. */
  async #bindUdp(port: number): Promise<boolean> {
    try {
      if (this.#world.openQuic === undefined) throw new P2pdError("unsupported", "there is no QUIC here");
      const { credentials } = this.#options;
      const ip = this.has(6) ? "::" : "0.0.0.0";
      this.#quic = await this.#world.openQuic({
        local: { ip, port },
        credentials,
        strangerTimeoutMs: this.#strangerTimeoutMs,
        accept: (path) => {
          void this.#receiveUdp(path);
        },
      });
      this.#outgoing = await this.#world.openQuic({ local: { ip, port: 0 }, credentials });
      this.#failures.delete("udp");
      return false;
    } catch (thrown) {
      const error = toP2pdError(thrown, "unavailable");
      this.#failures.set("udp", error.message);
      return error.code === "address-in-use";
    }
  }

  get #strangerTimeoutMs(): number {
    return this.#options.strangerTimeoutMs ?? GREETING_TIMEOUT_MS;
  }

  async #receiveTcp(stream: ByteStream): Promise<void> {
    this.#accepted++;
    await this.#receive(stream, "tcp", () =>
      this.#world.secure(stream, {
        role: "server",
        credentials: this.#options.credentials,
        timeoutMs: this.#strangerTimeoutMs,
        signal: this.#closing.signal,
      }),
    );
  }

  async #receiveUdp(path: SecureStream): Promise<void> {
    await this.#receive(path, "udp", () => Promise.resolve(path));
  }

  async #receive(
    stream: ByteStream,
    transport: "tcp" | "udp",
    secure: () => Promise<SecureStream>,
  ): Promise<void> {
    const from = scopeOf(stream.remote.ip) === "loopback" ? LOCAL : stream.remote.ip;
    if (
      !this.#hearing ||
      this.#closing.signal.aborted ||
      !this.#isWelcome(from) ||
      !this.#mayEnterAt(stream.local.ip)
    ) {
      this.#turnedAway++;
      stream.abort();
      return;
    }
    this.#count(from, 1);
    this.#strangers.add(stream);
    try {
      const beganAt = this.#world.time.now();
      const secured = await secure();
      // From here on the stream to close is the secured one.
      this.#strangers.delete(stream);
      this.#strangers.add(secured);
      try {
        await this.#greet(secured, { from, transport, beganAt });
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

  async #greet(secured: SecureStream, { transport, beganAt }: Knock): Promise<void> {
    const { time } = this.#world;
    if (this.#closing.signal.aborted) secured.abort();
    const rttMs = time.now() - beganAt;
    const { opening, stream } = await readOpening(secured, time, this.#strangerTimeoutMs);
    if (this.#closing.signal.aborted) {
      stream.abort(new P2pdError("closed", "the node is closing"));
      return;
    }
    const candidate = `${formatEndpoint(stream.remote)}/${transport}`;
    this.#options.opened(opening, { strategy: "direct", transport, candidate, stream, rttMs }, beganAt);
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
