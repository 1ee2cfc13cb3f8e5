/**
 * The client's side of a WebSocket (RFC 6455) on a stream that stands, for MQTT (section 6 of MQTT 5): the handshake,
 * and a ByteStream of what the binary messages carry. Frames are read and written in `core/wire/websocket.ts`.
 */
import { createHash } from "node:crypto";
import { P2pdError } from "../errors.ts";
import type { ByteStream, StreamHandlers, World } from "../net/world.ts";
import { createWebSocketReader, encodeWebSocketFrame, WEBSOCKET_OPCODES } from "../wire/websocket.ts";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const HEAD_MAX_LENGTH = 16_384;

export interface WebSocketOptions {
  /** Value of the `Host` header. */
  readonly host: string;
  /** Without its first slash. */
  readonly path: string;
  readonly signal: AbortSignal;
}

/** Rejects with `protocol` (refused), `closed` or `aborted`; the stream is then closed. */
export function openWebSocket(
  world: Pick<World, "randomBytes">,
  stream: ByteStream,
  options: WebSocketOptions,
): Promise<ByteStream> {
  const { promise, resolve, reject } = Promise.withResolvers<ByteStream>();
  const nonce = world.randomBytes(16).toBase64();
  let head = Buffer.alloc(0);

  const fail = (error: P2pdError): void => {
    options.signal.removeEventListener("abort", onAbort);
    stream.abort(error);
    reject(error);
  };
  const onAbort = (): void => fail(new P2pdError("aborted", "the WebSocket handshake was aborted"));
  options.signal.addEventListener("abort", onAbort, { once: true });

  stream.attach({
    data(bytes) {
      head = Buffer.concat([head, bytes]);
      const end = head.indexOf("\r\n\r\n");
      if (end < 0) {
        if (head.length > HEAD_MAX_LENGTH) fail(new P2pdError("protocol", "the answer's head never ends"));
        return;
      }
      const wrong = refusalOf(head.toString("latin1", 0, end), nonce);
      if (wrong !== undefined) return fail(new P2pdError("protocol", `no WebSocket: ${wrong}`));
      options.signal.removeEventListener("abort", onAbort);
      resolve(framed(world, stream, new Uint8Array(head.subarray(end + 4))));
    },
    drain() {},
    end: () => fail(new P2pdError("closed", "the server closed during the WebSocket handshake")),
    close: (error) =>
      fail(error ?? new P2pdError("closed", "the server closed during the WebSocket handshake")),
  });
  stream.write(
    new TextEncoder().encode(
      `GET /${options.path} HTTP/1.1\r\nHost: ${options.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
        `Sec-WebSocket-Key: ${nonce}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n`,
    ),
  );
  return promise;
}

/** Why the answer is no agreement (section 4.1); undefined if it is one. */
function refusalOf(head: string, nonce: string): string | undefined {
  const [status = "", ...lines] = head.split("\r\n");
  if (!/^HTTP\/1\.1 101( |$)/.test(status)) return `the server said "${status.slice(0, 100)}"`;
  const fields = new Map(
    lines.map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  const accept = createHash("sha1")
    .update(nonce + GUID)
    .digest("base64");
  if (fields.get("sec-websocket-accept") !== accept) return "the server did not answer our key";
  if (fields.get("sec-websocket-protocol") !== "mqtt")
    return "the server does not speak MQTT on this WebSocket";
  return undefined;
}

function framed(world: Pick<World, "randomBytes">, under: ByteStream, early: Uint8Array): ByteStream {
  let handlers: StreamHandlers | undefined;
  const send = (opcode: number, payload: Uint8Array): boolean =>
    under.write(
      encodeWebSocketFrame(opcode as (typeof WEBSOCKET_OPCODES)["binary"], payload, world.randomBytes(4)),
    );
  const read = createWebSocketReader({
    data: (bytes) => handlers?.data(bytes),
    ping: (payload) => void send(WEBSOCKET_OPCODES.pong, payload),
    close() {
      send(WEBSOCKET_OPCODES.close, new Uint8Array(0));
      under.end();
    },
  });
  const take = (bytes: Uint8Array): void => {
    try {
      read(bytes);
    } catch (thrown) {
      under.abort(thrown instanceof P2pdError ? thrown : new P2pdError("protocol", String(thrown)));
    }
  };
  // Until somebody listens to the messages, nothing more is read.
  under.pause();
  return {
    local: under.local,
    remote: under.remote,
    fd: under.fd,
    attach(next) {
      const isFirst = handlers === undefined;
      handlers = next;
      under.attach({
        data: take,
        drain: () => handlers?.drain(),
        end: () => handlers?.end(),
        close: (error) => handlers?.close(error),
      });
      if (!isFirst) return;
      if (early.length > 0) take(early);
      under.resume();
    },
    write: (bytes) => send(WEBSOCKET_OPCODES.binary, bytes),
    get pendingBytes() {
      return under.pendingBytes;
    },
    pause: () => under.pause(),
    resume: () => under.resume(),
    end() {
      send(WEBSOCKET_OPCODES.close, new Uint8Array(0));
      under.end();
    },
    abort: (reason) => under.abort(reason),
  };
}
