/**
 * A session between two nodes, as a channel: the frames of `core/wire/session-frame.ts` on a stream whose peer has
 * proved its key. The dialer greets with HELLO, the acceptor answers WELCOME or a refusal, then DATA goes both ways
 * until both have said FIN or one RESET. What stands above does not see the stream, so that a session may one day
 * outlive it. Which session is wanted, and what it is for, is decided in `session-greeting.ts` and `node.ts`.
 */
import { ERROR_CODES, type ErrorCode, P2pdError, toP2pdError } from "../errors.ts";
import type { Endpoint } from "../ip.ts";
import type { ByteStream, Time, Timer } from "../net/world.ts";
import {
  type Answer,
  type ControlType,
  decodeAnswer,
  decodeHello,
  decodeReset,
  decodeWelcome,
  encodeAnswer,
  encodeFin,
  encodeHello,
  encodeReset,
  encodeWelcome,
  FRAME_HEADER_LENGTH,
  FrameDecoder,
  type Hello,
  MAX_DATA_LENGTH,
  type Reason,
  type Welcome,
  WHOLE_DATA_LENGTH,
  writeFrameHeader,
} from "../wire/session-frame.ts";
import type { Channel, ChannelHandlers } from "./channel.ts";

/** How long a peer may take for its greeting. */
export const GREETING_TIMEOUT_MS = 10_000;
/** How long a session that was broken off waits for its RESET to arrive. */
const RESET_LINGER_MS = 1000;
/** How long one that ended in order waits for a slow reader to take the last of it. */
const FIN_LINGER_MS = 120_000;
/** With more than this before it a RESET would come too late to be worth waiting for. */
const RESET_BACKLOG = 256 * 1024;
const CAPABILITIES: readonly string[] = [];

export interface SessionOptions {
  readonly role: "dialer" | "acceptor";
  readonly time: Time;
  /** 10,000 by default. */
  readonly greetingTimeoutMs?: number;
}

export class Session implements Channel {
  readonly kind = "stream";
  readonly local: Endpoint;
  readonly remote: Endpoint;
  /**
   * The acceptor's view of the dialer's HELLO; or of an ANSWER, and then this side has become the dialer. Rejects
   * with `closed`, `protocol` or `timeout`.
   */
  readonly hello: Promise<Hello | Answer>;
  /** The dialer's view of the acceptor's WELCOME, refusals included. Rejects like `hello`. */
  readonly welcomed: Promise<Welcome>;
  /** Settles when the stream below is gone. */
  readonly closed: Promise<void>;

  readonly #stream: ByteStream;
  readonly #options: SessionOptions;
  readonly #decoder: FrameDecoder;
  readonly #hello = Promise.withResolvers<Hello | Answer>();
  readonly #welcomed = Promise.withResolvers<Welcome>();
  readonly #closed = Promise.withResolvers<void>();
  #role: SessionOptions["role"];
  #handlers: ChannelHandlers | undefined;
  #greetingTimer: Timer | undefined;
  #linger: Timer | undefined;
  #greeted = false;
  #helloSentAt = 0;
  #rttMs: number | undefined;
  #paused = false;
  #pumping = false;
  /** What has come and not been delivered: at most what one or two reads brought. */
  #held: Uint8Array[] = [];
  #streamEnded = false;
  #streamClosed: { readonly error: P2pdError | undefined } | undefined;
  #finSent = false;
  #finReceived = false;
  /** Nothing more is delivered; the stream is being wound up. */
  #over = false;
  #closeError: P2pdError | undefined;
  #closeTold = false;

