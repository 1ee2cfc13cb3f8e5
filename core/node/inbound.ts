/**
 * The receiving half of a session: what comes on its paths is delivered in order as far as the receiver wants it, the
 * rest is held, and the other side is told what has come and how much more it may send. Knows no path: octets come in
 * and words about them go out by functions.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import type { Time, Timer } from "../net/world.ts";
import type { Credit } from "../wire/session-positions.ts";
import { HeldMessages } from "./held-messages.ts";
import { ReceiveWindow } from "./receive-window.ts";

/** How long news that are few wait for more. */
const ACK_DELAY_MS = 40;

export interface InboundOptions {
  readonly time: Time;
  /** Tells the other side; false where that is not possible now, see `tellNews`. */
  readonly tell: (credit: Credit) => boolean;
  /** A receiver threw, and cannot be trusted to know where it stands. */
  readonly failed: (error: P2pdError) => void;
  /** Everything that has come was delivered. */
  readonly settled: () => void;
}

export interface Receiver {
  message(bytes: Uint8Array): void;
  end(): void;
}

export class Inbound {
  readonly #options: InboundOptions;
  readonly #window = new ReceiveWindow();
  readonly #held = new HeldMessages();
  #receiver: Receiver | undefined;
  #isPaused = false;
  #isDelivering = false;
  #isFinished = false;
  #isEndTold = false;
  #isStopped = false;
  #timer: Timer | undefined;

  constructor(options: InboundOptions) {
    this.#options = options;
  }

  /** FIN has come; there may be more to deliver before it. */
  get isFinished(): boolean {
    return this.#isFinished;
  }

  /** Nothing is left to deliver. */
  get isSettled(): boolean {
    return this.#isStopped || (this.#held.isEmpty && this.#isFinished === this.#isEndTold);
  }

  get credit(): Credit {
    return this.#window.credit;
  }

  attach(receiver: Receiver): void {
    this.#receiver = receiver;
  }

  /** Octets of DATA. Throws `protocol` where they may not come. */
  data(bytes: Uint8Array): void {
    const repeated = this.#window.receive(bytes.length);
    const fresh = repeated === 0 ? bytes : bytes.subarray(repeated);
    if (fresh.length > 0) {
      if (this.#isFinished) throw new P2pdError("protocol", "DATA came after FIN");
      this.#take(fresh);
    }
    this.tellNews("soon");
  }

  /** Throws `protocol` for a second one. */
  fin(): void {
    if (!this.#window.receiveFin()) {
      if (this.#isFinished) throw new P2pdError("protocol", "FIN came twice");
      this.#isFinished = true;
    }
    this.tellNews("now");
    this.deliver();
  }

  pause(): void {
    this.#isPaused = true;
  }

  /** Delivers what was held meanwhile. */
  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.deliver();
  }

  /** Delivers what is held, as far as the receiver wants it. */
  deliver(): void {
    if (this.#isDelivering) return;
    this.#isDelivering = true;
    try {
      while (this.#mayDeliver()) {
        const message = this.#held.shift();
        if (message === undefined) break;
        this.#receiver?.message(message);
        this.#window.deliver(message.length);
      }
      if (this.#mayDeliver() && this.#held.isEmpty && this.#isFinished && !this.#isEndTold) {
        this.#isEndTold = true;
        this.#receiver?.end();
      }
    } catch (thrown) {
      this.#options.failed(toP2pdError(thrown, "protocol"));
    } finally {
      this.#isDelivering = false;
    }
    this.tellNews("soon");
    if (this.isSettled) this.#options.settled();
  }

  /** Tells the other side what it should know: all there is, or `soon`, when it is much or has waited. */
  tellNews(when: "now" | "soon"): void {
    const news = this.#window.news;
    if (news === "none" || this.#isStopped) return;
    if (when === "soon" && news === "some") {
      this.#timer ??= this.#options.time.after(
        ACK_DELAY_MS,
        () => {
          this.#timer = undefined;
          this.tellNews("now");
        },
        { background: true },
      );
      return;
    }
    this.#timer?.cancel();
    this.#timer = undefined;
    const { credit } = this.#window;
    if (this.#options.tell(credit)) this.#window.told(credit);
  }

  /**
   * Another path: DATA begins at `from` there, and `told` is what the other side was told on it. Throws `protocol`.
   */
  moved(from: number, told: Credit): void {
    this.#window.resume(from);
    this.#window.told(told);
    this.tellNews("soon");
  }

  /** The other side needs to be told nothing any more; what has come can still be delivered. */
  quiet(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** Delivers nothing any more. */
  stop(): void {
    this.#isStopped = true;
    this.#held.clear();
    this.quiet();
  }

  #take(bytes: Uint8Array): void {
    if (this.#isStopped) return;
    if (this.#mayDeliver() && this.#held.isEmpty && !this.#isDelivering) {
      this.#isDelivering = true;
      try {
        this.#receiver?.message(bytes);
      } finally {
        this.#isDelivering = false;
      }
      this.#window.deliver(bytes.length);
      return;
    }
    this.#window.hold();
    this.#held.push(bytes);
  }

  #mayDeliver(): boolean {
    return this.#receiver !== undefined && !this.#isPaused && !this.#isStopped;
  }
}
