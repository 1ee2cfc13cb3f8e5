/**
 * Two ends of a path in virtual time that can be broken in every way a path breaks: cut with notice, fallen silent, or
 * either of them after so many more octets. Octets arrive after a delay, in pieces of any size.
 */
import { P2pdError } from "../../../core/errors.ts";
import type { Path } from "../../../core/connect/race.ts";
import type { SecureStream, StreamHandlers } from "../../../core/net/world.ts";
import type { EventTime } from "./event-time.ts";

export interface FrailOptions {
  readonly delayMs?: number;
  /** Largest piece that arrives at once. */
  readonly pieceOctets?: number;
  /** More than this under way, and a writer is to wait. */
  readonly capacity?: number;
  /** Of its two ends, who has proved which key. */
  readonly keys?: readonly [Uint8Array, Uint8Array];
}

export interface FrailPath {
  /** As the two sides have it. */
  readonly ends: readonly [Path, Path];
  /** Both streams close with an error: now, or after so many more octets in either direction. */
  cut(afterOctets?: number): void;
  /** Nothing arrives any more. */
  silence(afterOctets?: number): void;
  /** What was held back by a silence arrives. */
  heal(): void;
  /** Octets that were written at each end. */
  readonly written: readonly [number, number];
}

export const KEYS = [new Uint8Array(33).fill(2), new Uint8Array(33).fill(3)] as const;

class End {
  readonly fd = -1;
  readonly cipher = "TLS_AES_128_GCM_SHA256";
  readonly local = { ip: "192.0.2.1", port: 1 };
  readonly remote = { ip: "192.0.2.2", port: 2 };
  readonly queue: Uint8Array[] = [];
  written = 0;
  pendingBytes = 0;
  peer!: End;
  #handlers: StreamHandlers | undefined;
  #arrived: Uint8Array[] = [];
  #paused = false;
  #drainOwed = false;
  #ending = false;
  #peerEnded = false;
  #endTold = false;
  #closed: { error: P2pdError | undefined } | undefined;
  #isScheduled = false;

  constructor(
    readonly peerKey: Uint8Array,
    readonly time: EventTime,
    readonly options: Required<Omit<FrailOptions, "keys">>,
    /** How many octets may still pass; told how many did. */
    readonly allowance: { take(octets: number): number },
  ) {}

  attach(handlers: StreamHandlers): void {
    this.#handlers = handlers;
    this.#deliver();
  }

  write(bytes: Uint8Array): boolean {
    if (this.#ending || this.#closed !== undefined || bytes.length === 0) return true;
    this.queue.push(bytes);
    this.written += bytes.length;
    this.pendingBytes += bytes.length;
    this.#schedule();
    if (this.pendingBytes <= this.options.capacity) return true;
    this.#drainOwed = true;
    return false;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#deliver();
  }

  end(): void {
    if (this.#ending || this.#closed !== undefined) return;
    this.#ending = true;
    this.#schedule();
  }

  abort(reason?: P2pdError): void {
    if (this.#closed !== undefined) return;
    this.close(reason ?? new P2pdError("aborted", "aborted"));
    const { peer } = this;
    this.time.after(this.options.delayMs, () => peer.close(new P2pdError("closed", "reset by the peer")));
  }

  close(error: P2pdError | undefined): void {
    if (this.#closed !== undefined) return;
    this.#closed = { error };
    this.pendingBytes = 0;
    this.queue.length = 0;
    if (error !== undefined) this.#arrived = [];
    queueMicrotask(() => this.#handlers?.close(error));
  }

  /** Moves what was written on its way. */
  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.time.after(this.options.delayMs, () => {
      this.#isScheduled = false;
      this.flush();
    });
  }

  flush(): void {
    if (this.#closed !== undefined) return;
    const head = this.queue[0];
    if (head === undefined) {
      if (this.#ending) this.peer.#peerHasEnded();
      return;
    }
    const wanted = Math.min(head.length, this.options.pieceOctets);
    const passed = this.allowance.take(wanted);
    if (this.#closed !== undefined) return;
    if (passed > 0) {
      this.pendingBytes -= passed;
      if (passed === head.length) this.queue.shift();
      else this.queue[0] = head.subarray(passed);
      this.peer.#arrived.push(head.slice(0, passed));
      this.peer.#deliver();
    }
    if (passed < wanted) return; // silent
    if (this.#drainOwed && this.pendingBytes === 0) {
      this.#drainOwed = false;
      this.#handlers?.drain();
    }
    if (this.queue.length > 0) queueMicrotask(() => this.flush());
    else if (this.#ending) this.peer.#peerHasEnded();
  }

  #peerHasEnded(): void {
    this.#peerEnded = true;
    this.#deliver();
    this.peer.#closeIfDone();
  }

  #closeIfDone(): void {
    if (!this.#ending || this.queue.length > 0 || !this.#endTold) return;
    this.close(undefined);
    this.peer.close(undefined);
  }

  #deliver(): void {
    while (this.#handlers !== undefined && !this.#paused && this.#closed === undefined) {
      const bytes = this.#arrived.shift();
      if (bytes === undefined) break;
      this.#handlers.data(bytes);
    }
    if (this.#handlers === undefined || this.#paused || this.#arrived.length > 0) return;
    if (!this.#peerEnded || this.#endTold || this.#closed !== undefined) return;
    this.#endTold = true;
    this.#handlers.end();
    this.#closeIfDone();
  }
}

export function frailPath(time: EventTime, options: FrailOptions = {}): FrailPath {
  const { delayMs = 10, pieceOctets = 1 << 20, capacity = 64 * 1024, keys = KEYS } = options;
  const all = { delayMs, pieceOctets, capacity };
  let left = Number.POSITIVE_INFINITY;
  let isCut = false;
  const shut = (): void => {
    for (const end of ends) end.close(new P2pdError("closed", "the path was cut"));
  };
  const allowance = {
    take(octets: number): number {
      const passed = Math.min(octets, left);
      left -= passed;
      if (passed < octets && isCut) queueMicrotask(shut);
      return passed;
    },
  };
  const ends = [new End(keys[1], time, all, allowance), new End(keys[0], time, all, allowance)] as const;
  [ends[0].peer, ends[1].peer] = [ends[1], ends[0]];
  const pathOf = (stream: End): Path => ({
    strategy: "direct",
    transport: "tcp",
    candidate: "192.0.2.2:2/tcp",
    stream: plain(stream),
    rttMs: 2 * delayMs,
  });
  return {
    ends: [pathOf(ends[0]), pathOf(ends[1])],
    cut(afterOctets = 0) {
      isCut = true;
      left = afterOctets;
      if (afterOctets === 0) shut();
    },
    silence(afterOctets = 0) {
      left = afterOctets;
    },
    heal() {
      left = Number.POSITIVE_INFINITY;
      for (const end of ends) end.flush();
    },
    get written() {
      return [ends[0].written, ends[1].written] as const;
    },
  };
}

/** As the world's streams are: an object of closures, which others may wrap. */
function plain(end: End): SecureStream {
  return {
    local: end.local,
    remote: end.remote,
    fd: end.fd,
    peerKey: end.peerKey,
    cipher: end.cipher,
    get pendingBytes() {
      return end.pendingBytes;
    },
    attach: (handlers) => end.attach(handlers),
    write: (bytes) => end.write(bytes),
    pause: () => end.pause(),
    resume: () => end.resume(),
    end: () => end.end(),
    abort: (reason) => end.abort(reason),
  };
}
