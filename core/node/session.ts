/**
 * A session between two nodes, as a channel: DATA both ways until both have said FIN or one RESET, above paths whose
 * peer has proved its key. A path that breaks or is exchanged costs no octet: both sides count positions, keep what is
 * not acknowledged, and say on the next path what they have. What is kept of each direction is in `send-window.ts` and
 * `inbound.ts`, which path carries it in `carrier.ts`; who looks for another path is told as a `SessionKeeper`.
 */
import { ERROR_CODES, type ErrorCode, P2pdError } from "../errors.ts";
import type { Path } from "../connect/race.ts";
import type { Endpoint } from "../ip.ts";
import type { Time, Timer } from "../net/world.ts";
import {
  type ControlType,
  decodeReset,
  decodeWelcome,
  encodeHello,
  encodeReset,
  encodeWelcome,
  type Hello,
  type Reason,
  type Welcome,
} from "../wire/session-frame.ts";
import { decodeAck, encodeAck, type Resume } from "../wire/session-positions.ts";
import { Carrier } from "./carrier.ts";
import type { Channel, ChannelHandlers } from "./channel.ts";
import { Inbound } from "./inbound.ts";
import { GREETING_TIMEOUT_MS } from "./opening.ts";
import { SendWindow } from "./send-window.ts";

/** How long a session that was broken off waits for its RESET to arrive, and one that ended for the peer's end. */
const RESET_LINGER_MS = 1000;
const END_LINGER_MS = 5000;
/** With more than this before it a RESET would come too late to be worth waiting for. */
const RESET_BACKLOG = 256 * 1024;
/** More than this unsent, and `send` asks to wait for `drain`, which comes with half of it. */
const HIGH_WATER = 64 * 1024;
const CAPABILITIES: readonly string[] = [];
const FORGOTTEN = "the path to the peer broke, and the peer knows this connection no more: it was restarted";

/** Who looks for another path where one is lost. Told after the session has changed. */
export interface SessionKeeper {
  /** The path may be lost: an answer is overdue. Ends as `interrupted` does, which may follow. */
  doubted(session: Session): void;
  /** Nothing carries the session at the moment. Ends with `restored`, `moved` or `over`. */
  interrupted(session: Session, why: P2pdError): void;
  /** The path that was silent is heard again; 0: nothing was interrupted. */
  restored(session: Session, interruptedMs: number): void;
  /** `session.path` is another one. 0: nothing was interrupted. */
  moved(session: Session, interruptedMs: number): void;
  over(session: Session): void;
}

export interface SessionOptions {
  readonly role: "dialer" | "acceptor";
  readonly time: Time;
  /** Names it between the two nodes: 16 random octets in base64url, chosen by the dialer. */
  readonly id: string;
  /** An acceptor's brought HELLO already. */
  readonly path: Path;
  /** `datagrams`: every path must be QUIC. */
  readonly mode?: Hello["mode"] | undefined;
  /** Of the peer's WELCOME: 10,000 by default. */
  readonly greetingTimeoutMs?: number;
}

export class Session implements Channel {
  readonly kind = "stream";
  readonly id: string;
  readonly role: SessionOptions["role"];
  /** The dialer's view of the acceptor's WELCOME, refusals included. Rejects with what ended the session before it. */
  readonly welcomed: Promise<Welcome>;
  /** Settles when the session is over and no stream of it is left. */
  readonly closed: Promise<void>;

  readonly #welcomed = Promise.withResolvers<Welcome>();
  readonly #closed = Promise.withResolvers<void>();
  readonly #send = new SendWindow();
  readonly #inbound: Inbound;
  readonly #carrier: Carrier;
  readonly #pathListeners: (() => void)[] = [];
  #keeper: SessionKeeper | undefined;
  #resumeForMs = 0;
  #handlers: ChannelHandlers | undefined;
  #drainOwed = false;
  #greetingTimer: Timer | undefined;
  /** Both sides have greeted. */
  #isGreeted = false;
  /** The conversation is over; the stream is being wound up. */
  #isOver = false;
  #closeError: P2pdError | undefined;
  #isCloseTold = false;

