/**
 * A ByteStream over one of Bun's sockets, plain or inside TLS: keeps what the system did not accept, holds
 * back what arrives before somebody listens, and makes one ordered set of events of Bun's. How the socket
 * came to be (connected, accepted, secured) is left to `tcp-connect.ts`, `tcp-listen.ts` and `tls.ts`.
 */
import { P2pdError } from "../errors.ts";
import type { Endpoint } from "../ip.ts";
import { closeError } from "./socket-errors.ts";
import type { ByteStream, StreamHandlers } from "./world.ts";

/** What Bun tells of a socket. It is the socket's `data`, so that all sockets share `SOCKET_HANDLERS`. */
export interface SocketEvents {
  data(bytes: Uint8Array): void;
  drain(): void;
  end(): void;
  close(error: Error | undefined): void;
  error(error: Error): void;
  handshake?(socket: BunSocket, error: Error | null): void;
}

/** Bun's socket, with the descriptor that its declarations leave out. */
export type BunSocket = Bun.Socket<SocketEvents> & { readonly fd: number };

type BunHandlers = Bun.SocketHandler<SocketEvents, "uint8array">;
// Bun's declarations of `connect` and `listen` know handlers of the default binary type only.
type AnyHandlers = Bun.SocketHandler<SocketEvents>;

// Bun makes a new array for every call of `data`, so the receiver may keep it.
const PLAIN_HANDLERS: BunHandlers = {
  binaryType: "uint8array",
  data: (socket, bytes) => socket.data.data(bytes),
  drain: (socket) => socket.data.drain(),
  end: (socket) => socket.data.end(),
  close: (socket, error) => socket.data.close(error),
  error: (socket, error) => socket.data.error(error),
};

export const SOCKET_HANDLERS = PLAIN_HANDLERS as unknown as AnyHandlers;

export const TLS_SOCKET_HANDLERS = {
  ...SOCKET_HANDLERS,
  handshake: (socket, _, error) => socket.data.handshake?.(socket as BunSocket, error),
} satisfies AnyHandlers;

/** More than this pending, and `write` asks to wait for `drain`. */
const HIGH_WATER = 64 * 1024;
/** Pending pieces smaller than this are sent together. */
const SMALL_PIECE = 16 * 1024;
const GATHER_LIMIT = 64 * 1024;

/** A stream and the events that feed it. */
export interface SocketStream {
  readonly stream: ByteStream;
  readonly events: SocketEvents;
}

/** What a stream gives up to become the ground of another one. */
export interface TakenSocket {
  readonly socket: BunSocket;
  /** Why the socket cannot be used any more. */
  readonly ended: P2pdError | undefined;
  /** From now on these hear of the socket, instead of the stream. */
  redirect(events: Pick<SocketEvents, "close" | "end">): void;
}

const takers = new WeakMap<ByteStream, () => TakenSocket>();

/**
 * Takes the socket out of a stream of this file; the stream is dead from then on, with no event. Undefined
 * for a stream that has no socket of its own.
 */
export function takeSocket(stream: ByteStream): TakenSocket | undefined {
  return takers.get(stream)?.();
}

