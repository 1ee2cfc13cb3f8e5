/**
 * WebSocket frames of a client (RFC 6455, section 5): reads what a server sends, piece by piece, and writes ours,
 * masked. Payload of data frames is handed on as it comes. Pure; the handshake and the stream are in
 * `core/signal/websocket-stream.ts`.
 *
 *     0                   1                   2                   3
 *     |F|R|R|R| opcode|M| Payload len |    Extended payload length    |
 *     |I|S|S|S|  (4)  |A|     (7)     |   (16 or 64 bits, if 126/127) |
 *     |N|V|V|V|       |S|             |                               |
 */
import { P2pdError } from "../errors.ts";

export const WEBSOCKET_OPCODES = {
  continuation: 0,
  text: 1,
  binary: 2,
  close: 8,
  ping: 9,
  pong: 10,
} as const;
const KNOWN: readonly number[] = Object.values(WEBSOCKET_OPCODES);

export interface WebSocketHandlers {
  /** Payload of a binary message, in parts of any size. */
  data(bytes: Uint8Array): void;
  ping(payload: Uint8Array): void;
  close(): void;
}

/** Takes a server's octets; throws `protocol` at the first violation and must not be called after that. */
export function createWebSocketReader(handlers: WebSocketHandlers): (bytes: Uint8Array) => void {
  const head = new Uint8Array(10);
  let filled = 0;
  let needed = 2;
  let opcode = 0;
  let left = -1;
  let control = new Uint8Array(0);
  let inMessage = false;

  function begin(): void {
    const first = head[0] as number;
    const second = head[1] as number;
    if ((first & 0x70) !== 0 || (second & 0x80) !== 0) {
      throw new P2pdError("protocol", "the server sent a masked frame or one of an unknown extension");
    }
    opcode = first & 15;
    const isControl = opcode >= 8;
    const isFinal = (first & 0x80) !== 0;
    if (!KNOWN.includes(opcode) || opcode === WEBSOCKET_OPCODES.text) {
      throw new P2pdError(
        "protocol",
        `the server sent a frame of opcode ${opcode}; MQTT uses binary messages`,
      );
    }
    if (isControl && (!isFinal || (second & 127) > 125)) {
      throw new P2pdError("protocol", "the server sent a control frame that is fragmented or too long");
    }
    if (!isControl) {
      if ((opcode === WEBSOCKET_OPCODES.continuation) !== inMessage) {
        throw new P2pdError("protocol", "the server mixed up the parts of a message");
      }
      inMessage = !isFinal;
    }
    const view = new DataView(head.buffer);
    left = needed === 2 ? second & 127 : needed === 4 ? view.getUint16(2) : Number(view.getBigUint64(2));
    if (left > Number.MAX_SAFE_INTEGER) throw new P2pdError("protocol", "the server sent an endless frame");
    control = new Uint8Array(0);
    if (left === 0) finish();
  }

  function finish(): void {
    left = -1;
    filled = 0;
    needed = 2;
    if (opcode === WEBSOCKET_OPCODES.ping) handlers.ping(control);
    else if (opcode === WEBSOCKET_OPCODES.close) handlers.close();
  }

  return (bytes) => {
    let at = 0;
    while (at < bytes.length) {
      if (left < 0) {
        head[filled++] = bytes[at++] as number;
        if (filled === 2) {
          const length = (head[1] as number) & 127;
          needed = length === 126 ? 4 : length === 127 ? 10 : 2;
        }
        if (filled >= 2 && filled === needed) begin();
        continue;
      }
      const part = bytes.subarray(at, at + left);
      at += part.length;
      left -= part.length;
      if (opcode >= 8) control = new Uint8Array(Buffer.concat([control, part]));
      else handlers.data(part);
      if (left === 0) finish();
    }
  };
}

/** One whole frame of a client; `mask` is four unpredictable octets. */
export function encodeWebSocketFrame(
  opcode: (typeof WEBSOCKET_OPCODES)[keyof typeof WEBSOCKET_OPCODES],
  payload: Uint8Array,
  mask: Uint8Array,
): Uint8Array {
  const extended = payload.length < 126 ? 0 : payload.length < 65_536 ? 2 : 8;
  const frame = new Uint8Array(2 + extended + 4 + payload.length);
  const view = new DataView(frame.buffer);
  frame[0] = 0x80 | opcode;
  frame[1] = 0x80 | (extended === 0 ? payload.length : extended === 2 ? 126 : 127);
  if (extended === 2) view.setUint16(2, payload.length);
  if (extended === 8) view.setBigUint64(2, BigInt(payload.length));
  frame.set(mask, 2 + extended);
  const start = 6 + extended;
  for (let i = 0; i < payload.length; i++) {
    frame[start + i] = (payload[i] as number) ^ (mask[i & 3] as number);
  }
  return frame;
}
