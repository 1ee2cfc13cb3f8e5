/**
 * One side's part of a UDP punch: probes from the planned local ports to the planned remote ones, and QUIC on the port
 * that has a hole, both keys compared. When, and from which socket, is decided in `punch-udp-machine.ts`; which
 * ports, in `core/nat/`.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { formatEndpoint } from "../ip.ts";
import type { PunchBudget } from "../nat/punch-budget.ts";
import { ANY_PORT, type PunchPart, type PunchPlan, UNKNOWN_PORT } from "../nat/punch-plan.ts";
import type { Credentials, QuicEndpoint, QuicPath, Timer, UdpSocket, World } from "../net/world.ts";
import { decodeProbe, encodeProbe } from "../wire/punch-probe.ts";
import type { GatheredUdp } from "./gather-udp.ts";
import { ownPath } from "./owned-path.ts";
import type { PunchCost } from "./punch-cost.ts";
import { type UdpPunchAction, UdpPunchMachine } from "./punch-udp-machine.ts";
import type { Note } from "./race.ts";

export interface PunchUdpOptions {
  readonly role: "caller" | "called";
  readonly method: PunchPlan["method"];
  /** Our part of the plan, and the other side's. */
  readonly part: PunchPart;
  readonly other: PunchPart;
  readonly remoteIp: string;
  readonly localIp: string;
  readonly device?: string | undefined;
  /** Its sockets are taken over, and closed when the punch ends. */
  readonly gathered: GatheredUdp;
  /** Of the probes. */
  readonly key: Uint8Array;
  readonly credentials: Credentials;
  /** How often a path shows a sign of life. */
  readonly keepAliveMs: number;
  /** Compressed key that the peer must prove. */
  readonly expectedKey: Uint8Array;
  /** For this punch alone. */
  readonly budget: PunchBudget;
  /** Adds what is sent. */
  readonly cost: PunchCost;
  readonly signal: AbortSignal;
  readonly note: Note;
  /** Of the called side: the caller's paths, of which one will greet. Each lives on when the punch ends. */
  readonly accepted?: (punched: PunchedUdp) => void;
}

export interface PunchedUdp {
  readonly stream: QuicPath;
  /** About one round trip, in milliseconds. */
  readonly rttMs: number;
  /** Both ports of the hole, for people. */
  readonly candidate: string;
  /** Datagrams that were sent before it stood, without those of the handshake. */
  readonly packets: number;
}

type PunchUdpWorld = Pick<World, "time" | "openUdp" | "openQuic">;

/** An Initial that is lost would be sent again after a second only (RFC 9002 section 6.2.2). */
const CONNECT_AGAIN_MS = [0, 250, 600];
/** That a caller has to one port of the called side: one of each handshake, and one from an attempt before. */
const MAX_PATHS = CONNECT_AGAIN_MS.length + 1;
/** A timeline is read by people: the first are told one by one. */
const MAX_NOTES = 8;

interface Place {
  readonly chain: { now: Promise<unknown> };
  localPort: number;
  socket?: UdpSocket | undefined;
  quic?: QuicEndpoint | undefined;
  connecting?: AbortController | undefined;
}

/**
 * The caller's promise resolves with the path; the called side's when `signal` fires. Both reject with
 * `connect-failed`, which tells what was sent and heard, or with `aborted`; what was opened is closed then.
 */
export function punchUdp(world: PunchUdpWorld, options: PunchUdpOptions): Promise<PunchedUdp> {
  return new UdpPunch(world, options).run();
}

class UdpPunch {
  readonly #world: PunchUdpWorld;
  readonly #options: PunchUdpOptions;
  readonly #machine: UdpPunchMachine;
  readonly #places: readonly Place[];
  readonly #done = Promise.withResolvers<PunchedUdp>();
  readonly #beganMs: number;
  /** Endpoints that a path lives on. */
  readonly #kept = new Set<QuicEndpoint>();
  #timer: Timer | undefined;
  #isOver = false;
  #heard = 0;
  #notes = 0;
  #lastFailure = "";

