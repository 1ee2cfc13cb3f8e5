/**
 * A stream whose first octets have been read already, and to which something is said before anything else: a
 * connection between its request's head and the pipe that it becomes.
 */
import type { ByteStream } from "../core/net/world.ts";

/**
 * The stream as if `early` had not been read. The first time that it is attached to or written to, `greeting`
 * is sent and `started` called: until then whoever has the stream may still answer otherwise.
 */
export function withEarly(
  stream: ByteStream,
  early: Uint8Array,
  greeting: Uint8Array | undefined,
  started: () => void,
): ByteStream {
  let isStarted = false;
  let unread: Uint8Array | undefined = early.length === 0 ? undefined : early;
  const start = (): void => {
    if (isStarted) return;
    isStarted = true;
    started();
    if (greeting !== undefined) stream.write(greeting);
  };
  return {
    local: stream.local,
    remote: stream.remote,
    fd: stream.fd,
    get pendingBytes() {
      return stream.pendingBytes;
    },
    attach(handlers) {
      start();
      stream.attach(handlers);
      if (unread === undefined) return;
      const bytes = unread;
      unread = undefined;
      handlers.data(bytes);
    },
    write(bytes) {
      start();
      return stream.write(bytes);
    },
    pause: () => stream.pause(),
    resume: () => stream.resume(),
    end: () => stream.end(),
    abort: (reason) => stream.abort(reason),
  };
}
