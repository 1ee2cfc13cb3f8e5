/** A stream whose first octets were read for another purpose, such as a handshake. */
import type { Endpoint } from "../ip.ts";
import type { ByteStream, StreamHandlers } from "./world.ts";

/**
 * The paused stream as if `early` had not been read yet; it goes on when somebody attaches.
 * @param ends what to call its ends, where the socket's own are not what it leads to
 */
export function resumeStream(
  stream: ByteStream,
  early: Uint8Array,
  ends: { readonly local?: Endpoint; readonly remote?: Endpoint } = {},
): ByteStream {
  let unread = early;
  return {
    local: ends.local ?? stream.local,
    remote: ends.remote ?? stream.remote,
    fd: stream.fd,
    get pendingBytes() {
      return stream.pendingBytes;
    },
    attach(handlers: StreamHandlers) {
      stream.attach(handlers);
      const bytes = unread;
      unread = new Uint8Array(0);
      if (bytes.length > 0) handlers.data(bytes);
      stream.resume();
    },
    write: (bytes) => stream.write(bytes),
    pause: () => stream.pause(),
    resume: () => stream.resume(),
    end: () => stream.end(),
    abort: (reason) => stream.abort(reason),
  };
}
