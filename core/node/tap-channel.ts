/** A channel that is another one, with what arrives passing through somebody's hands first. */
import type { Channel, ChannelHandlers } from "./channel.ts";

/**
 * The channel `under`, whose receivers are replaced by what `tap` makes of them; everything else is its own. `tap`
 * names the events it wants to see and passes on what it likes.
 */
export function tapChannel(
  under: Channel,
  tap: (handlers: ChannelHandlers) => Partial<ChannelHandlers>,
): Channel {
  return {
    kind: under.kind,
    get local() {
      return under.local;
    },
    get remote() {
      return under.remote;
    },
    get fd() {
      return under.fd;
    },
    get pendingBytes() {
      return under.pendingBytes;
    },
    attach(handlers) {
      under.attach({
        message: (bytes, from) => {
          handlers.message(bytes, from);
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
        ...tap(handlers),
      });
    },
    send: (bytes) => under.send(bytes),
    pause: () => {
      under.pause();
    },
    resume: () => {
      under.resume();
    },
    end: () => {
      under.end();
    },
    abort: (reason) => {
      under.abort(reason);
    },
  };
}