  /** Takes over `stream`, which nobody may have attached to. */
  constructor(stream: ByteStream, options: SessionOptions) {
    this.#stream = stream;
    this.#options = options;
    this.#role = options.role;
    this.local = stream.local;
    this.remote = stream.remote;
    this.hello = this.#hello.promise;
    this.welcomed = this.#welcomed.promise;
    this.closed = this.#closed.promise;
    // Whether anybody waits for a greeting is the caller's choice; the close tells the failure too.
    this.hello.catch(() => undefined);
    this.welcomed.catch(() => undefined);
    this.#decoder = new FrameDecoder({
      control: (type, payload) => {
        this.#control(type, payload);
      },
      data: (bytes) => {
        if (!this.#greeted) throw new P2pdError("protocol", "DATA came before the greeting");
        if (this.#finReceived) throw new P2pdError("protocol", "DATA came after FIN");
        this.#handlers?.message(bytes, this.remote);
      },
    });
    const timeoutMs = options.greetingTimeoutMs ?? GREETING_TIMEOUT_MS;
    this.#greetingTimer = options.time.after(
      timeoutMs,
      () => {
        this.abort(new P2pdError("timeout", `the peer did not greet within ${timeoutMs} ms`));
      },
      { background: true },
    );
    stream.attach({
      data: (bytes) => {
        if (this.#over) return;
        this.#held.push(bytes);
        this.#pump();
      },
      drain: () => {
        if (!this.#over) this.#handlers?.drain();
      },
      end: () => {
        this.#streamEnded = true;
        this.#pump();
      },
      close: (error) => {
        this.#streamClosed = { error };
        this.#closed.resolve();
        this.#pump();
      },
    });
  }

  get fd(): number {
    return this.#stream.fd;
  }

  get pendingBytes(): number {
    return this.#stream.pendingBytes;
  }

  /** Of the dialer: from HELLO to WELCOME, in milliseconds; absent until that is known. */
  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  /** Sends HELLO; DATA may follow at once. */
  greet(wish: Pick<Hello, "service" | "mode"> = {}): void {
    this.#helloSentAt = this.#options.time.now();
    this.#stream.write(encodeHello({ version: 1, capabilities: CAPABILITIES, ...wish }));
  }

  /** Of an acceptor that connected because it was asked to: says which request it answers. HELLO follows. */
  answer(token: string): void {
    this.#stream.write(encodeAnswer({ version: 1, token }));
  }

  /** Answers HELLO: the session stands. */
  welcome(): void {
    if (!this.#over) this.#stream.write(encodeWelcome({ version: 1, capabilities: CAPABILITIES }));
  }

  /** Answers HELLO with why there will be no session, and ends it. */
  refuse(reason: Reason): void {
    if (this.#over) return;
    const refusal = { code: reason.code, text: reason.text.slice(0, 512) };
    this.#stream.write(encodeWelcome({ version: 1, capabilities: CAPABILITIES, refusal }));
    this.#windUp(new P2pdError("refused", reason.text), RESET_LINGER_MS);
  }

  attach(handlers: ChannelHandlers): void {
    this.#handlers = handlers;
    queueMicrotask(() => {
      this.#pump();
    });
  }

  send(bytes: Uint8Array): boolean {
    if (this.#over || this.#finSent) return true;
    let more = true;
    if (bytes.length <= WHOLE_DATA_LENGTH) {
      const frame = new Uint8Array(FRAME_HEADER_LENGTH + bytes.length);
      writeFrameHeader(frame, "data", bytes.length);
      frame.set(bytes, FRAME_HEADER_LENGTH);
      return this.#stream.write(frame);
    }
    for (let at = 0; at < bytes.length; at += MAX_DATA_LENGTH) {
      const part = bytes.subarray(at, at + MAX_DATA_LENGTH);
      const header = new Uint8Array(FRAME_HEADER_LENGTH);
      writeFrameHeader(header, "data", part.length);
      this.#stream.write(header);
      more = this.#stream.write(part);
    }
    return more;
  }

  pause(): void {
    this.#paused = true;
    this.#decoder.stop();
    if (!this.#over) this.#stream.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#pump();
    if (!this.#paused) this.#stream.resume();
  }

  end(): void {
    if (this.#over || this.#finSent) return;
    this.#finSent = true;
    this.#stream.write(encodeFin());
    this.#endIfBothHave();
  }

  abort(reason?: P2pdError): void {
    if (this.#over) {
      // In order until now, but no longer worth the wait.
      this.#closeError ??= reason;
      this.#stream.abort(reason);
      return;
    }
    const late = this.#stream.pendingBytes > RESET_BACKLOG;
    if (!late) {
      this.#stream.write(
        encodeReset({ code: reason?.code ?? "closed", text: reason?.message ?? "the peer closed" }),
      );
    }
    this.#windUp(reason, RESET_LINGER_MS);
    if (late) this.#stream.abort(reason);
  }

  /** Delivers what has come, in order, as far as the receiver wants it. */
  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      while (this.#mayDeliver() && this.#held.length > 0) {
        const chunk = this.#held.shift() as Uint8Array;
        const rest = this.#decoder.push(chunk);
        if (rest.length > 0 && !this.#over) this.#held.unshift(rest);
      }
    } catch (error) {
      this.abort(toP2pdError(error, "protocol"));
    } finally {
      this.#pumping = false;
    }
    if (this.#held.length > 0) {
      this.#stream.pause();
      return;
    }
    if (this.#mayDeliver()) this.#stream.resume();
    this.#tellEnd();
  }

  #mayDeliver(): boolean {
    return !this.#over && !this.#paused && (!this.#greeted || this.#handlers !== undefined);
  }

  /** What the stream's end means, once everything before it was delivered. */
  #tellEnd(): void {
    if (this.#streamEnded && !this.#over && !this.#finReceived) {
      this.#windUp(new P2pdError("closed", "the connection to the peer ended without a goodbye"), 0);
    }
    if (this.#streamClosed === undefined) return;
    const { error } = this.#streamClosed;
    if (!this.#over) {
      const why = error === undefined ? "the connection to the peer ended without a goodbye" : error.message;
      this.#windUp(new P2pdError("closed", why, {}, { cause: error }), 0);
    }
    this.#linger?.cancel();
    if (this.#handlers === undefined || this.#closeTold) return;
    this.#closeTold = true;
    this.#handlers.close(this.#closeError);
  }

  #control(type: ControlType, payload: Uint8Array): void {
    if (type === "reset") {
      this.#windUp(errorOf(decodeReset(payload)), RESET_LINGER_MS);
      return;
    }
    if (type === "answer" && this.#role === "acceptor" && !this.#greeted) {
      this.#hello.resolve(decodeAnswer(payload));
      this.#role = "dialer";
      return;
    }
    const greeting = this.#role === "acceptor" ? "hello" : "welcome";
    if (this.#greeted !== (type === "fin") || (type !== "fin" && type !== greeting)) {
      throw new P2pdError("protocol", `${type.toUpperCase()} came where it has no place`);
    }
    if (type === "hello") {
      this.#hello.resolve(decodeHello(payload));
      this.#haveGreeting();
    } else if (type === "welcome") {
      const welcome = decodeWelcome(payload);
      this.#rttMs = this.#options.time.now() - this.#helloSentAt;
      this.#haveGreeting();
      this.#welcomed.resolve(welcome);
      if (welcome.refusal !== undefined) this.#windUp(errorOf(welcome.refusal), RESET_LINGER_MS);
    } else {
      if (this.#finReceived) throw new P2pdError("protocol", "FIN came twice");
      this.#finReceived = true;
      this.#handlers?.end();
      this.#endIfBothHave();
    }
  }

  #haveGreeting(): void {
    this.#greeted = true;
    this.#greetingTimer?.cancel();
    if (this.#handlers === undefined) this.#decoder.stop();
  }

  #endIfBothHave(): void {
    if (this.#finSent && this.#finReceived && !this.#over) this.#windUp(undefined, FIN_LINGER_MS);
  }

  /** Ends the stream after what is pending, and not later than `lingerMs`; its close is passed on. */
  #windUp(error: P2pdError | undefined, lingerMs: number): void {
    this.#over = true;
    this.#closeError = error;
    this.#held = [];
    this.#decoder.stop();
    this.#greetingTimer?.cancel();
    const ungreeted = error ?? new P2pdError("closed", "the session was closed before its greeting");
    this.#hello.reject(ungreeted);
    this.#welcomed.reject(ungreeted);
    if (this.#streamClosed !== undefined) return;
    this.#stream.resume();
    this.#stream.end();
    if (lingerMs === 0) this.#stream.abort(error);
    else {
      this.#linger = this.#options.time.after(
        lingerMs,
        () => {
          this.#stream.abort(error);
        },
        { background: true },
      );
    }
  }
}

function errorOf({ code, text }: Reason): P2pdError {
  const known = (ERROR_CODES as readonly string[]).includes(code) ? (code as ErrorCode) : "closed";
  return new P2pdError(known, text);
}
