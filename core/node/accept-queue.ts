/** Incoming connections that nobody has taken yet, and those who wait for the next one. First come, first served. */
import type { Time } from "../net/world.ts";

export class AcceptQueue<T> {
  readonly #waiting: T[] = [];
  readonly #takers: ((item: T | undefined) => void)[] = [];
  #refused = 0;

  /** @param limit how many may wait; the oldest makes room for a new one */
  constructor(
    readonly time: Time,
    readonly limit: number,
  ) {}

  get length(): number {
    return this.#waiting.length;
  }

  /** How many had to make room. */
  get refused(): number {
    return this.#refused;
  }

  /** Hands `item` to who waits, or queues it. Returns the one that had to make room. */
  put(item: T): T | undefined {
    const taker = this.#takers.shift();
    if (taker !== undefined) {
      taker(item);
      return undefined;
    }
    this.#waiting.push(item);
    if (this.#waiting.length <= this.limit) return undefined;
    this.#refused++;
    return this.#waiting.shift();
  }

  /** Forgets one that is no longer there to be taken. */
  remove(item: T): void {
    const at = this.#waiting.indexOf(item);
    if (at >= 0) this.#waiting.splice(at, 1);
  }

  /** The next one; undefined when `timeoutMs` passes or `signal` fires before there is any. */
  next(timeoutMs: number, signal?: AbortSignal): Promise<T | undefined> {
    const ready = this.#waiting.shift();
    if (ready !== undefined) return Promise.resolve(ready);
    if (timeoutMs <= 0 || signal?.aborted === true) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      const finish = (item: T | undefined): void => {
        timer?.cancel();
        signal?.removeEventListener("abort", giveUp);
        resolve(item);
      };
      const giveUp = (): void => {
        const at = this.#takers.indexOf(finish);
        if (at >= 0) this.#takers.splice(at, 1);
        finish(undefined);
      };
      const timer = Number.isFinite(timeoutMs) ? this.time.after(timeoutMs, giveUp) : undefined;
      signal?.addEventListener("abort", giveUp, { once: true });
      this.#takers.push(finish);
    });
  }

  /** Everybody who waits gets undefined. */
  close(): void {
    for (const taker of this.#takers.splice(0)) taker(undefined);
  }
}
