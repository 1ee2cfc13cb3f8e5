/**
 * The answer of a node that nobody attends to: `ECHO text` is answered with `text`, message by message (so up to
 * 16 KiB, where a message arrives whole). As in P2PD, whose users try a new connection so.
 */
import type { Channel } from "./channel.ts";
import { tapChannel } from "./tap-channel.ts";

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
  const tapped = tapChannel(channel, (handlers) => ({
    message(bytes, from) {
      // While the peer does not read the answers they are left out, so that it cannot fill our memory.
      if (taken || !isEcho(bytes)) handlers.message(bytes, from);
      else if (channel.pendingBytes === 0) channel.send(bytes.subarray(PREFIX.length));
    },
    end() {
      handlers.end();
      if (!taken) channel.end();
    },
  }));
  // Assigned, not spread: a copy would keep the figures of this moment.
  return Object.assign(tapped, {
    take() {
      taken = true;
    },
  });
}

function isEcho(bytes: Uint8Array): boolean {
  return bytes.length >= PREFIX.length && PREFIX.every((octet, i) => bytes[i] === octet);
}
