/** Two byte streams joined in memory, with the octets that cross written down, for tests of what stands on streams. */
import { P2pdError } from "../../../core/errors.ts";
import type { ByteStream, StreamHandlers } from "../../../core/net/world.ts";

export interface TestStream extends ByteStream {
  /** Everything that was written here. */
  readonly written: Uint8Array[];
  readonly isPaused: boolean;
  /** How `abort` was called: undefined if it was not. */
  readonly aborted: { readonly reason: P2pdError | undefined } | undefined;
  /** From now on what is written stays pending, as with a peer that does not read. */
  hold(): void;
  /** Lets what was held pass. */
  release(): void;
}

const ENDPOINT = { ip: "127.0.0.1", port: 1 };

export function streamPair(): readonly [TestStream, TestStream] {
  const a = createEnd(() => b);
  const b = createEnd(() => a);
  return [a, b];
}

interface End extends TestStream {
  deliver(event: (handlers: StreamHandlers) => void): void;
  peerEnded(): void;
  gone(error: P2pdError | undefined): void;
}

function createEnd(peer: () => End): End {
  let handlers: StreamHandlers | undefined;
  let queue: ((handlers: StreamHandlers) => void)[] = [];
  let paused = false;
  let held: Uint8Array[] | undefined;
  let ended = false;
  let peerHasEnded = false;
  let closed = false;
  let aborted: { reason: P2pdError | undefined } | undefined;
  const written: Uint8Array[] = [];

  const flush = (): void => {
    if (handlers === undefined || paused) return;
    const event = queue.shift();
    if (event === undefined) return;
    event(handlers);
    flush();
  };
  const settle = (): void => {
    if (ended && held === undefined && peerHasEnded) end.gone(undefined);
  };
  const end: End = {
    local: ENDPOINT,
    remote: ENDPOINT,
    fd: -1,
    written,
    get isPaused() {
      return paused;
    },
    get aborted() {
      return aborted;
    },
    get pendingBytes() {
      return held?.reduce((sum, bytes) => sum + bytes.length, 0) ?? 0;
    },
    attach(next) {
      handlers = next;
      queueMicrotask(flush);
    },
    write(bytes) {
      if (ended || closed) return true;
      written.push(bytes);
      if (held !== undefined) {
        held.push(bytes);
        return false;
      }
      peer().deliver((to) => to.data(bytes));
      return true;
    },
    pause() {
      paused = true;
    },
    resume() {
      paused = false;
      queueMicrotask(flush);
    },
    end() {
      if (ended || closed) return;
      ended = true;
      if (held === undefined) peer().peerEnded();
      settle();
    },
    abort(reason) {
      if (closed) return;
      aborted = { reason };
      end.gone(reason ?? new P2pdError("aborted", "aborted"));
      peer().gone(new P2pdError("closed", "reset by the peer"));
    },
    hold() {
      held = [];
    },
    release() {
      const waiting = held ?? [];
      held = undefined;
      for (const bytes of waiting) peer().deliver((to) => to.data(bytes));
      handlers?.drain();
      if (ended) peer().peerEnded();
      settle();
    },
    deliver(event) {
      queue.push(event);
      queueMicrotask(flush);
    },
    peerEnded() {
      peerHasEnded = true;
      end.deliver((to) => to.end());
      settle();
    },
    gone(error) {
      if (closed) return;
      closed = true;
      if (error !== undefined) queue = [];
      end.deliver((to) => to.close(error));
    },
  };
  return end;
}