/** Makes a stream of `socket`, which is paused until `attach`. */
export function createSocketStream(socket: BunSocket, local: Endpoint, remote: Endpoint): SocketStream {
  let handlers: StreamHandlers | undefined;
  let redirected: Pick<SocketEvents, "close" | "end"> | undefined;
  let taken = false;
  const fd = socket.fd;

  let queue: Uint8Array[] = [];
  let pendingBytes = 0;
  let drainOwed = false;

  let paused = false;
  let held: Uint8Array[] = [];
  let endHeld = false;
  let peerEnded = false;
  let ending = false;
  let finSent = false;
  let closed = false;
  let closeReported = false;
  let failure: P2pdError | undefined;

  socket.pause();

  const flush = (): void => {
    while (queue.length > 0) {
      const piece = nextPiece(queue);
      const count = Math.max(0, socket.write(piece));
      pendingBytes -= count;
      if (count < piece.length) {
        queue[0] = piece.subarray(count);
        return;
      }
      queue.shift();
    }
    if (ending) sendFin();
  };

  const sendFin = (): void => {
    if (finSent || closed) return;
    finSent = true;
    if (peerEnded) socket.end();
    else socket.shutdown();
  };

  const mayDeliver = (): boolean => handlers !== undefined && !paused;

  const deliverHeld = (): void => {
    while (mayDeliver() && held.length > 0) handlers?.data(held.shift() as Uint8Array);
    if (handlers === undefined || held.length > 0) return;
    if (endHeld && !paused) {
      endHeld = false;
      handlers.end();
    }
    if (closed) reportClose();
  };

  const reportClose = (): void => {
    if (handlers === undefined || closeReported || taken) return;
    if (failure === undefined && (held.length > 0 || endHeld)) return;
    closeReported = true;
    held = [];
    // In a task of its own: the close may come out of a call that a handler made.
    queueMicrotask(() => handlers?.close(failure));
  };

  const events: SocketEvents = {
    data(bytes) {
      if (taken || closeReported) return;
      if (handlers === undefined || paused || held.length > 0) held.push(bytes);
      else handlers.data(bytes);
    },
    drain() {
      if (taken || closed) return;
      flush();
      if (pendingBytes > 0 || !drainOwed) return;
      drainOwed = false;
      if (!ending) handlers?.drain();
    },
    end() {
      if (taken) return redirected?.end();
      if (peerEnded || closed) return;
      peerEnded = true;
      endHeld = true;
      deliverHeld();
      if (finSent) socket.end();
    },
    error(error) {
      // Also what a receiver threw: it cannot be trusted to know where it stands, so the connection ends.
      stream.abort(closeError(error, local, remote));
    },
    close(error) {
      if (taken) return redirected?.close(error);
      if (closed) return;
      closed = true;
      if (error !== undefined) failure ??= closeError(error, local, remote);
      // After our own end Bun tells of the peer's by closing, without `end`; a reset comes with an error.
      if (finSent && !peerEnded && failure === undefined) peerEnded = endHeld = true;
      if (!peerEnded || !finSent) failure ??= closeError(undefined, local, remote);
      queue = [];
      pendingBytes = 0;
      deliverHeld();
      reportClose();
    },
  };

  const stream: ByteStream = {
    local,
    remote,
    fd,
    get pendingBytes() {
      return pendingBytes;
    },
    attach(next) {
      const first = handlers === undefined;
      handlers = next;
      deliverHeld();
      if (first && !paused && !closed && !taken) socket.resume();
    },
    write(bytes) {
      if (ending || closed || taken) return true;
      if (queue.length === 0) {
        const count = Math.max(0, socket.write(bytes));
        if (count === bytes.length) return true;
        queue.push(bytes.subarray(count));
        pendingBytes = bytes.length - count;
      } else if (bytes.length > 0) {
        queue.push(bytes);
        pendingBytes += bytes.length;
      }
      if (pendingBytes < HIGH_WATER) return true;
      drainOwed = true;
      return false;
    },
    pause() {
      if (paused || taken) return;
      paused = true;
      if (!closed) socket.pause();
    },
    resume() {
      if (!paused || taken) return;
      paused = false;
      deliverHeld();
      if (!paused && !closed && handlers !== undefined) socket.resume();
    },
    end() {
      if (ending || closed || taken) return;
      ending = true;
      if (queue.length === 0) sendFin();
    },
    abort(reason) {
      if (closed || taken) return;
      failure = reason ?? new P2pdError("aborted", "the connection was aborted by this side");
      ending = true;
      queue = [];
      pendingBytes = 0;
      socket.terminate();
      events.close(undefined);
    },
  };

  takers.set(stream, () => {
    const gone = closed || peerEnded || ending || held.length > 0 || taken;
    const ended = gone ? (failure ?? closeError(undefined, local, remote)) : undefined;
    taken = true;
    return {
      socket,
      ended,
      redirect(to) {
        redirected = to;
      },
    };
  });
  return { stream, events };
}

/** The first piece of a queue, after small ones at its head were joined into one. */
function nextPiece(queue: Uint8Array[]): Uint8Array {
  const first = queue[0] as Uint8Array;
  if (first.length >= SMALL_PIECE || queue.length === 1) return first;
  let count = 0;
  let length = 0;
  while (count < queue.length && length + (queue[count] as Uint8Array).length <= GATHER_LIMIT) {
    length += (queue[count++] as Uint8Array).length;
  }
  if (count < 2) return first;
  const joined = new Uint8Array(length);
  let offset = 0;
  for (const piece of queue.splice(0, count, joined)) {
    joined.set(piece, offset);
    offset += piece.length;
  }
  return joined;
}
