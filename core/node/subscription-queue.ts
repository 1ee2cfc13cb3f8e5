/**
 * A bounded queue of messages with readers that wait. Says when it holds too much and sheds what may be shed;
 * who pauses the sender because of that is the pipe.
 */
import { P2pdError } from "../errors.ts";
import type { Time } from "../net/world.ts";
import type { Message } from "./subscription.ts";

export interface QueueLimits {
  readonly bytes: number;
  readonly messages: number;
}

interface Entry {
  readonly message: Message;
  /** May be thrown away when room is needed. */
  readonly droppable: boolean;
}

interface Waiter {
  /** undefined: nothing will come any more. */
  give(message: Message | undefined): void;
}

const NOTHING: Entry = {
  message: { bytes: new Uint8Array(0), from: { ip: "0.0.0.0", port: 0 } },
  droppable: true,
};

export class SubscriptionQueue {
  readonly #limits: QueueLimits;
  readonly #time: Time;
  #entries: Entry[] = [];
  #head = 0;
  #bytes = 0;
  #dropped = 0;
  #ended = false;
  readonly #waiters = new Set<Waiter>();

  constructor(limits: QueueLimits, time: Time) {
    this.#limits = limits;
    this.#time = time;
  }

  /** Messages that wait. */
  get size(): number {
    return this.#entries.length - this.#head;
  }

  /** Octets that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Messages thrown away because the queue was full. */
  get dropped(): number {
    return this.#dropped;
  }

  get hasWaiter(): boolean {
    return this.#waiters.size > 0;
  }

  /** Whether more is held than the limits allow. */
  get over(): boolean {
    return this.#bytes > this.#limits.bytes || this.size > this.#limits.messages;
  }

  /** Whether less than half of what the limits allow is held. */
  get belowHalf(): boolean {
    return this.#bytes * 2 < this.#limits.bytes && this.size * 2 <= this.#limits.messages;
  }

  /**
   * Gives the message to the reader that waits longest, or keeps it. When the queue is then over its limits the
   * oldest go, as long as they are droppable; if that is not enough and this one is droppable, it goes itself.
   * One message alone is always kept.
   */
  push(message: Message, droppable: boolean): void {
    for (const waiter of this.#waiters) {
      this.#waiters.delete(waiter);
      waiter.give(message);
      return;
    }
    this.#entries.push({ message: compact(message), droppable });
    this.#bytes += message.bytes.length;
    while (this.over && this.size > 1 && this.#peek().droppable) {
      this.#shift();
      this.#dropped++;
    }
    if (this.over && droppable && this.size > 1) {
      this.#entries.pop();
      this.#bytes -= message.bytes.length;
      this.#dropped++;
    }
  }

  /** The oldest message, at once; undefined if there is none. */
  take(): Message | undefined {
    return this.size === 0 ? undefined : this.#shift().message;
  }

  /**
   * The oldest message, or the next to come; undefined once the queue has ended and is empty. Rejects with
   * `receive-timeout` after `timeoutMs` (Infinity: never) and with `aborted` when `signal` fires.
   */
  next(timeoutMs: number, signal?: AbortSignal): Promise<Message | undefined> {
    if (signal?.aborted === true) return Promise.reject(aborted(signal));
    const message = this.take();
    if (message !== undefined || this.#ended) return Promise.resolve(message);
    return new Promise((resolve, reject) => {
      const fail = (error: P2pdError) => {
        this.#waiters.delete(waiter);
        settle();
        reject(error);
      };
      const onAbort = () => {
        fail(aborted(signal as AbortSignal));
      };
      const timer =
        timeoutMs === Number.POSITIVE_INFINITY
          ? undefined
          : this.#time.after(timeoutMs, () => {
              fail(new P2pdError("receive-timeout", `no message came within ${timeoutMs} ms`));
            });
      const settle = () => {
        timer?.cancel();
        signal?.removeEventListener("abort", onAbort);
      };
      const waiter: Waiter = {
        give: (given) => {
          settle();
          resolve(given);
        },
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#waiters.add(waiter);
    });
  }

  /** Nothing more will be pushed: who waits is told, what waits can still be taken. */
  end(): void {
    this.#ended = true;
    for (const waiter of this.#waiters) waiter.give(undefined);
    this.#waiters.clear();
  }

  #peek(): Entry {
    return this.#entries[this.#head] as Entry;
  }

  #shift(): Entry {
    const entry = this.#peek();
    this.#entries[this.#head++] = NOTHING;
    this.#bytes -= entry.message.bytes.length;
    if (this.#head === this.#entries.length) {
      this.#entries = [];
      this.#head = 0;
    } else if (this.#head >= 1024 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
    return entry;
  }
}

/** Copies a small view of a large buffer, so that the octets counted are the octets held. */
function compact(message: Message): Message {
  const { bytes, from } = message;
  return bytes.buffer.byteLength <= 2 * bytes.length + 256 ? message : { bytes: bytes.slice(), from };
}

function aborted(signal: AbortSignal): P2pdError {
  return new P2pdError("aborted", "waiting for a message was aborted", {}, { cause: signal.reason });
}
