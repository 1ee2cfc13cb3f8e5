/**
 * One simulated TCP connection (RFC 9293 section 3.10): handshake from either side or both at once, ordered data
 * under loss, half-close, reset; and the `ByteStream` that programs see of it. Ports and listeners are
 * `tcp-stack.ts`'s part.
 */
import { P2pdError } from "../../core/errors.ts";
import { type Endpoint, formatEndpoint } from "../../core/ip.ts";
import type { ByteStream } from "../../core/net/world.ts";
import { createInbox } from "./inbox.ts";
import type { TcpHeader } from "./packet.ts";
import type { Scheduler } from "./scheduler.ts";
import { createTcpSender, SEGMENT_SIZE, type TcpPiece } from "./tcp-sender.ts";

export interface TcpConnection {
  readonly stream: ByteStream;
  /** Smoothed, in milliseconds; undefined before the first measurement. */
  readonly roundTripMs: number | undefined;
  /** Whether it only lingers to answer late segments. */
  readonly isLingering: boolean;
  receive(header: TcpHeader, payload: Uint8Array): void;
  /** An ICMP error about one of its segments. */
  unreachable(what: "port" | "host"): void;
  /** Sends an acknowledgement that nobody asked for. */
  acknowledge(): void;
  /** Ends an attempt that nobody wants any more, without a word to the peer. */
  giveUp(): void;
}

export interface TcpConnectionOptions {
  readonly scheduler: Scheduler;
  readonly local: Endpoint;
  readonly remote: Endpoint;
  readonly firstSequence: number;
  /** The SYN that a listener got; absent: this side connects. */
  readonly syn?: TcpHeader;
  /** It stands already, by some other handshake: the peer's first number. */
  readonly standsFrom?: number;
  send(header: TcpHeader, payload: Uint8Array): void;
  opened(stream: ByteStream): void;
  /** It did not come to stand. */
  failed(code: "refused" | "unreachable" | "timeout", why: string): void;
  /** Its ports are free again. */
  gone(): void;
}

type State = "syn-sent" | "syn-received" | "open" | "lingering" | "closed";

const RECEIVE_BUFFER = 128 * 1024;
const SEND_BUFFER = 128 * 1024;
/** More than this pending, and `write` asks to wait for `drain`. */
const HIGH_WATER = 64 * 1024;
const LINGER_MS = 60_000;
const SYN_TRIES = 6;
const SYN_ACK_TRIES = 5;
const DATA_TRIES = 15;
const NOTHING: Uint8Array = new Uint8Array(0);

