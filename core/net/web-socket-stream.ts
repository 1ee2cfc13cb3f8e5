/**
 * A WebSocket as a stream of octets, for a connection whose handshake is over. Text and binary messages are
 * octets alike; what we send is binary. Since it stands on the connection itself, a reader that pauses is felt
 * by the client as TCP's own backpressure, and nothing is gathered here.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import type { ByteStream, StreamHandlers, World } from "./world.ts";
import {
  CLOSE,
  createFrameReader,
  encodeClose,
  encodeDataHeader,
  encodePong,
} from "../wire/web-socket-frames.ts";

/** How long a client has for its half of the closing handshake. */
const CLOSING_MS = 5000;
/** Up to here header and payload are sent in one piece. */
const SMALL = 16_384;

/**
 * `end` sends a close frame with 1000, `abort` one with 1011 and the reason. A close frame of the client is the
 * end of what it sends; a connection that ends without one is an error.
 */
export function createWebSocketStream(time: World["time"], stream: ByteStream): ByteStream {
  let handlers: StreamHandlers | undefined;
  let clientClosed = false;
  let weClosed = false;
  let isClosed = false;
  let isFull = false;

  const sendClose = (code: number, reason?: string): void => {
    if (weClosed) return;
    weClosed = true;
    stream.write(encodeClose(code, reason));
    stream.end();
    const timer = time.after(CLOSING_MS, () => stream.abort(), { background: true });
    stopTimer = () => timer.cancel();
  };
  let stopTimer = (): void => {};

  const close = (error?: P2pdError): void => {
    if (isClosed) return;
    isClosed = true;
    handlers?.close(error);
  };
  /** Ends both directions; the client is told before the connection goes. */
  const fail = (error: P2pdError, code: number): void => {
    sendClose(code, error.message);
    stream.resume();
    close(error);
  };

  const read = createFrameReader({
    data(bytes) {
      if (!clientClosed && !isClosed) handlers?.data(bytes);
    },
    ping(payload) {
      // Only the last of several pings needs an answer (RFC 6455, section 5.5.3): while the client reads nothing, none.
      if (!weClosed && !isFull && stream.pendingBytes === 0) stream.write(encodePong(payload));
    },
    close() {
      if (clientClosed) return;
      clientClosed = true;
      if (!isClosed) handlers?.end();
    },
  });

  const receive: StreamHandlers = {
    data(bytes) {
      if (isClosed || clientClosed) return;
      try {
        read(bytes);
      } catch (thrown) {
        const error = toP2pdError(thrown, "protocol");
        const code = error.detail["closeCode"];
        fail(error, typeof code === "number" ? code : CLOSE.internalError);
      }
    },
    drain() {
      isFull = false;
      if (!isClosed) handlers?.drain();
    },
    end() {
      if (clientClosed || isClosed) return;
      fail(
        new P2pdError("closed", "the WebSocket's connection ended without a close frame"),
        CLOSE.protocolError,
      );
    },
    close(error) {
      stopTimer();
      const lost =
        clientClosed && weClosed ? undefined : new P2pdError("closed", "the WebSocket's connection was lost");
      close(error ?? lost);
    },
  };

  return {
    local: stream.local,
    remote: stream.remote,
    fd: -1,
    get pendingBytes() {
      return stream.pendingBytes;
    },
    attach(next) {
      const isFirst = handlers === undefined;
      handlers = next;
      if (isFirst) stream.attach(receive);
    },
    write(bytes) {
      if (weClosed || isClosed) return true;
      if (bytes.length === 0) return true;
      const header = encodeDataHeader(bytes.length);
      let accepted: boolean;
      if (bytes.length <= SMALL) accepted = stream.write(Buffer.concat([header, bytes]));
      else {
        stream.write(header);
        accepted = stream.write(bytes);
      }
      isFull = !accepted;
      return accepted;
    },
    pause: () => stream.pause(),
    resume: () => stream.resume(),
    end: () => sendClose(CLOSE.normal),
    abort(reason) {
      const error = reason ?? new P2pdError("aborted", "the WebSocket was given up");
      fail(error, CLOSE.internalError);
    },
  };
}
