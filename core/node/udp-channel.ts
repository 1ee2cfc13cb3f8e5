/**
 * A UDP socket as the channel of a pipe: to one peer, like a connected socket, or for everybody who writes to it.
 * Copies what arrives, keeps for a moment what the system does not take, and counts what it throws away.
 */
import type { P2pdError } from "../errors.ts";
import { type Endpoint, familyOf, sameEndpoint } from "../ip.ts";
import type { UdpSocket } from "../net/world.ts";
import type { Channel, ChannelHandlers } from "./channel.ts";

export interface UdpChannel extends Channel {
  /** Datagrams thrown away: unsent because too many waited, or received while paused. */
  readonly dropped: number;
  /** Datagrams from somebody other than the peer. */
  readonly strangers: number;
  /** ICMP errors and the like that the socket reported. */
  readonly errors: number;
}

/** Octets of datagrams that wait for the system at most; beyond that the oldest go. */
const MAX_PENDING = 1 << 20;

interface Pending {
  readonly bytes: Uint8Array;
  readonly to: Endpoint;
}

/**
 * The channel over `socket`, which belongs to it from now on.
 * @param remote whom to send to, and with `only` the one to hear; absent: many peers, every send says to whom
 * @param only whether datagrams from others are ignored; by default they are when there is a `remote`
 */
export function udpChannel(socket: UdpSocket, remote?: Endpoint, only = remote !== undefined): UdpChannel {
  const peer = remote ?? { ip: familyOf(socket.local.ip) === 6 ? "::" : "0.0.0.0", port: 0 };
  let handlers: ChannelHandlers | undefined;
  let pending: Pending[] = [];
  let pendingBytes = 0;
  let paused = false;
  let state: "open" | "ending" | "closed" = "open";
  let dropped = 0;
  let strangers = 0;
  let errors = 0;

  const close = (reason?: P2pdError) => {
    if (state === "closed") return;
    state = "closed";
    pending = [];
    pendingBytes = 0;
    socket.close();
    // After the caller is done, as with any other channel.
    queueMicrotask(() => handlers?.close(reason));
  };
  const keep = (bytes: Uint8Array, to: Endpoint) => {
    pending.push({ bytes, to });
    pendingBytes += bytes.length;
    while (pendingBytes > MAX_PENDING) {
      pendingBytes -= (pending.shift() as Pending).bytes.length;
      dropped++;
    }
  };
  const flush = () => {
    let sent = 0;
    for (const { bytes, to } of pending) {
      if (!socket.send(bytes, to)) break;
      pendingBytes -= bytes.length;
      sent++;
    }
    pending.splice(0, sent);
    if (pending.length > 0) return;
    if (state === "ending") close();
    else handlers?.drain();
  };

  return {
    kind: "datagram",
    local: socket.local,
    remote: peer,
    get fd() {
      return socket.fd;
    },
    get pendingBytes() {
      return pendingBytes;
    },
    get dropped() {
      return dropped;
    },
    get strangers() {
      return strangers;
    },
    get errors() {
      return errors;
    },
    attach(given) {
      handlers = given;
      socket.attach({
        message(bytes, from) {
          if (state === "closed") return;
          if (only && !sameEndpoint(from, peer)) strangers++;
          else if (paused) dropped++;
          else given.message(bytes.slice(), from);
        },
        drain: flush,
        error() {
          errors++;
        },
      });
    },
    send(bytes, to = peer) {
      if (state !== "open") return true;
      if (pending.length === 0 && socket.send(bytes, to)) return true;
      keep(bytes, to);
      return false;
    },
    pause() {
      paused = true;
    },
    resume() {
      paused = false;
    },
    end() {
      if (state !== "open") return;
      state = "ending";
      if (pending.length === 0) close();
    },
    abort: close,
  };
}