export function createTcpConnection(options: TcpConnectionOptions): TcpConnection {
  const { scheduler, local, remote, syn } = options;
  const who = `the connection ${formatEndpoint(local)} -> ${formatEndpoint(remote)}`;
  let state: State = syn === undefined ? "syn-sent" : "syn-received";
  let expected = syn === undefined ? 0 : syn.sequence + 1;
  let shownWindow = RECEIVE_BUFFER;
  let owesAck = false;
  let peerEnded = false;
  let endedFirst = false;
  let ending = false;
  let streamClosed = false;
  let drainOwed = false;
  const early = new Map<number, { readonly payload: Uint8Array; readonly fin: boolean }>();

  const inbox = createInbox(() => {
    const grown = windowNow() - shownWindow;
    if (state === "open" && grown >= Math.min(RECEIVE_BUFFER / 2, 8 * SEGMENT_SIZE)) acknowledge();
  });
  const sender = createTcpSender(scheduler, options.firstSequence, {
    transmit,
    probe: () => emit({ sequence: sender.next - 1 }),
    freed() {
      if (!drainOwed || pendingBytes() > 0) return;
      drainOwed = false;
      if (!ending) inbox.drain();
    },
    lost() {
      if (state === "open") {
        end(new P2pdError("timeout", `${who} was lost: no answer (ETIMEDOUT)`));
      } else {
        fail("timeout", "no answer (ETIMEDOUT)");
      }
    },
    tries: () => (state === "open" ? DATA_TRIES : syn === undefined ? SYN_TRIES : SYN_ACK_TRIES),
  });

  function windowNow(): number {
    return Math.max(0, RECEIVE_BUFFER - inbox.held);
  }

  function pendingBytes(): number {
    return state === "open" ? Math.max(0, sender.held - SEND_BUFFER) : 0;
  }

  function emit(change: Partial<TcpHeader>, payload = NOTHING): void {
    owesAck = false;
    shownWindow = windowNow();
    const header: TcpHeader = {
      syn: false,
      ack: state !== "syn-sent",
      fin: false,
      rst: false,
      sequence: sender.next,
      acknowledgement: expected,
      window: shownWindow,
      ...(early.size > 0 ? { selective: [...early.keys()] } : {}),
      ...change,
    };
    options.send(header, payload);
  }

  function acknowledge(): void {
    emit({});
  }

  function transmit({ sequence, bytes, syn: isSyn, fin }: TcpPiece): void {
    emit({ sequence, syn: isSyn, fin }, bytes);
  }

  function open(): void {
    state = "open";
    options.opened(stream);
  }

  /** The attempt comes to nothing. */
  function fail(code: "refused" | "unreachable" | "timeout", why: string): void {
    state = "closed";
    sender.stop();
    options.gone();
    options.failed(code, why);
  }

  /** A connection that stood is over. */
  function end(error: P2pdError): void {
    state = "closed";
    sender.stop();
    options.gone();
    streamClosed = true;
    inbox.close(error);
  }

  function receive(header: TcpHeader, payload: Uint8Array): void {
    if (state === "closed") return;
    if (state === "syn-sent") return receiveFirst(header);
    if (state === "lingering") {
      if (header.fin || payload.length > 0) acknowledge();
      return;
    }
    if (header.rst) return receiveReset(header);
    if (header.syn) {
      const isAnswer = state === "syn-received" && header.ack && header.sequence + 1 === expected;
      if (!isAnswer) return state === "syn-received" ? sender.resend() : acknowledge();
    }
    if (!header.ack) return;
    if (state === "syn-received") {
      if (header.acknowledgement !== sender.next) return reset(header);
      open();
    }
    const length = payload.length + (header.fin ? 1 : 0);
    sender.acknowledged(header.acknowledgement, header.window, header.selective);
    if (length > 0) absorb(header.sequence, payload, header.fin);
    else if (header.sequence < expected && !header.syn) owesAck = true; // the peer asks for our window
    if (owesAck && isAlive()) acknowledge();
    finishIfDone();
  }

  /** In state SYN-SENT: an answer, a refusal, or the peer's own SYN that met ours on its way. */
  function receiveFirst(header: TcpHeader): void {
    if (header.ack && header.acknowledgement !== sender.next) return header.rst ? undefined : reset(header);
    if (header.rst) {
      if (header.ack) fail("refused", "nobody listens there, or a firewall refuses (ECONNREFUSED)");
      return;
    }
    if (!header.syn) return;
    expected = header.sequence + 1;
    if (!header.ack) {
      state = "syn-received";
      sender.resend();
      return;
    }
    state = "open";
    sender.acknowledged(header.acknowledgement, header.window);
    acknowledge();
    open();
  }

  function receiveReset(header: TcpHeader): void {
    const away = header.sequence - expected;
    if (away < 0 || away > RECEIVE_BUFFER) return;
    if (state === "open") {
      end(
        new P2pdError("closed", `${who} was cut off by the other side (ECONNRESET)`, {
          system: "ECONNRESET",
        }),
      );
    } else {
      fail("refused", "the connection was reset while it was being made (ECONNRESET)");
    }
  }

  function reset(header: TcpHeader): void {
    emit({ rst: true, ack: false, sequence: header.acknowledgement });
  }

  function absorb(sequence: number, payload: Uint8Array, fin: boolean): void {
    owesAck = true;
    if (peerEnded) return;
    if (sequence > expected) {
      if (sequence - expected < RECEIVE_BUFFER) early.set(sequence, { payload, fin });
      return;
    }
    let piece: { readonly payload: Uint8Array; readonly fin: boolean } | undefined = { payload, fin };
    let start = sequence;
    while (piece !== undefined && isAlive()) {
      const fresh = piece.payload.subarray(Math.min(piece.payload.length, expected - start));
      expected += fresh.length;
      inbox.data(fresh);
      if (piece.fin && expected === start + piece.payload.length) {
        expected++;
        peerEnded = true;
        early.clear();
        inbox.end();
      }
      start = expected;
      piece = early.get(expected);
      early.delete(expected);
    }
  }

  function isAlive(): boolean {
    return state === "open" || state === "syn-received";
  }

  function finishIfDone(): void {
    if (state !== "open" || !peerEnded || !sender.finSent) return;
    if (!streamClosed) {
      streamClosed = true;
      inbox.close();
    }
    if (!sender.finAcknowledged) return;
    sender.stop();
    state = endedFirst ? "lingering" : "closed";
    if (state === "closed") options.gone();
    else scheduler.after(LINGER_MS, giveUp);
  }

  function giveUp(): void {
    if (state === "closed") return;
    state = "closed";
    sender.stop();
    options.gone();
  }

  const stream: ByteStream = {
    local,
    remote,
    fd: -1,
    get pendingBytes() {
      return pendingBytes();
    },
    attach: (handlers) => inbox.attach(handlers),
    write(bytes) {
      if (ending || streamClosed) return true;
      sender.write(bytes.slice());
      if (pendingBytes() < HIGH_WATER) return true;
      drainOwed = true;
      return false;
    },
    pause: () => inbox.pause(),
    resume: () => inbox.resume(),
    end() {
      if (ending || streamClosed) return;
      ending = true;
      endedFirst = !peerEnded;
      sender.finish();
      finishIfDone();
    },
    abort(reason) {
      if (streamClosed) return;
      ending = true;
      emit({ rst: true });
      end(reason ?? new P2pdError("aborted", "the connection was aborted by this side"));
    },
  };

  if (options.standsFrom === undefined) {
    sender.open(); // with a SYN at hand it is a SYN and ACK
  } else {
    state = "open";
    expected = options.standsFrom;
    sender.acknowledged(options.firstSequence, RECEIVE_BUFFER);
  }
  return {
    stream,
    get roundTripMs() {
      return sender.roundTripMs;
    },
    get isLingering() {
      return state === "lingering";
    },
    receive,
    acknowledge: () => (state === "open" ? acknowledge() : undefined),
    unreachable(what) {
      if (state !== "syn-sent" && state !== "syn-received") return; // a soft error (RFC 5461)
      if (what === "port") fail("refused", "nobody listens there, or a firewall refuses (ECONNREFUSED)");
      else fail("unreachable", "a router says that the host cannot be reached (EHOSTUNREACH)");
    },
    giveUp,
  };
}
