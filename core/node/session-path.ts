/**
 * One path under a session: its stream, the frames on it and its liveness. Always reads, whatever the session's receiver
 * does, so that control frames get through. PING and PONG begin and end here; everything else is the session's.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import type { Path } from "../connect/race.ts";
import type { Time, Timer } from "../net/world.ts";
import { type ControlType, encodeFrame, FrameDecoder } from "../wire/session-frame.ts";
import { type Due, IDLE_MS, PathWatch } from "./path-watch.ts";

/** While so much waits to be sent the peer reads nothing; answers to it wait too, so that it cannot fill our memory. */
const MAX_BACKLOG = 1024 * 1024;

export interface PathHandlers {
  data(bytes: Uint8Array): void;
  control(type: ControlType, payload: Uint8Array): void;
  /** After a write returned false: more may be written. */
  drain(): void;
  /** An answer is overdue; or nothing was heard for so long that nothing will be; or something is again. */
  silent(how: "doubtful" | "dead" | "over"): void;
  /** What came makes no sense, or its receiver failed. */
  failed(error: P2pdError): void;
  /** Nothing will come any more, with the reason where there is one. The last event but `closed`. */
  ended(error: P2pdError | undefined): void;
  /** The stream is gone. */
  closed(): void;
}

export class SessionPath {
  readonly path: Path;
  readonly #time: Time;
  readonly #handlers: PathHandlers;
  readonly #decoder: FrameDecoder;
  readonly #watch: PathWatch;
  #timer: Timer | undefined;
  #timerAt = 0;
  #isFull = false;
  #isSilent = false;
  #isDoubted = false;
  /** The session is told nothing more, save the close. */
  #isLeft = false;
  #linger: Timer | undefined;

  /** Takes over the path's stream, which nobody may have attached to; nothing is read before `start`. */
  constructor(path: Path, time: Time, handlers: PathHandlers) {
    this.path = path;
    this.#time = time;
    this.#handlers = handlers;
    // QUIC shows signs of life by itself, as often as the routers on the way need them, and ends without them.
    const idleMs = "sendDatagram" in path.stream ? Number.POSITIVE_INFINITY : IDLE_MS;
    this.#watch = new PathWatch(time.now(), idleMs, path.rttMs);
    this.#decoder = new FrameDecoder({
      control: (type, payload) => this.#control(type, payload),
      data: (bytes) => {
        if (this.#isLeft) return;
        handlers.data(bytes);
        const lookAt = this.#watch.received(this.#time.now());
        if (lookAt !== undefined && !this.#isLeft) this.#arm(lookAt);
      },
    });
  }

  start(): void {
    const handlers = this.#handlers;
    this.path.stream.attach({
      data: (bytes) => this.#read(bytes),
      drain: () => {
        this.#isFull = false;
        if (!this.#isLeft) handlers.drain();
      },
      end: () => this.#end(undefined),
      close: (error) => {
        this.#end(error);
        this.#linger?.cancel();
        handlers.closed();
      },
    });
    if (!this.#isLeft) this.#arm(this.#watch.check(this.#time.now()).nextAt);
  }

  /** The last measured round trip, in milliseconds; until there is one, that of the handshake. */
  get rttMs(): number {
    return this.#watch.rttMs;
  }

  /** Since when nothing was heard, where that is doubtful. */
  get silentSince(): number | undefined {
    return this.#isDoubted ? this.#watch.heardAt : undefined;
  }

  /** Whether writing should wait for `drain`. */
  get isFull(): boolean {
    return this.#isFull;
  }

  get pendingBytes(): number {
    return this.path.stream.pendingBytes;
  }

  /** Returns false when writing should wait for `drain`; takes the octets in any case. */
  write(octets: Uint8Array): boolean {
    if (!this.path.stream.write(octets)) this.#isFull = true;
    return !this.#isFull;
  }

  /** Writes what the peer has caused, unless it does not read; returns whether it was written. */
  writeAnswer(frame: Uint8Array): boolean {
    if (this.pendingBytes > MAX_BACKLOG) return false;
    this.write(frame);
    return true;
  }

  /** Whether the peer owes an acknowledgement. */
  owe(isOwed: boolean): void {
    if (this.#isLeft) return;
    const lookAt = this.#watch.owe(isOwed, this.#time.now());
    if (lookAt !== undefined) this.#arm(lookAt);
  }

  measured(rttMs: number): void {
    this.#watch.measured(rttMs);
  }

  /** Asks for a sign of life now; without one the path is silent after 1.5 s. */
  probe(): void {
    if (!this.#isLeft) this.#act(this.#watch.probe(this.#time.now()));
  }

  /** Ends the stream after what is pending, not later than `lingerMs`. */
  leave(lingerMs: number): void {
    this.#leave();
    const { stream } = this.path;
    stream.end();
    this.#linger ??= this.#time.after(lingerMs, () => stream.abort(), { background: true });
  }

  abort(reason?: P2pdError): void {
    this.#leave();
    this.path.stream.abort(reason);
  }

  #leave(): void {
    this.#isLeft = true;
    this.#decoder.stop();
    this.#timer?.cancel();
  }

  #read(bytes: Uint8Array): void {
    if (this.#isLeft) return;
    this.#watch.heard(this.#time.now());
    if (this.#isDoubted) {
      const wasSilent = this.#isSilent;
      this.#isSilent = this.#isDoubted = false;
      this.#handlers.silent("over");
      if (wasSilent) this.#act(this.#watch.check(this.#time.now()));
    }
    try {
      this.#decoder.push(bytes);
    } catch (thrown) {
      if (!this.#isLeft) this.#handlers.failed(toP2pdError(thrown, "protocol"));
    }
  }

  #control(type: ControlType, payload: Uint8Array): void {
    if (this.#isLeft) return;
    if (type !== "ping" && type !== "pong") return this.#handlers.control(type, payload);
    if (payload.length > 0) throw new P2pdError("protocol", `${type.toUpperCase()} carries octets`);
    if (type === "ping") this.writeAnswer(encodeFrame("pong"));
    else this.#watch.ponged(this.#time.now());
  }

  #end(error: P2pdError | undefined): void {
    if (this.#isLeft) return;
    this.#leave();
    this.#handlers.ended(error);
  }

  #arm(at: number): void {
    if (!Number.isFinite(at) || (this.#timer !== undefined && this.#timerAt <= at)) return;
    this.#timer?.cancel();
    this.#timerAt = at;
    const look = (): void => {
      this.#timer = undefined;
      this.#act(this.#watch.check(this.#time.now()));
    };
    this.#timer = this.#time.after(Math.max(0, at - this.#time.now()), look, { background: true });
  }

  #act({ act, nextAt }: Due): void {
    if (this.#isLeft) return;
    if (act === "ping") this.write(encodeFrame("ping"));
    // Once dead there is no more to ask until something is heard, or the session has another path.
    if (act !== "dead") this.#arm(nextAt);
    if (act === "nothing" || act === "ping") return;
    this.#isDoubted = true;
    this.#isSilent = act === "dead";
    this.#handlers.silent(act === "dead" ? "dead" : "doubtful");
  }
}
