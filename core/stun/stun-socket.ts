/**
 * STUN over a UDP socket that it does not own: many requests at once on one port, and every datagram that is no
 * STUN response goes on to whoever else uses the socket (requests of a peer, punch probes, ChannelData).
 */
import { P2pdError } from "../errors.ts";
import { formatEndpoint } from "../ip.ts";
import type { UdpHandlers, UdpSocket, World } from "../net/world.ts";
import { createStunExchange, type StunTransport } from "./exchange.ts";

export interface StunSocket extends StunTransport {
  readonly socket: UdpSocket;
  /** Sets who gets the datagrams that are no STUN responses. */
  pass(other: UdpHandlers): void;
  /** Rejects what is on its way with `closed` and leaves the socket to `other`; the socket stays open. */
  close(): void;
}

/** Attaches to `socket` and answers for STUN on it; `other` gets the rest. */
export function attachStun(
  world: Pick<World, "time" | "randomBytes">,
  socket: UdpSocket,
  other?: UdpHandlers,
): StunSocket {
  let rest = other;
  let open = true;
  // A datagram that the system's buffer did not take is lost like any other: it is sent again when due.
  const exchange = createStunExchange(world, false, (bytes, to) => void socket.send(bytes, to));
  socket.attach({
    message(bytes, from) {
      if (!open || !exchange.receive(bytes, from)) rest?.message(bytes, from);
    },
    drain: () => rest?.drain?.(),
    error: (error) => rest?.error?.(error),
  });
  return {
    socket,
    reliable: false,
    local: socket.local,
    counters: exchange.counters,
    request: (request) => exchange.request(request),
    pass(next) {
      rest = next;
    },
    close() {
      open = false;
      exchange.fail(new P2pdError("closed", `STUN on ${formatEndpoint(socket.local)} was closed`));
    },
  };
}
