/**
 * A QUIC session with one stream as a `QuicPath`: ordered octets with the semantics of `ByteStream`, and datagrams.
 * Closing a session throws away what is on its way, so a side that has received everything says so by one octet
 * on a stream in one direction, and the session is closed when both have. How the session came to be and whose key was
 * proved is left to `quic.ts`.
 */
import type { QuicSession, QuicStream } from "node:quic";
import { P2pdError } from "../errors.ts";
import { type Endpoint, formatEndpoint } from "../ip.ts";
import type { QuicDatagrams } from "./quic-datagrams.ts";
import { CLOSE, isDone, sessionError } from "./quic-errors.ts";
import type { QuicPath, StreamHandlers } from "./world.ts";

/** More than this pending, and `write` asks to wait for `drain`. */
const HIGH_WATER = 64 * 1024;
/** What QUIC may hold that the peer has not acknowledged or made room for. */
export const SEND_BUFFER = 1024 * 1024;
const PIECE = 64 * 1024;

const RECEIVED_ALL = Uint8Array.of(1);

/** The readable side of a stream: batches of pieces. */
export type StreamReader = AsyncIterator<readonly Uint8Array[]>;

// `Writer` of node:stream/iter, whose module is not there to ask for the symbol.
const DRAINABLE = Symbol.for("Stream.drainableProtocol");
interface StreamWriter {
  readonly desiredSize: number | null;
  writeSync(chunk: Uint8Array): boolean;
  endSync(): number;
  [DRAINABLE](): Promise<boolean> | null;
}

export interface PathParts {
  readonly session: QuicSession;
  readonly stream: QuicStream;
  readonly reader: StreamReader;
  readonly datagrams: QuicDatagrams;
  readonly local: Endpoint;
  readonly remote: Endpoint;
  readonly peerKey: Uint8Array;
  readonly cipher: string;
  /** What was read of the stream and belongs to the receiver. */
  readonly first: readonly Uint8Array[];
}

