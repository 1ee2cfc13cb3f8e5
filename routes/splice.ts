/**
 * Joins two byte streams so that each receives what comes from the other, octets as they came, with backpressure
 * and half-close. Every request but a pipe's passes through here, so that there is nothing in it but that.
 */
import type { ByteStream, StreamHandlers } from "../core/net/world.ts";

/** Joins them until both directions have ended. An error of one aborts the other. */
export function splice(a: ByteStream, b: ByteStream): void {
  a.attach(into(a, b));
  b.attach(into(b, a));
}

function into(from: ByteStream, to: ByteStream): StreamHandlers {
  return {
    data(bytes) {
      if (!to.write(bytes)) from.pause();
    },
    drain() {
      to.resume();
    },
    end() {
      to.end();
    },
    close(error) {
      if (error !== undefined) to.abort(error);
    },
  };
}
