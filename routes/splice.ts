/**
 * Joins two byte streams so that each receives what comes from the other, octets as they came, with backpressure
 * and half-close. Every request but a pipe's passes through here, so that there is nothing in it but that.
 */
import type { ByteStream, StreamHandlers } from "../core/net/world.ts";

/** What may be known of a pair of joined streams. */
export interface Splice {
  /** Whether octets came since this was last set to false. */
  isActive: boolean;
  /** Whether the last octets came from `inside`: of HTTP, that an answer was the last thing said. */
  isAnswered: boolean;
  /** Whether the client was told that it is over. */
  isDismissed: boolean;
}

/** Joins them until both directions have ended; then calls `ended`. An error of one aborts the other. */
export function splice(client: ByteStream, inside: ByteStream, ended: () => void = () => {}): Splice {
  const state: Splice = { isActive: true, isAnswered: false, isDismissed: false };
  client.attach({
    data(bytes) {
      state.isActive = true;
      state.isAnswered = false;
      if (!inside.write(bytes)) client.pause();
    },
    ...restOf(inside, ended),
  });
  inside.attach({
    data(bytes) {
      state.isActive = true;
      state.isAnswered = true;
      if (!client.write(bytes)) inside.pause();
    },
    ...restOf(client, () => {}),
  });
  return state;
}

function restOf(other: ByteStream, ended: () => void): Omit<StreamHandlers, "data"> {
  return {
    drain() {
      other.resume();
    },
    end() {
      other.end();
    },
    close(error) {
      if (error !== undefined) other.abort(error);
      ended();
    },
  };
}