/** Makes a path of a session that stands. Nothing is read before `attach`. */
export function createQuicPath(parts: PathParts): QuicPath {
  const { session, stream, reader, datagrams, local, remote, peerKey, cipher } = parts;
  const what = `QUIC ${formatEndpoint(local)} -> ${formatEndpoint(remote)}`;
  const writer = stream.writer as unknown as StreamWriter;
  let handlers: StreamHandlers | undefined;

  let queue: Uint8Array[] = [];
  let pendingBytes = 0;
  let drainOwed = false;
  let awaitingRoom = false;
  let ending = false;
  let finSent = false;

  let paused = false;
  let held: Uint8Array[] = [...parts.first];
  let reading = false;
  let peerEnded = false;
  let endReported = false;
  /** The peer has received all that we sent. */
  let allReceived = false;
  /** Both sides had ended, or `failure` says why not. */
  let over = false;
  let failure: P2pdError | undefined;
  let closeReported = false;

  const flush = (): void => {
    while (queue.length > 0) {
      const piece = (queue[0] as Uint8Array).subarray(0, PIECE);
      if (!writer.writeSync(piece)) return awaitRoom();
      pendingBytes -= piece.length;
      const rest = (queue[0] as Uint8Array).subarray(piece.length);
      if (rest.length > 0) queue[0] = rest;
      else queue.shift();
    }
    if (ending && !finSent) {
      finSent = true;
      writer.endSync();
    }
  };

  const awaitRoom = (): void => {
    if (awaitingRoom) return;
    const room = writer[DRAINABLE]();
    if (room === null) {
      // Not for want of room: the peer wants no more, or the session is going, and its end is told elsewhere.
      if (writer.desiredSize === null && !over) lose(undefined);
      return;
    }
    awaitingRoom = true;
    room.then(
      () => {
        awaitingRoom = false;
        if (over) return;
        flush();
        if (pendingBytes > 0 || !drainOwed) return;
        drainOwed = false;
        if (!ending) handlers?.drain();
      },
      () => undefined, // the stream is gone, which its close tells
    );
  };

  const mayDeliver = (): boolean => handlers !== undefined && !paused && failure === undefined;

  const deliver = (): void => {
    while (mayDeliver() && held.length > 0) handlers?.data(held.shift() as Uint8Array);
    if (!mayDeliver() || held.length > 0) return;
    if (peerEnded && !endReported) {
      endReported = true;
      handlers?.end();
    }
    if (!peerEnded) void read();
    else if (over) reportClose();
  };

  const read = async (): Promise<void> => {
    if (reading) return;
    reading = true;
    try {
      const { done, value } = await reader.next();
      if (done !== true) held.push(...value);
      // The reader of a session that was closed ends as if the peer had finished.
      else if (!session.destroyed) receivedAll();
    } catch (thrown) {
      // Of a session that was closed, the close itself knows more.
      if (session.destroyed) void closed.then(() => lose(thrown));
      else lose(thrown);
    } finally {
      reading = false;
    }
    try {
      deliver();
    } catch (thrown) {
      path.abort(new P2pdError("internal", `${what}: its receiver failed`, {}, { cause: thrown }));
    }
  };

  const reportClose = (): void => {
    if (handlers === undefined || closeReported) return;
    if (failure === undefined && !endReported) return;
    closeReported = true;
    queueMicrotask(() => handlers?.close(failure));
  };

  const lose = (thrown: unknown): void => {
    if (over) return;
    over = true;
    failure = sessionError(thrown, what);
    held = [];
    queue = [];
    pendingBytes = 0;
    session.destroy(undefined, { code: CLOSE.aborted, type: "application" });
    reportClose();
  };

  const receivedAll = (): void => {
    peerEnded = true;
    session.createUnidirectionalStream({ body: RECEIVED_ALL }).then(ignoreEnd, () => undefined);
    closeIfDone();
  };

  const closeIfDone = (): void => {
    if (over || !peerEnded || !allReceived) return;
    over = true;
    session.destroy(undefined, { code: CLOSE.done, type: "application" });
    deliver();
  };

  session.onstream = (opened) => {
    ignoreEnd(opened);
    if (opened.direction === "uni" && finSent) {
      allReceived = true;
      closeIfDone();
    } else lose(new P2pdError("protocol", `${what}: the peer opened a stream that has no place`));
  };
  ignoreEnd(stream);
  Object.assign(stream, { onreset: lose });
  const closed = session.closed.then(
    () => lose(undefined),
    (thrown: unknown) => {
      allReceived ||= finSent && isDone(thrown);
      closeIfDone();
      lose(thrown);
    },
  );

  const path: QuicPath = {
    local,
    remote,
    fd: -1,
    peerKey,
    cipher,
    get pendingBytes() {
      return pendingBytes;
    },
    attach(next) {
      handlers = next;
      deliver();
      if (over) reportClose();
    },
    write(bytes) {
      if (ending || over || bytes.length === 0) return true;
      queue.push(bytes);
      pendingBytes += bytes.length;
      if (!awaitingRoom) flush();
      if (pendingBytes < HIGH_WATER) return true;
      drainOwed = true;
      return false;
    },
    pause() {
      paused = true;
    },
    resume() {
      if (!paused) return;
      paused = false;
      deliver();
    },
    end() {
      if (ending || over) return;
      ending = true;
      if (queue.length === 0) flush();
    },
    abort(reason) {
      if (over) {
        // Ended in order, and perhaps not delivered to its end: the receiver does not want the rest.
        failure ??= reason;
        endReported = true;
        return reportClose();
      }
      lose(reason ?? new P2pdError("aborted", "the connection was aborted by this side"));
    },
    get maxDatagramBytes() {
      return over ? 0 : session.maxDatagramSize;
    },
    sendDatagram: (bytes) => !over && datagrams.send(bytes),
    attachDatagrams: (message) => datagrams.attach(message),
    rttMs: () => Number(session.stats.smoothedRtt) / 1e6,
  };
  return path;
}

/** How a stream ends is told by the session's end. */
function ignoreEnd(stream: QuicStream): void {
  stream.closed.catch(() => undefined);
}
