/**
 * Joins a channel with a byte stream, both ways: what one side receives the other sends, views passed on as they
 * are. Pauses a side while the other is full, passes on the end of each direction, and an abort with its reason.
 * Knows nothing of queues; the pipe hands over what its channel says.
 */
import { P2pdError } from "../errors.ts";
import type { ByteStream } from "../net/world.ts";
import type { Channel } from "./channel.ts";

/** Octets carried each way. */
export interface Carried {
  readonly toPipe: number;
  readonly fromPipe: number;
}

/** The relay as its pipe sees it: the events of the channel go in. */
export interface Relay {
  /** Whether the stream is full; the channel is paused until it is not. */
  readonly full: boolean;
  /** The channel received something. */
  received(bytes: Uint8Array): void;
  drained(): void;
  ended(): void;
  closed(error?: P2pdError): void;
  /** Settles when both sides are closed: octets carried, or the reason of the abort. */
  readonly done: Promise<Carried>;
}

/** Stream octets go into datagrams no larger than any path carries whole. */
const DATAGRAM_OCTETS = 1200;

/**
 * Starts relaying. `sent` is told of every octet given to the channel. The stream's receiver is replaced; the
 * channel's events must be handed to the relay that is returned.
 */
export function startRelay(channel: Channel, stream: ByteStream, sent: (octets: number) => void): Relay {
  let toPipe = 0;
  let fromPipe = 0;
  let pipeEnded = false;
  let streamEnded = false;
  let pipeClosed = false;
  let streamClosed = false;
  let full = false;
  let failure: P2pdError | undefined;
  const { promise, resolve, reject } = Promise.withResolvers<Carried>();

  const settle = () => {
    if (!pipeClosed || !streamClosed) return;
    if (failure === undefined) resolve({ toPipe, fromPipe });
    else {
      const detail = { ...failure.detail, toPipe, fromPipe };
      reject(new P2pdError(failure.code, failure.message, detail, { cause: failure }));
    }
  };
  const fail = (reason: P2pdError) => {
    failure ??= reason;
    if (!pipeClosed) channel.abort(failure);
    if (!streamClosed) stream.abort(failure);
    settle();
  };
  const send = channel.kind === "stream" ? (bytes: Uint8Array) => channel.send(bytes) : datagrams(channel);

  stream.attach({
    data(bytes) {
      toPipe += bytes.length;
      sent(bytes.length);
      if (!send(bytes)) stream.pause();
    },
    drain() {
      full = false;
      if (!pipeClosed) channel.resume();
    },
    end() {
      if (streamEnded) return;
      streamEnded = true;
      if (!pipeClosed) channel.end();
    },
    close(error) {
      streamClosed = true;
      if (error !== undefined) fail(error);
      else if (!pipeEnded)
        fail(new P2pdError("closed", "the joined stream closed before the pipe had ended"));
      else if (!streamEnded && !pipeClosed) channel.end();
      settle();
    },
  });

  return {
    done: promise,
    get full() {
      return full;
    },
    received(bytes) {
      fromPipe += bytes.length;
      if (stream.write(bytes)) return;
      full = true;
      channel.pause();
    },
    drained() {
      if (!streamClosed) stream.resume();
    },
    ended() {
      if (pipeEnded) return;
      pipeEnded = true;
      if (!streamClosed) stream.end();
    },
    closed(error) {
      pipeClosed = true;
      if (error !== undefined) fail(error);
      else if (channel.kind === "stream" && !pipeEnded) fail(new P2pdError("closed", "the pipe was closed"));
      else if (!pipeEnded) this.ended();
      settle();
    },
  };
}

function datagrams(channel: Channel): (bytes: Uint8Array) => boolean {
  return (bytes) => {
    let more = true;
    for (let at = 0; at < bytes.length; at += DATAGRAM_OCTETS) {
      more = channel.send(bytes.subarray(at, at + DATAGRAM_OCTETS));
    }
    return more;
  };
}
