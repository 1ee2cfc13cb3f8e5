/**
 * What a pipe carries bytes over: a TCP stream, a UDP socket, or a session between two nodes. A pipe looks
 * at nothing else, so that one code serves them all.
 */
import type { P2pdError } from "../errors.ts";
import type { Endpoint } from "../ip.ts";

export interface ChannelHandlers {
  /** A piece of a stream, or one datagram. The view is the receiver's to keep. */
  message(bytes: Uint8Array, from: Endpoint): void;
  drain(): void;
  end(): void;
  close(error?: P2pdError): void;
}

export interface Channel {
  readonly kind: "stream" | "datagram";
  /** Where it is now: a session may change its path. So with `remote` and `fd`. */
  readonly local: Endpoint;
  /** The peer; of a datagram channel with many peers, whom it was opened to. */
  readonly remote: Endpoint;
  readonly fd: number;
  attach(handlers: ChannelHandlers): void;
  /** Takes all of `bytes`; false: wait for `drain`. Only datagram channels look at `to`. */
  send(bytes: Uint8Array, to?: Endpoint): boolean;
  readonly pendingBytes: number;
  pause(): void;
  resume(): void;
  /** Finishes sending after what is pending. */
  end(): void;
  abort(reason?: P2pdError): void;
}