  constructor(world: PunchUdpWorld, options: PunchUdpOptions) {
    this.#world = world;
    this.#options = options;
    this.#beganMs = world.time.now();
    const { role, method, part, other, budget, gathered } = options;
    const { packets: maxPackets, sockets, ms: maxMs } = budget;
    this.#machine = new UdpPunchMachine({ role, method, part, other, maxPackets, maxMs }, this.#beganMs);
    this.#places = this.#machine.slots.slice(0, sockets).map(({ localPort }, slot) => {
      const socket = gathered.sockets.get(localPort);
      const place: Place = { chain: { now: Promise.resolve() }, localPort, socket };
      if (socket !== undefined) this.#listenTo(slot, socket);
      return place;
    });
  }

  run(): Promise<PunchedUdp> {
    const { signal } = this.#options;
    const stop = (): void =>
      this.#end(() => this.#done.reject(new P2pdError("aborted", "punching was stopped")));
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    else this.#advance();
    return this.#done.promise.finally(() => signal.removeEventListener("abort", stop));
  }

  #advance(): void {
    this.#timer?.cancel();
    const now = this.#world.time.now();
    const { actions, wakeAtMs } = this.#machine.advance(now);
    this.#perform(actions);
    if (this.#isOver) return;
    if (wakeAtMs === undefined) this.#end(() => this.#done.reject(this.#failure()));
    else this.#timer = this.#world.time.after(wakeAtMs - now, () => this.#advance());
  }

  #perform(actions: readonly UdpPunchAction[]): void {
    for (const action of actions) {
      if (action.act === "send") this.#send(action);
      else if (action.act === "listen") this.#change(action.slot, (place) => this.#listen(place));
      else if (action.act === "connect") this.#change(action.slot, (place) => this.#connect(place, action));
      else {
        this.#places[action.slot]?.connecting?.abort();
        this.#change(action.slot, (place) => this.#reopen(action.slot, place));
      }
    }
  }

  /** What is done to one port is done in order. */
  #change(slot: number, act: (place: Place) => Promise<void>): void {
    const place = this.#places[slot];
    if (place === undefined) return;
    place.chain.now = place.chain.now
      .then(() => (this.#isOver ? undefined : act(place)))
      .catch((thrown: unknown) => {
        this.#lastFailure = toP2pdError(thrown).message;
      });
  }

  #send({ slot, to, kind, number }: Extract<UdpPunchAction, { act: "send" }>): void {
    const { role, key, remoteIp } = this.#options;
    const bytes = encodeProbe({ from: role, kind, number }, key);
    const place = this.#places[slot];
    if (place === undefined) return;
    this.#options.cost.datagrams++;
    const isFirst = place.socket === undefined;
    if (!isFirst) place.socket?.send(bytes, { ip: remoteIp, port: to });
    else {
      this.#change(slot, async () => {
        if (place.socket === undefined && place.quic === undefined) await this.#reopen(slot, place);
        place.socket?.send(bytes, { ip: remoteIp, port: to });
      });
    }
  }

  #listenTo(slot: number, socket: UdpSocket): void {
    const { role, key, remoteIp } = this.#options;
    socket.attach({
      message: (bytes, from) => {
        if (this.#isOver || from.ip !== remoteIp) return;
        const probe = decodeProbe(bytes, key);
        if (probe === undefined || probe.from === role) return;
        this.#heard++;
        this.#tell(
          "heard",
          `${probe.kind} ${probe.number} on ${socket.local.port} from ${formatEndpoint(from)}`,
        );
        const now = this.#world.time.now();
        this.#perform(this.#machine.heard(now, slot, from.port, probe.kind));
        if (!this.#isOver) this.#advance();
      },
      error: (error) => {
        this.#lastFailure = error.message;
      },
    });
  }

  async #reopen(slot: number, place: Place): Promise<void> {
    const { localIp, device } = this.#options;
    const { quic } = place;
    place.quic = undefined;
    if (quic !== undefined && !this.#kept.has(quic)) await quic.close();
    if (this.#isOver || (quic !== undefined && this.#kept.has(quic))) return;
    const local = { ip: localIp, port: place.localPort };
    const socket = await this.#world.openUdp({ local, ...(device === undefined ? {} : { device }) });
    if (this.#isOver) return socket.close();
    place.localPort = socket.local.port;
    place.socket = socket;
    this.#listenTo(slot, socket);
  }

  async #openQuic(place: Place, accept?: (path: QuicPath) => void): Promise<QuicEndpoint> {
    const { localIp, device, credentials, keepAliveMs } = this.#options;
    if (this.#world.openQuic === undefined) throw new P2pdError("unsupported", "this node has no QUIC");
    place.localPort = place.socket?.local.port ?? place.localPort;
    place.socket?.close();
    place.socket = undefined;
    const quic = await this.#world.openQuic({
      local: { ip: localIp, port: place.localPort },
      device,
      credentials,
      keepAliveMs,
      ...(accept === undefined ? {} : { accept }),
    });
    if (this.#isOver) {
      await quic.close();
      throw new P2pdError("aborted", "punching was stopped");
    }
    place.quic = quic;
    return quic;
  }

  async #listen(place: Place): Promise<void> {
    let paths = 0;
    // Who repeats a handshake may come to have two paths for a while.
    const below = { close: () => (--paths === 0 ? quic.close() : undefined) };
    const quic = await this.#openQuic(place, (path) => {
      const { expectedKey, accepted } = this.#options;
      if (Buffer.compare(path.peerKey, expectedKey) !== 0) {
        path.abort(new P2pdError("peer-key", "this port waits for another node"));
        return;
      }
      if (this.#isOver || paths === MAX_PATHS) {
        path.abort(new P2pdError("refused", "this port has a path already"));
        return;
      }
      this.#kept.add(quic);
      paths++;
      const stream = ownPath(this.#world.time, path, below);
      accepted?.(this.#punched(stream, place.localPort));
    });
  }

  async #connect(
    place: Place,
    { slot, to, afterMs }: Extract<UdpPunchAction, { act: "connect" }>,
  ): Promise<void> {
    const { remoteIp, expectedKey } = this.#options;
    const quic = await this.#openQuic(place);
    const stopping = new AbortController();
    place.connecting = stopping;
    const remote = { ip: remoteIp, port: to };
    this.#tell("connecting", `QUIC from ${place.localPort} to ${formatEndpoint(remote)}`);
    const { time } = this.#world;
    const timers: Timer[] = [];
    const attempts = CONNECT_AGAIN_MS.map(async (againMs) => {
      const delayMs = afterMs + againMs;
      if (delayMs > 0) await new Promise<void>((resolve) => timers.push(time.after(delayMs, resolve)));
      return quic.connect({ remote, expectedKey, timeoutMs: 4000, signal: stopping.signal });
    });
    // The connection goes on while the place is free to be taken back.
    const connected = (path: QuicPath): void => {
      for (const timer of timers) timer.cancel();
      if (this.#isOver) return path.abort();
      this.#kept.add(quic);
      const punched = this.#punched(ownPath(time, path, quic), place.localPort);
      this.#end(() => this.#done.resolve(punched));
      stopping.abort();
    };
    const failed = (thrown: unknown): void => {
      for (const timer of timers) timer.cancel();
      const [first] = thrown instanceof AggregateError ? thrown.errors : [thrown];
      this.#lastFailure = toP2pdError(first).message;
      if (this.#isOver) return;
      this.#perform(this.#machine.failed(time.now(), slot));
      this.#advance();
    };
    stopping.signal.addEventListener("abort", () => {
      for (const timer of timers) timer.cancel();
    });
    Promise.any(attempts).then(connected, failed);
  }

  #punched(stream: QuicPath, localPort: number): PunchedUdp {
    return {
      stream,
      rttMs: stream.rttMs(),
      candidate: `${localPort} -> ${formatEndpoint(stream.remote)}/udp`,
      packets: this.#machine.sent,
    };
  }

  #tell(event: string, detail: string): void {
    if (this.#notes++ < MAX_NOTES) this.#options.note(event, detail);
  }

  #failure(): P2pdError {
    const { method, part, remoteIp } = this.#options;
    const ms = Math.round(this.#world.time.now() - this.#beganMs);
    const ports = [...new Set(part.appearsAs)].filter((port) => port !== UNKNOWN_PORT && port !== ANY_PORT);
    const heard =
      this.#heard === 0
        ? "nothing was heard: one of the routers did not use the ports that were foreseen, or UDP is filtered"
        : `${this.#heard} probes were heard, but no QUIC handshake succeeded${this.#lastFailure === "" ? "" : ` (${this.#lastFailure})`}`;
    const from = ports.length === 0 ? "" : `, foreseen to come from ${ports.slice(0, 4).join(", ")}`;
    const text = `${method}: ${this.#machine.sent} datagrams to ${remoteIp}${from} within ${ms} ms; ${heard}`;
    return new P2pdError("connect-failed", text, { packets: this.#machine.sent });
  }

  #end(settle: () => void): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#timer?.cancel();
    for (const { socket, quic, connecting } of this.#places) {
      socket?.close();
      if (quic !== undefined && !this.#kept.has(quic)) void quic.close();
      if (quic === undefined || !this.#kept.has(quic)) connecting?.abort();
    }
    this.#options.gathered.close();
    settle();
  }
}
