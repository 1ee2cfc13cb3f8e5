/**
 * The receiving side of a byte stream of the simulation: keeps what comes until somebody listens, and tells
 * data, end and close in that order, never one inside another.
 */
import type { P2pdError } from "../../core/errors.ts";
import type { StreamHandlers } from "../../core/net/world.ts";

export interface Inbox {
  attach(handlers: StreamHandlers): void;
  pause(): void;
  resume(): void;
  data(bytes: Uint8Array): void;
  end(): void;
  drain(): void;
  /** With an error at once, dropping what is kept; without, after it. */
  close(error?: P2pdError): void;
  /** Octets kept. */
  readonly held: number;
}

/** `taken` is called after kept octets were handed over. */
export function createInbox(taken: () => void): Inbox {
  let handlers: StreamHandlers | undefined;
  let queue: Uint8Array[] = [];
  let held = 0;
  let paused = false;
  let busy = false;
  let ended: "no" | "kept" | "told" = "no";
  let drainOwed = false;
  let closed: "no" | "kept" | "told" = "no";
  let failure: P2pdError | undefined;

  function deliver(): void {
    if (busy || handlers === undefined) return;
    busy = true;
    const before = held;
    const mayGo = (): boolean => !paused && queue.length > 0 && failure === undefined;
    while (mayGo()) {
      const bytes = queue.shift() as Uint8Array;
      held -= bytes.length;
      handlers.data(bytes);
    }
    if (drainOwed && closed === "no") {
      drainOwed = false;
      handlers.drain();
    }
    if (ended === "kept" && !paused && queue.length === 0 && failure === undefined) {
      ended = "told";
      handlers.end();
    }
    busy = false;
    if (held < before) taken();
    const isLast = failure !== undefined || (queue.length === 0 && ended !== "kept");
    if (closed !== "kept" || !isLast) return;
    closed = "told";
    queue = [];
    held = 0;
    // Apart, for the close may come out of a call that a handler made.
    queueMicrotask(() => handlers?.close(failure));
  }

  return {
    attach(next) {
      handlers = next;
      deliver();
    },
    pause() {
      paused = true;
    },
    resume() {
      paused = false;
      deliver();
    },
    data(bytes) {
      if (closed !== "no" || bytes.length === 0) return;
      queue.push(bytes);
      held += bytes.length;
      deliver();
    },
    end() {
      if (ended !== "no" || closed !== "no") return;
      ended = "kept";
      deliver();
    },
    drain() {
      if (closed !== "no") return;
      drainOwed = true;
      deliver();
    },
    close(error) {
      if (closed !== "no") return;
      closed = "kept";
      failure = error;
      deliver();
    },
    get held() {
      return held;
    },
  };
}
