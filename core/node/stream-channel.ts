/**
 * A byte stream (TCP, TLS) as the channel of a pipe. Adds nothing but the sender of each piece.
 */
import type { ByteStream } from "../net/world.ts";
import type { Channel } from "./channel.ts";

/** The channel over `stream`; nothing is read before the channel is attached to. */
export function streamChannel(stream: ByteStream): Channel {
  const { local, remote } = stream;
  return {
    kind: "stream",
    local,
    remote,
    get fd() {
      return stream.fd;
    },
    get pendingBytes() {
      return stream.pendingBytes;
    },
    attach(handlers) {
      stream.attach({
        data: (bytes) => {
          handlers.message(bytes, remote);
        },
        drain: () => {
          handlers.drain();
        },
        end: () => {
          handlers.end();
        },
        close: (error) => {
          handlers.close(error);
        },
      });
    },
    send: (bytes) => stream.write(bytes),
    pause: () => {
      stream.pause();
    },
    resume: () => {
      stream.resume();
    },
    end: () => {
      stream.end();
    },
    abort: (reason) => {
      stream.abort(reason);
    },
  };
}
