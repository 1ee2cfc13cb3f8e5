/** Virtual time for tests: timers fire in their order, and what they cause settles before the next. */
import type { Time, Timer } from "../../../core/net/world.ts";

interface Entry {
  readonly at: number;
  readonly order: number;
  readonly fire: () => void;
}

export class EventTime implements Time {
  #now = 0;
  #order = 0;
  readonly #entries = new Set<Entry>();

  now(): number {
    return this.#now;
  }

  wallMs(): number {
    return 1_700_000_000_000 + this.#now;
  }

  after(delayMs: number, fire: () => void): Timer {
    const entry = { at: this.#now + Math.max(0, delayMs), order: this.#order++, fire };
    this.#entries.add(entry);
    return { cancel: () => void this.#entries.delete(entry) };
  }

  /** Timers that have not fired. */
  get pending(): number {
    return this.#entries.size;
  }

  /** Lets so much time pass. */
  async run(durationMs: number): Promise<void> {
    const end = this.#now + durationMs;
    await settle();
    for (let next = this.#next(); next !== undefined && next.at <= end; next = this.#next()) {
      this.#entries.delete(next);
      this.#now = next.at;
      next.fire();
      await settle();
    }
    this.#now = end;
  }

  #next(): Entry | undefined {
    let first: Entry | undefined;
    for (const entry of this.#entries) {
      const isSooner =
        first === undefined || entry.at < first.at || (entry.at === first.at && entry.order < first.order);
      if (isSooner) first = entry;
    }
    return first;
  }
}

/** Lets everything that is due in microtasks happen, and all that follows from it. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
