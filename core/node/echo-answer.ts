/**
 * The answer of a node that nobody attends to: `ECHO text` is answered with `text`, message by message (so up to
 * 16 KiB, where a message arrives whole). As in P2PD, whose users try a new connection so.
 */
import type { Endpoint } from "../ip.ts";
import type { Channel, ChannelHandlers } from "./channel.ts";

const PREFIX = new TextEncoder().encode("ECHO ");

/** Answers on a channel that nobody will ever take; all other messages are thrown away. */
export function answerEcho(channel: Channel): void {
  channel.attach({
    message: (bytes) => {
      if (isEcho(bytes) && !channel.send(bytes.subarray(PREFIX.length))) channel.pause();
    },
    drain: () => {
      channel.resume();
    },
    end: () => {
      channel.end();
    },
    close: () => undefined,
  });
}

/** A channel that answers until it is taken; what is no ECHO waits for its taker. */
export interface UntakenChannel extends Channel {
  /** From now on every message goes to the receiver. */
  take(): void;
}

export function echoUntilTaken(channel: Channel): UntakenChannel {
  let taken = false;
  const receive = (handlers: ChannelHandlers) => (bytes: Uint8Array, from: Endpoint) => {
    // While the peer does not read the answers they are left out, so that it cannot fill our memory.
    if (taken || !isEcho(bytes)) handlers.message(bytes, from);
    else if (channel.pendingBytes === 0) channel.send(bytes.subarray(PREFIX.length));
  };
  return {
    kind: channel.kind,
    local: channel.local,
    remote: channel.remote,
    get fd() {
      return channel.fd;
    },
    get pendingBytes() {
      return channel.pendingBytes;
    },
    attach(handlers) {
      channel.attach({
        message: receive(handlers),
        drain: () => {
          handlers.drain();
        },
        end: () => {
          handlers.end();
          if (!taken) channel.end();
        },
        close: (error) => {
          handlers.close(error);
        },
      });
    },
    send: (bytes) => channel.send(bytes),
    pause: () => {
      channel.pause();
    },
    resume: () => {
      channel.resume();
    },
    end: () => {
      channel.end();
    },
    abort: (reason) => {
      channel.abort(reason);
    },
    take() {
      taken = true;
    },
  };
}

function isEcho(bytes: Uint8Array): boolean {
  return bytes.length >= PREFIX.length && PREFIX.every((octet, i) => bytes[i] === octet);
}