  /** Takes over the path's stream, which nobody may have attached to. */
  constructor(options: SessionOptions) {
    const { role, time, id, path, mode, greetingTimeoutMs: timeoutMs = GREETING_TIMEOUT_MS } = options;
    this.role = role;
    this.id = id;
    this.welcomed = this.#welcomed.promise;
    this.closed = this.#closed.promise;
    // Whether anybody waits for the greeting is the caller's choice; the close tells the failure too.
    this.welcomed.catch(() => undefined);
    this.#inbound = new Inbound({
      time,
      tell: (credit) => this.#carrier.current?.writeAnswer(encodeAck(credit)) ?? false,
      failed: (error) => this.abort(error),
      settled: () => this.#settle(),
    });
    this.#carrier = new Carrier(
      { id, role, time, path, mode },
      {
        data: (bytes) => {
          if (role === "dialer" && !this.#isGreeted)
            throw new P2pdError("protocol", "DATA came before the greeting");
          this.#inbound.data(bytes);
        },
        control: (type, payload) => this.#control(type, payload),
        drain: () => {
          this.#inbound.tellNews("soon");
          this.#pump();
        },
        failed: (error) => this.abort(error),
        credit: () => this.#inbound.credit,
        agree: (theirs) => this.#send.resume(theirs),
        switched: (from, told) => this.#inbound.moved(from, told),
        lost: () => this.#send.rewind(),
        over: (error) => this.#windUp(error, 0),
        forgotten: () => this.#windUp(this.#isEnded ? undefined : new P2pdError("closed", FORGOTTEN), 0),
        gone: () => this.#settle(),
        doubted: () => this.#keeper?.doubted(this),
        interrupted: (why) => this.#keeper?.interrupted(this, why),
        restored: (interruptedMs) => this.#keeper?.restored(this, interruptedMs),
        moved: (interruptedMs) => {
          for (const listener of this.#pathListeners) listener();
          this.#keeper?.moved(this, interruptedMs);
          this.#pump();
        },
      },
    );
    this.#carrier.start();
    if (role !== "dialer" || this.#isOver) return;
    const late = (): void =>
      this.abort(new P2pdError("timeout", `the peer did not greet within ${timeoutMs} ms`));
    this.#greetingTimer = time.after(timeoutMs, late, { background: true });
  }

  /** The path that carries it, or that did last. */
  get path(): Path {
    return this.#carrier.path;
  }

  get local(): Endpoint {
    return this.path.stream.local;
  }

  get remote(): Endpoint {
    return this.path.stream.remote;
  }

  get fd(): number {
    return this.path.stream.fd;
  }

  get pendingBytes(): number {
    return this.#send.unsent + (this.#carrier.current?.pendingBytes ?? 0);
  }

  /** Of the path, in milliseconds: as last measured. */
  get rttMs(): number {
    return this.#carrier.current?.rttMs ?? this.path.rttMs;
  }

  /** Nothing carries it at the moment. */
  get isInterrupted(): boolean {
    return this.#carrier.isInterrupted;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** From now on a lost path is replaced with the keeper's help, for so long; until then it ends the session. */
  keep(keeper: SessionKeeper, resumeForMs: number): void {
    this.#keeper = keeper;
    this.#resumeForMs = resumeForMs;
    if (this.#isGreeted) this.#carrier.resumeFor(resumeForMs);
  }

  /** Sends HELLO; DATA may follow at once. */
  greet(wish: Pick<Hello, "service" | "mode"> = {}): void {
    this.#say(encodeHello({ version: 1, capabilities: CAPABILITIES, session: this.id, ...wish }));
  }

  /** Answers HELLO: the session stands. */
  welcome(): void {
    if (this.#isOver) return;
    this.#say(encodeWelcome({ version: 1, capabilities: CAPABILITIES }));
    this.#haveGreeted();
  }

  /** Answers HELLO with why there will be no session, and ends it. */
  refuse(reason: Reason): void {
    if (this.#isOver) return;
    const refusal = { code: reason.code, text: reason.text.slice(0, 512) };
    this.#say(encodeWelcome({ version: 1, capabilities: CAPABILITIES, refusal }));
    this.#inbound.stop();
    this.#windUp(new P2pdError("refused", reason.text), RESET_LINGER_MS);
  }

  attach(handlers: ChannelHandlers): void {
    this.#handlers = handlers;
    this.#inbound.attach({
      message: (bytes) => handlers.message(bytes, this.remote),
      end: () => handlers.end(),
    });
    queueMicrotask(() => {
      this.#inbound.deliver();
      this.#settle();
    });
  }

  send(bytes: Uint8Array): boolean {
    if (this.#isOver || this.#send.isFinished) return true;
    this.#send.push(bytes);
    this.#pump();
    if (this.#send.unsent < HIGH_WATER && this.#carrier.current?.isFull !== true) return true;
    this.#drainOwed = true;
    return false;
  }

  pause(): void {
    this.#inbound.pause();
  }

  resume(): void {
    this.#inbound.resume();
  }

  end(): void {
    if (this.#isOver || this.#send.isFinished) return;
    this.#send.finish();
    this.#pump();
  }

  abort(reason?: P2pdError): void {
    this.#inbound.stop();
    if (this.#isOver) {
      // In order until now, but no longer worth the wait.
      this.#closeError ??= reason;
      this.#carrier.leave(reason, 0);
      return this.#settle();
    }
    const isLate = (this.#carrier.current?.pendingBytes ?? 0) > RESET_BACKLOG;
    const text = reason?.message ?? "the peer closed";
    if (!isLate) this.#say(encodeReset({ code: reason?.code ?? "closed", text }));
    this.#windUp(reason, isLate ? 0 : RESET_LINGER_MS);
  }

  /** Asks the peer for a sign of life; without one within 1.5 s the session is interrupted. */
  probe(): void {
    this.#carrier.current?.probe();
  }

  /** Calls `listener` after every change of `path`. */
  onPath(listener: () => void): void {
    this.#pathListeners.push(listener);
  }

  /** The path is known to be lost. */
  interrupt(why: P2pdError): void {
    this.#carrier.interrupt(why);
  }

  /**
   * Goes on over `path`, on which nothing has been said yet; the old path stays in use until the peer has agreed.
   * Rejects with `aborted`, `refused`, `timeout`, `unsupported`, `protocol` or `closed`; the path is then closed.
   */
  moveTo(path: Path): Promise<void> {
    return this.#carrier.moveTo(path);
  }

  /** The peer goes on over `path`, on which it has sent `resume`; the caller has compared its key. */
  takeOver(path: Path, resume: Resume): void {
    this.#carrier.takeOver(path, resume);
  }

  /** Both sides have said FIN. */
  get #isEnded(): boolean {
    return this.#send.isFinished && this.#inbound.isFinished;
  }

  #say(frame: Uint8Array): void {
    this.#carrier.current?.write(frame);
  }

  #haveGreeted(): void {
    this.#isGreeted = true;
    this.#greetingTimer?.cancel();
    this.#carrier.resumeFor(this.#resumeForMs);
    this.#pump();
  }

  #control(type: ControlType, payload: Uint8Array): void {
    const isGreeted = this.role === "acceptor" || this.#isGreeted;
    if (type === "reset") this.#windUp(errorOf(decodeReset(payload)), RESET_LINGER_MS);
    else if (type === "welcome" && !isGreeted) this.#haveWelcome(decodeWelcome(payload));
    else if (type === "fin" && isGreeted) this.#inbound.fin();
    else if (type === "ack" && isGreeted) this.#send.acknowledge(decodeAck(payload));
    else throw new P2pdError("protocol", `${type.toUpperCase()} came where it has no place`);
    this.#pump();
  }

  #haveWelcome(welcome: Welcome): void {
    this.#haveGreeted();
    this.#welcomed.resolve(welcome);
    if (welcome.refusal !== undefined) this.#windUp(errorOf(welcome.refusal), RESET_LINGER_MS);
  }

  /** Sends what may be sent, and sees what follows from what the peer has. */
  #pump(): void {
    const link = this.#carrier.current;
    if (link === undefined || this.#isOver) return;
    if (!link.isFull) this.#send.pump((octets) => link.write(octets));
    link.owe(this.#send.isOwed);
    if (this.#send.isDone && this.#inbound.isFinished) return this.#windUp(undefined, END_LINGER_MS);
    if (!this.#drainOwed || link.isFull || this.#send.unsent > HIGH_WATER / 2) return;
    this.#drainOwed = false;
    this.#handlers?.drain();
  }

  /** Ends everything but the delivery of what has come; the stream not later than `lingerMs`. */
  #windUp(error: P2pdError | undefined, lingerMs: number): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#closeError = error;
    this.#send.clear();
    this.#inbound.quiet();
    this.#greetingTimer?.cancel();
    this.#welcomed.reject(error ?? new P2pdError("closed", "the session was closed before its greeting"));
    this.#carrier.leave(error, lingerMs);
    this.#keeper?.over(this);
    queueMicrotask(() => this.#settle());
  }

  /** Tells the close when nothing is left before it. */
  #settle(): void {
    if (!this.#isOver || !this.#carrier.isGone) return;
    this.#closed.resolve();
    if (this.#handlers === undefined || this.#isCloseTold || !this.#inbound.isSettled) return;
    this.#isCloseTold = true;
    this.#handlers.close(this.#closeError);
  }
}

function errorOf({ code, text }: Reason): P2pdError {
  const known = (ERROR_CODES as readonly string[]).includes(code) ? (code as ErrorCode) : "closed";
  return new P2pdError(known, text);
}
