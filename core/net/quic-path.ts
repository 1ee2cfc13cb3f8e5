/**
 * A QUIC session with one stream as a `QuicPath`: ordered octets with the semantics of `ByteStream`, and datagrams.
 * The runtime neither slows a sender down for a reader that is behind nor keeps what is on its way when a session is
 * closed; both are done here, by counts that each side sends on its control stream (`quic-control.ts`). How the
 * session came to be and whose key was proved is left to `quic.ts`.
 */
import type { QuicSession, QuicStream } from "node:quic";
import { P2pdError } from "../errors.ts";
import { type Endpoint, formatEndpoint } from "../ip.ts";
import { type BegunControl, type ControlHandlers, createQuicControl } from "./quic-control.ts";
import type { QuicDatagrams } from "./quic-datagrams.ts";
import { closeWhenOpened, isDone, sessionError } from "./quic-errors.ts";
import { type StreamReader, writerOf } from "./quic-runtime.ts";
import type { QuicPath, StreamHandlers } from "./world.ts";

/** More than this pending, and `write` asks to wait for `drain`. */
const HIGH_WATER = 64 * 1024;
/** What QUIC may hold that the peer has not acknowledged. */
export const SEND_BUFFER = 1024 * 1024;
const PIECE = 64 * 1024;
/** Octets that may be on their way or held for a receiver that has not taken them. Part of the protocol. */
const WINDOW = 8 * 1024 * 1024;

/** The runtime ends a session on whose streams nothing has moved for 60 s, whatever PINGs and datagrams go to and fro. */
const SIGN_EVERY_MS = 25_000;

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
  readonly first: Uint8Array;
  /** Of a listener that had to challenge the caller. */
  readonly control?: BegunControl | undefined;
  /** Of a caller: its proof over the listener's challenge. */
  readonly answer?: (challenge: Uint8Array) => Uint8Array;
}

/** Makes a path of a session that stands. Nothing is delivered before `attach`. */
export function createQuicPath(parts: PathParts): QuicPath {
  const { session, stream, reader, datagrams, local, remote, peerKey, cipher } = parts;
  const what = `QUIC ${formatEndpoint(local)} -> ${formatEndpoint(remote)}`;
  const writer = writerOf(stream);
  let handlers: StreamHandlers | undefined;

  let queue: Uint8Array[] = [];
  let pendingBytes = 0;
  let drainOwed = false;
  let awaitingRoom = false;
  let ending = false;
  let finSent = false;
  /** Octets given to QUIC, and how many of them the peer's receiver has taken. */
  let sent = 0;
  let takenByPeer = 0;

  let paused = false;
  let held: Uint8Array[] = [];
  /** Octets that came, that the receiver has taken, and that the peer knows to be taken. */
  let received = 0;
  let taken = 0;
  let told = 0;
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
      const room = takenByPeer + WINDOW - sent;
      if (room === 0) return;
      const head = queue[0] as Uint8Array;
      const piece = head.subarray(0, Math.min(PIECE, room));
      if (!writer.writeSync(piece)) return awaitRoom();
      sent += piece.length;
      pendingBytes -= piece.length;
      if (piece.length < head.length) queue[0] = head.subarray(piece.length);
      else queue.shift();
    }
    if (ending && !finSent) {
      finSent = true;
      writer.endSync();
    }
  };

  const flushAndTell = (): void => {
    if (over || awaitingRoom) return;
    flush();
    if (pendingBytes > 0 || !drainOwed) return;
    drainOwed = false;
    if (!ending) handlers?.drain();
  };

  const awaitRoom = (): void => {
    const room = writer.drained();
    // Null: the peer wants no more, or the session is going, which its reader or its close tells.
    if (room === null) return;
    awaitingRoom = true;
    room.then(
      () => {
        awaitingRoom = false;
        guarded(flushAndTell);
      },
      () => undefined,
    );
  };

  const mayDeliver = (): boolean => handlers !== undefined && !paused && failure === undefined;

  const deliver = (): void => {
    while (mayDeliver() && held.length > 0) {
      const bytes = held.shift() as Uint8Array;
      taken += bytes.length;
      handlers?.data(bytes);
    }
    if (!over && taken - told >= WINDOW / 4) control.tellTaken((told = taken));
    if (!mayDeliver() || held.length > 0) return;
    if (peerEnded && !endReported) {
      endReported = true;
      handlers?.end();
    }
    if (over) reportClose();
  };

  const receive = (batch: readonly Uint8Array[]): void => {
    for (const bytes of batch) received += bytes.length;
    if (received - taken > WINDOW) throw new P2pdError("protocol", `${what}: the peer sent more than it may`);
    held.push(...batch);
    guarded(deliver);
  };

  const read = async (): Promise<void> => {
    try {
      for (;;) {
        const { done, value } = await reader.next();
        if (over) return;
        if (done !== true) receive(value);
        else if (session.destroyed)
          return; // ends as if the peer had finished
        else break;
      }
      peerEnded = true;
      control.tellAll();
      closeIfDone();
      guarded(deliver);
    } catch (thrown) {
      // If the session is going, its close comes in this turn of the event loop and knows more.
      setImmediate(() => lose(thrown));
    }
  };

  /** A receiver that throws cannot be trusted to know where it stands: the connection ends. */
  const guarded = (call: () => void): void => {
    try {
      call();
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

  const finish = (): void => {
    over = true;
    clearInterval(signs);
  };

  const lose = (thrown: unknown): void => {
    if (over) return;
    finish();
    failure = sessionError(thrown, what);
    held = [];
    queue = [];
    pendingBytes = 0;
    closeWhenOpened(session, failure.code === "protocol" ? "protocol" : "aborted");
    reportClose();
  };

  const closeIfDone = (): void => {
    if (over || !peerEnded || !allReceived) return;
    finish();
    closeWhenOpened(session, "done");
    guarded(deliver);
  };

  const { answer } = parts;
  const controlHandlers: ControlHandlers = {
    challenge: answer && ((challenge) => control.answer(answer(challenge))),
    taken(count) {
      if (count < takenByPeer || count > sent) return lose(brokenControl());
      takenByPeer = count;
      guarded(flushAndTell);
    },
    all() {
      if (!finSent) return lose(brokenControl());
      allReceived = true;
      closeIfDone();
    },
    broken: () => lose(brokenControl()),
  };
  const control = createQuicControl(session, controlHandlers, parts.control);
  /** Octets both ways when the last sign was due. */
  let movedBefore = 0;
  const signs = setInterval(() => {
    const moved = sent + received;
    if (moved === movedBefore && !peerEnded) control.tellTaken(told);
    movedBefore = moved;
  }, SIGN_EVERY_MS);
  signs.unref();
  const brokenControl = (): P2pdError =>
    new P2pdError("protocol", `${what}: the peer's control stream makes no sense`);

  session.closed.then(
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
        if (closeReported) return;
        failure ??= reason;
        held = [];
        endReported = true;
        return reportClose();
      }
      lose(reason ?? new P2pdError("aborted", "the connection was aborted by this side"));
    },
    get maxDatagramBytes() {
      return over ? 0 : datagrams.maxBytes();
    },
    sendDatagram: (bytes) => !over && datagrams.send(bytes),
    attachDatagrams: (message) => datagrams.attach(message),
    rttMs: () => Number(session.stats.smoothedRtt) / 1e6,
  };
  if (parts.first.length > 0) receive([parts.first]);
  void read();
  return path;
}
