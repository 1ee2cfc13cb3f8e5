/**
 * What one side of a session has received and how much more it allows: positions and credit, no octets. The window
 * begins small and doubles while the reader keeps up, so that a connection which nobody reads holds little. Pure.
 */
import { P2pdError } from "../errors.ts";
import { type Credit, INITIAL_WINDOW } from "../wire/session-positions.ts";

const MAX_WINDOW = 8 * 1024 * 1024;
/** With so much news the other side is told at once: a quarter of the window, within these. */
const MIN_NEWS = 64 * 1024;
const MAX_NEWS = 2 * 1024 * 1024;

export class ReceiveWindow {
  #window = INITIAL_WINDOW;
  /** Everything before it came; and was taken by the receiver. */
  #received = 0;
  #delivered = 0;
  #told: Credit = { received: 0, limit: INITIAL_WINDOW };
  /** Position from which on nothing had to be held back. */
  #smoothFrom = 0;
  /** Octets still to come on this path that came on the last one. */
  #repeated = 0;
  /** Something came that the other side should be told to have, however often. */
  #isNews = false;

  get received(): number {
    return this.#received;
  }

  /** What there is to tell. */
  get credit(): Credit {
    return { received: this.#received, limit: this.#delivered + this.#window };
  }

  /** Whether there is news at all, and whether there is so much that it cannot wait. */
  get news(): "none" | "some" | "much" {
    const { received, limit } = this.credit;
    const octets = Math.max(received - this.#told.received, limit - this.#told.limit);
    if (octets >= Math.min(Math.max(this.#window / 4, MIN_NEWS), MAX_NEWS)) return "much";
    return octets > 0 || this.#isNews ? "some" : "none";
  }

  /** `credit`, as it was then, was told to the other side. */
  told(credit: Credit): void {
    this.#told = credit;
    this.#isNews = credit.received < this.#received;
  }

  /** DATA of `length` octets came. Returns how many at its start are repeated. Throws `protocol` beyond the credit. */
  receive(length: number): number {
    const repeated = Math.min(length, this.#repeated);
    this.#repeated -= repeated;
    this.#received += length - repeated;
    this.#isNews = true;
    if (this.#received > this.#told.limit)
      throw new P2pdError("protocol", `DATA up to ${this.#received} came; ${this.#told.limit} was allowed`);
    return repeated;
  }

  /** FIN came, which needs no credit. Returns whether it is a repeated one. */
  receiveFin(): boolean {
    const isRepeated = this.#repeated > 0;
    if (isRepeated) this.#repeated--;
    else this.#received++;
    this.#isNews = true;
    return isRepeated;
  }

  /** The receiver has taken `length` octets. */
  deliver(length: number): void {
    this.#delivered += length;
    if (this.#window >= MAX_WINDOW || this.#delivered - this.#smoothFrom < this.#window) return;
    this.#window *= 2;
    this.#smoothFrom = this.#delivered;
  }

  /** Something had to be held back. */
  hold(): void {
    this.#smoothFrom = this.#received;
  }

  /** On another path DATA begins at position `from`. Throws `protocol` where that leaves a gap. */
  resume(from: number): void {
    if (from > this.#received)
      throw new P2pdError("protocol", `the peer goes on at ${from}; ${this.#received} is due`);
    this.#repeated = this.#received - from;
  }
}
