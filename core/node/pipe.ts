/**
 * What a user of the library or the REST API holds of a connection: one class for TCP and UDP, IPv4 and IPv6,
 * and for connections between nodes. Sorts what arrives into bounded queues, callbacks or a relay. The queue is in
 * `subscription-queue.ts`, the relay in `relay.ts`; what carries the bytes is a `Channel`.
 *
 * Policy: every queue holds at most `queueBytes` or `queueMessages`, and the one message that crossed the line.
 * On a stream a message that nobody but "all" took is never lost: when "all" is over its limits the channel is
 * paused, until "all" has been read below half. Everything else that does not fit is dropped and counted, oldest
 * first: in named queues, in "all" where somebody else took the message too, in every queue of a datagram pipe.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import type { Endpoint } from "../ip.ts";
import type { ByteStream, Time, Timer } from "../net/world.ts";
import type { Channel } from "./channel.ts";
import { type Carried, type Relay, startRelay } from "./relay.ts";
import type { Message, Subscription } from "./subscription.ts";
import { SubscriptionInbox, type SubscriptionState } from "./subscription-inbox.ts";

export type { Message, Subscription } from "./subscription.ts";

export interface PipeOptions {
  readonly time: Time;
  /** Octets that each queue may hold; 1 MiB by default. */
  readonly queueBytes?: number;
  /** Messages that each queue may hold; 4096 by default. */
  readonly queueMessages?: number;
  /** Octets that may wait to be sent before `send` refuses more; 64 MiB by default. */
  readonly maxPendingBytes?: number;
  /** How long `close` waits for the peer to end too; 3000 by default. */
  readonly closeTimeoutMs?: number;
}

export type MessageListener = (message: Message, pipe: Pipe) => void;

/** The largest UDP payload of IPv4: 65535 less the headers of IP and UDP. */
export const MAX_DATAGRAM = 65_507;

const encoder = new TextEncoder();

interface Sender {
  readonly resolve: () => void;
  readonly reject: (error: P2pdError) => void;
}

export class Pipe implements AsyncIterable<Message> {
  readonly kind: "stream" | "datagram";
  /** Settles when both directions are over: with the reason, or undefined after an orderly end. */
  readonly closed: Promise<P2pdError | undefined>;
  /** Settles when the peer has finished sending, or the pipe is closed. */
  readonly ended: Promise<void>;

  readonly #channel: Channel;
  readonly #options: Required<PipeOptions>;
  readonly #inbox: SubscriptionInbox;
  readonly #senders: Sender[] = [];
  #relay: Relay | undefined;
  #sent = 0;
  #received = 0;
  #sendEnded = false;
  #peerEnded = false;
  #closing = false;
  #isClosed = false;
  /** Everything left, only the peer's end did not come: no reason to complain of. */
  #orderly = false;
  #reason: P2pdError | undefined;
  #linger: Timer | undefined;
  readonly #settleClosed: (reason: P2pdError | undefined) => void;
  readonly #settleEnded: () => void;

