/**
 * Two ends of a byte stream in memory, for tests of pipes: pieces arrive in later microtasks, one at a time, with a
 * bounded amount under way, half-close, and abort with its reason.
 */
import type { P2pdError } from "../../../core/errors.ts";
import type { Endpoint } from "../../../core/ip.ts";
import type { ByteStream, StreamHandlers, Time, Timer } from "../../../core/net/world.ts";

export class MemoryStream implements ByteStream {
  readonly fd = -1;
  peer!: MemoryStream;
  paused = false;
  readonly #under: Uint8Array[] = [];
  #pending = 0;
  #handlers: StreamHandlers | undefined;
  #full = false;
  #sendEnded = false;
  #peerEnded = false;
  #closed = false;
  #scheduled = false;

  constructor(
    readonly local: Endpoint,
    readonly remote: Endpoint,
    readonly capacity: number,
  ) {}

  get pendingBytes(): number {
    return this.#pending;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  attach(handlers: StreamHandlers): void {
    this.#handlers = handlers;
    this.peer.#schedule();
  }

  write(bytes: Uint8Array): boolean {
    if (this.#sendEnded || this.#closed) return true;
    this.#under.push(bytes);
    this.#pending += bytes.length;
    if (this.#pending > this.capacity) this.#full = true;
    this.#schedule();
    return !this.#full;
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.peer.#schedule();
  }

  end(): void {
    this.#sendEnded = true;
    this.#schedule();
  }

  abort(reason?: P2pdError): void {
    if (this.#closed) return;
    this.#close(reason);
    this.peer.#close(reason);
  }

  #close(reason?: P2pdError): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#under.length = 0;
    this.#pending = 0;
    queueMicrotask(() => this.#handlers?.close(reason));
  }

  #schedule(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    const { peer } = this;
    if (this.#closed || peer.#handlers === undefined) return;
    if (peer.paused) return;
    const piece = this.#under.shift();
    if (piece !== undefined) {
      this.#pending -= piece.length;
      peer.#handlers.data(piece);
      if (this.#full && this.#pending === 0) {
        this.#full = false;
        this.#handlers?.drain();
      }
      this.#schedule();
    } else if (this.#sendEnded && !peer.#peerEnded) {
      peer.#peerEnded = true;
      peer.#handlers.end();
      if (peer.#sendEnded && this.#peerEnded) {
        this.#close();
        peer.#close();
      }
    }
  }
}

/** Two connected ends; `capacity` octets may be under way each way before `write` says to wait. */
export function memoryStreams(capacity = 65_536): readonly [MemoryStream, MemoryStream] {
  const a = { ip: "192.0.2.1", port: 1001 };
  const b = { ip: "192.0.2.2", port: 1002 };
  const one = new MemoryStream(a, b, capacity);
  const two = new MemoryStream(b, a, capacity);
  one.peer = two;
  two.peer = one;
  return [one, two];
}

/** A clock that a test moves by hand. */
export class HandTime implements Time {
  #now = 0;
  readonly #timers = new Set<{ at: number; fire: () => void }>();

  now(): number {
    return this.#now;
  }

  wallMs(): number {
    return 1_700_000_000_000 + this.#now;
  }

  after(delayMs: number, fire: () => void): Timer {
    const timer = { at: this.#now + delayMs, fire };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  get pending(): number {
    return this.#timers.size;
  }

  advance(ms: number): void {
    this.#now += ms;
    for (const timer of this.#timers) {
      if (timer.at > this.#now) continue;
      this.#timers.delete(timer);
      timer.fire();
    }
  }
}

/** Lets everything that is under way in memory arrive. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 200; i++) await Promise.resolve();
}