  /** Takes over `channel`, which nobody else may use any more, and begins to receive. */
  constructor(channel: Channel, options: PipeOptions) {
    this.#channel = channel;
    this.#options = {
      queueBytes: 1 << 20,
      queueMessages: 4096,
      maxPendingBytes: 64 << 20,
      closeTimeoutMs: 3000,
      ...options,
    };
    this.kind = channel.kind;
    const closed = Promise.withResolvers<P2pdError | undefined>();
    const ended = Promise.withResolvers<void>();
    this.closed = closed.promise;
    this.ended = ended.promise;
    this.#settleClosed = closed.resolve;
    this.#settleEnded = ended.resolve;
    this.#inbox = new SubscriptionInbox({
      lossless: channel.kind === "stream",
      limits: { bytes: this.#options.queueBytes, messages: this.#options.queueMessages },
      time: this.#options.time,
      pause: () => {
        channel.pause();
      },
      resume: () => {
        if (this.#relay === undefined) channel.resume();
      },
      failed: (error) => {
        void this.close(error);
      },
    });
    channel.attach({
      message: (bytes, from) => {
        this.#onMessage(bytes, from);
      },
      drain: () => {
        this.#relay?.drained();
        this.#wakeSenders();
      },
      end: () => {
        this.#onEnd();
      },
      close: (error) => {
        this.#onClose(error);
      },
    });
  }

  get local(): Endpoint {
    return this.#channel.local;
  }

  /** The peer. Port 0: the pipe is a UDP socket that serves whoever writes to it. */
  get remote(): Endpoint {
    return this.#channel.remote;
  }

  get fd(): number {
    return this.#channel.fd;
  }

  /** Octets given to the channel so far. */
  get sent(): number {
    return this.#sent;
  }

  /** Octets received so far. */
  get received(): number {
    return this.#received;
  }

  /** Messages that queues of this pipe dropped, subscriptions that are gone included. */
  get dropped(): number {
    return this.#inbox.dropped;
  }

  /** Octets that `send` took and the system has not accepted yet. */
  get pendingBytes(): number {
    return this.#channel.pendingBytes;
  }

  /**
   * Sends octets (which must not be changed afterwards) or text as UTF-8; on a datagram pipe one message, to `to`
   * or the peer. Resolves when more may be sent. Rejects with `closed` after `end` or `close`, `send-failed` when
   * the connection broke or `maxPendingBytes` wait already, `too-large` for a datagram above 65507 octets,
   * `bad-argument` when a pipe with many peers is not told to whom, `pipe-busy` while joined. Nobody is obliged to
   * look at the result: a rejection that is not awaited does not end the program.
   */
  send(data: Uint8Array | string, to?: Endpoint): Promise<void> {
    const bytes = typeof data === "string" ? encoder.encode(data) : data;
    const error = this.#whyNotSend(bytes.length, to);
    if (error !== undefined) return quiet(Promise.reject(error));
    let more: boolean;
    try {
      more = to === undefined ? this.#channel.send(bytes) : this.#channel.send(bytes, to);
    } catch (thrown) {
      return quiet(
        Promise.reject(toP2pdError(thrown, "send-failed", `sending ${bytes.length} octets failed`)),
      );
    }
    this.#sent += bytes.length;
    if (more) return Promise.resolve();
    return quiet(
      new Promise<void>((resolve, reject) => {
        this.#senders.push({ resolve, reject });
      }),
    );
  }

  #whyNotSend(length: number, to: Endpoint | undefined): P2pdError | undefined {
    if (this.#reason !== undefined) return sendFailed(this.#reason);
    if (this.#isClosed || this.#closing || this.#sendEnded) {
      return new P2pdError(
        "closed",
        `nothing can be sent any more: the pipe was ${this.#closing || this.#isClosed ? "closed" : "ended"}`,
      );
    }
    if (this.#relay !== undefined)
      return new P2pdError("pipe-busy", "the pipe is joined with another stream");
    if (this.kind === "datagram") {
      if (length > MAX_DATAGRAM) {
        return new P2pdError("too-large", `a UDP message has at most ${MAX_DATAGRAM} octets, not ${length}`);
      }
      if (to === undefined && this.remote.port === 0) {
        return new P2pdError(
          "bad-argument",
          "this pipe serves many peers: send(message, to) needs the second argument",
        );
      }
    }
    const pending = this.#channel.pendingBytes;
    if (pending > this.#options.maxPendingBytes) {
      return new P2pdError(
        "send-failed",
        `${pending} octets wait to be sent already; await send() before sending more`,
      );
    }
    return undefined;
  }

  /**
   * Opens a queue of its own for the messages that match; from now on. Throws `subscription-exists`,
   * `reserved-name` (for "all") and `bad-argument` (name, or more than 64 of them).
   */
  subscribe(subscription: Subscription): void {
    this.#inbox.subscribe(subscription);
  }

  /** Forgets a queue and what waits in it. Throws `no-such-subscription`; `reserved-name` for "all". */
  unsubscribe(name: string): void {
    this.#inbox.unsubscribe(name);
  }

  /** All queues of this pipe, "all" first. */
  subscriptions(): readonly SubscriptionState[] {
    return this.#inbox.states();
  }

  /**
   * The next message of a queue, "all" by default. Waits until one comes; at most `timeoutMs` if given, not at all
   * if that is 0. Rejects with `receive-timeout`, `nothing-received` (timeoutMs 0 and empty, or the pipe has ended
   * and the queue is empty), `no-such-subscription`, `aborted`, `pipe-busy` while joined.
   */
  async recv(
    subscription = "all",
    timeoutMs = Number.POSITIVE_INFINITY,
    signal?: AbortSignal,
  ): Promise<Message> {
    if (!(timeoutMs >= 0)) {
      throw new P2pdError("bad-argument", `timeoutMs is ${timeoutMs}; expected milliseconds, 0 or more`);
    }
    if (this.#relay !== undefined) throw new P2pdError("pipe-busy", "the pipe is joined with another stream");
    const message = await this.#inbox.next(subscription, timeoutMs, signal);
    if (message !== undefined) return message;
    const why =
      this.#isClosed || this.#closing
        ? "and the pipe is closed"
        : this.#peerEnded
          ? "and the peer has ended"
          : "at the moment";
    throw new P2pdError("nothing-received", `nothing waits in "${subscription}" ${why}`);
  }

  /** Messages of "all" until the peer ends or the pipe is closed; throws the reason if it broke. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Message, void, undefined> {
    for (;;) {
      const message = await this.#inbox.next("all", Number.POSITIVE_INFINITY);
      if (message === undefined) break;
      yield message;
    }
    if (!this.#peerEnded && this.#reason !== undefined) throw this.#reason;
  }

  /**
   * Calls `listener` with every message, beside the queues; returns how to stop that. While there is a listener
   * "all" keeps nothing; what waited in it goes to the first listener, soon after this call. A listener that
   * throws closes the pipe with that reason.
   */
  onMessage(listener: MessageListener): () => void {
    return this.#inbox.listen((message) => {
      listener(message, this);
    });
  }

  /**
   * Joins the pipe with another stream, both ways, with backpressure and half-close. What waits in "all" goes first;
   * queues and listeners get nothing any more. Resolves with the octets carried when both directions have ended and
   * both sides are closed. When either side breaks, the other is aborted and this rejects with the reason. Rejects
   * with `pipe-busy` if joined already, `closed`, or `bad-argument` for a UDP pipe without a peer.
   */
  join(stream: ByteStream): Promise<Carried> {
    if (this.#relay !== undefined) {
      return quiet(
        Promise.reject(new P2pdError("pipe-busy", "the pipe is joined with another stream already")),
      );
    }
    if (this.#isClosed || this.#closing) {
      return quiet(Promise.reject(this.#reason ?? new P2pdError("closed", "the pipe is closed")));
    }
    if (this.kind === "datagram" && this.remote.port === 0) {
      return quiet(
        Promise.reject(
          new P2pdError("bad-argument", "a UDP pipe that serves many peers cannot be joined with a stream"),
        ),
      );
    }
    const relay = startRelay(this.#channel, stream, (octets) => {
      this.#sent += octets;
    });
    this.#relay = relay;
    for (const { bytes } of this.#inbox.drain()) relay.received(bytes);
    if (this.#peerEnded) relay.ended();
    this.#inbox.end();
    // A full "all" may have paused the channel; from here on the relay alone does that.
    if (!relay.full) this.#channel.resume();
    return quiet(relay.done);
  }

  /**
   * Finishes sending after what is pending; receiving goes on. UDP knows no half-close: a datagram pipe is closed
   * once what is pending has left.
   */
  end(): void {
    if (this.#sendEnded || this.#isClosed) return;
    this.#sendEnded = true;
    this.#channel.end();
  }

  /**
   * Ends both directions; resolves when that is done. Without a reason what is pending still leaves, and the peer
   * gets `closeTimeoutMs` to end too; with one everything stops at once and `closed` settles with it. What waits in
   * queues can still be taken, what arrives from now on is thrown away.
   */
  async close(reason?: P2pdError): Promise<void> {
    if (!this.#isClosed) {
      const first = !this.#closing;
      this.#closing = true;
      if (reason !== undefined) this.#channel.abort(reason);
      else if (first && this.#relay !== undefined)
        this.#channel.abort(new P2pdError("closed", "the pipe was closed"));
      else if (first) this.#closeGently();
    }
    await this.closed;
  }

  #closeGently(): void {
    this.#inbox.end();
    this.#channel.resume();
    this.end();
    if (this.#isClosed) return;
    this.#linger = this.#options.time.after(
      this.#options.closeTimeoutMs,
      () => {
        const lost = this.#channel.pendingBytes;
        this.#orderly = lost === 0;
        this.#channel.abort(
          lost === 0
            ? undefined
            : new P2pdError("timeout", `closed with ${lost} octets unsent: the peer did not read them`),
        );
      },
      { background: true },
    );
  }

  #onMessage(bytes: Uint8Array, from: Endpoint): void {
    this.#received += bytes.length;
    if (this.#relay !== undefined) {
      this.#relay.received(bytes);
      return;
    }
    if (this.#closing) return;
    this.#inbox.receive({ bytes, from });
  }

  #onEnd(): void {
    if (this.#peerEnded || this.#isClosed) return;
    this.#peerEnded = true;
    this.#relay?.ended();
    this.#inbox.end();
    this.#settleEnded();
  }

  #onClose(error: P2pdError | undefined): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#reason = this.#orderly ? undefined : error;
    this.#linger?.cancel();
    this.#relay?.closed(error);
    this.#inbox.end();
    if (this.#reason === undefined) this.#wakeSenders();
    else for (const sender of this.#senders.splice(0)) sender.reject(sendFailed(this.#reason));
    this.#settleEnded();
    this.#settleClosed(this.#reason);
  }

  #wakeSenders(): void {
    for (const sender of this.#senders.splice(0)) sender.resolve();
  }
}

function sendFailed(reason: P2pdError): P2pdError {
  return new P2pdError("send-failed", `the connection broke: ${reason.message}`, {}, { cause: reason });
}

/** The same promise; its rejection reaches who awaits it and does not end a program that does not. */
function quiet<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}
