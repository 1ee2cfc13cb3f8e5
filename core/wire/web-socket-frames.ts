/**
 * WebSocket frames of a server (RFC 6455, section 5): reads what a client sends piece by piece, and writes ours.
 * Payload of messages is handed on as it comes, so that a frame of any size costs no memory. Pure; the stream
 * that uses it is in `core/net/web-socket-stream.ts`.
 *
 *     0                   1                   2                   3
 *     |F|R|R|R| opcode|M| Payload len |    Extended payload length    |
 *     |I|S|S|S|  (4)  |A|     (7)     |   (16 or 64 bits, if 126/127) |
 *     |N|V|V|V|       |S|             |                               |
 *     |     Masking-key (32 bits, always from a client)               |
 */
import { P2pdError } from "../errors.ts";

const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** Close codes of RFC 6455, section 7.4.1. */
export const CLOSE = { normal: 1000, protocolError: 1002, invalidText: 1007, internalError: 1011 } as const;

export interface FrameHandlers {
  /** Payload of a message; of text, its UTF-8. */
  data(bytes: Uint8Array): void;
  ping(payload: Uint8Array): void;
  /** `code` is undefined where the client gave none. */
  close(code: number | undefined): void;
}

/** A violation by the client; `detail.closeCode` is what to close with. */
function violation(message: string, closeCode: number = CLOSE.protocolError): P2pdError {
  return new P2pdError("protocol", message, { closeCode });
}

/** Reads frames; throws `protocol` at the first violation, after which it must not be called again. */
export function createFrameReader(handlers: FrameHandlers): (bytes: Uint8Array) => void {
  const header = new Uint8Array(14);
  let headerFilled = 0;
  let headerNeeded = 2;
  const mask = new Uint8Array(4);
  let maskAt = 0;
  let opcode = 0;
  let final = true;
  let left = -1; // of the payload; -1 while reading a header
  let control: Uint8Array | undefined;
  let controlFilled = 0;
  let message: "none" | "text" | "binary" = "none";
  let utf8: TextDecoder | undefined;

  const beginFrame = (): void => {
    const first = header[0] as number;
    opcode = first & 15;
    final = (first & 0x80) !== 0;
    const length = (header[1] as number) & 127;
    const view = new DataView(header.buffer);
    left = length < 126 ? length : length === 126 ? view.getUint16(2) : Number(view.getBigUint64(2));
    mask.set(header.subarray(headerNeeded - 4, headerNeeded));
    maskAt = 0;
    if (left > Number.MAX_SAFE_INTEGER) throw violation("a frame is longer than 2^53 octets");
    if (opcode >= 8) {
      control = new Uint8Array(left);
      controlFilled = 0;
    } else if (opcode !== OPCODE.continuation) {
      message = opcode === OPCODE.text ? "text" : "binary";
      utf8 = opcode === OPCODE.text ? new TextDecoder("utf-8", { fatal: true }) : undefined;
    }
    if (left === 0) endFrame();
  };

  const endFrame = (): void => {
    left = -1;
    headerFilled = 0;
    headerNeeded = 2;
    if (control === undefined) {
      if (!final) return;
      checkText(new Uint8Array(0), false);
      message = "none";
      return;
    }
    const payload = control;
    control = undefined;
    if (opcode === OPCODE.ping) handlers.ping(payload);
    else if (opcode === OPCODE.close) handlers.close(closeCodeOf(payload));
  };

  const checkText = (bytes: Uint8Array, stream: boolean): void => {
    if (utf8 === undefined) return;
    try {
      utf8.decode(bytes, { stream });
    } catch {
      throw violation("a text message is no UTF-8", CLOSE.invalidText);
    }
  };

  /** What the first two octets tell, before the rest of the header is awaited. */
  const checkStart = (): void => {
    const [first, second] = [header[0] as number, header[1] as number];
    const code = first & 15;
    if ((first & 0x70) !== 0) throw violation("a frame uses an extension that was not agreed on");
    if ((second & 0x80) === 0) throw violation("a frame is not masked; every client must mask");
    if (code > OPCODE.pong || (code > OPCODE.binary && code < OPCODE.close))
      throw violation(`opcode ${code} is unknown`);
    if (code >= 8 && ((first & 0x80) === 0 || (second & 127) > 125)) {
      throw violation("a control frame is fragmented or longer than 125 octets");
    }
    if (code === OPCODE.continuation && message === "none")
      throw violation("a continuation continues nothing");
    if ((code === OPCODE.text || code === OPCODE.binary) && message !== "none") {
      throw violation("a message begins before the last one has ended");
    }
    const length = second & 127;
    headerNeeded = 6 + (length === 126 ? 2 : length === 127 ? 8 : 0);
  };

  return (bytes) => {
    let at = 0;
    while (at < bytes.length) {
      if (left < 0) {
        header[headerFilled++] = bytes[at++] as number;
        if (headerFilled === 2) checkStart();
        if (headerFilled >= 2 && headerFilled === headerNeeded) beginFrame();
        continue;
      }
      const piece = bytes.subarray(at, at + Math.min(left, bytes.length - at));
      unmask(piece, mask, maskAt);
      maskAt = (maskAt + piece.length) & 3;
      at += piece.length;
      left -= piece.length;
      if (control !== undefined) {
        control.set(piece, controlFilled);
        controlFilled += piece.length;
      } else {
        checkText(piece, true);
        handlers.data(piece);
      }
      if (left === 0) endFrame();
    }
  };
}

/** In place; a word at a time where it is long. */
function unmask(bytes: Uint8Array, mask: Uint8Array, maskAt: number): void {
  let i = 0;
  const head = Math.min(bytes.length, (4 - (bytes.byteOffset & 3)) & 3);
  for (; i < head; i++) bytes[i] = (bytes[i] as number) ^ (mask[(maskAt + i) & 3] as number);
  if (i === bytes.length) return;
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset + i, (bytes.length - i) >> 2);
  const turned = Uint8Array.from({ length: 4 }, (_, k) => mask[(maskAt + i + k) & 3] as number);
  const key = new Uint32Array(turned.buffer)[0] as number;
  for (let w = 0; w < words.length; w++) words[w] = (words[w] as number) ^ key;
  for (i += words.length * 4; i < bytes.length; i++)
    bytes[i] = (bytes[i] as number) ^ (mask[(maskAt + i) & 3] as number);
}

function closeCodeOf(payload: Uint8Array): number | undefined {
  if (payload.length === 0) return undefined;
  if (payload.length === 1) throw violation("a close frame has half a code");
  const code = ((payload[0] as number) << 8) | (payload[1] as number);
  const known =
    (code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code)) || (code >= 3000 && code <= 4999);
  if (!known) throw violation(`close code ${code} is not for use on the wire`);
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(payload.subarray(2));
  } catch {
    throw violation("the reason of a close frame is no UTF-8", CLOSE.invalidText);
  }
  return code;
}

/** Header of a binary message of `length` octets that is one frame. */
export function encodeDataHeader(length: number): Uint8Array {
  return encodeHeader(OPCODE.binary, length);
}

/** The answer to a ping. */
export function encodePong(payload: Uint8Array): Uint8Array {
  return Buffer.concat([encodeHeader(OPCODE.pong, payload.length), payload]);
}

/** `reason` is cut to what a control frame holds. */
export function encodeClose(code: number, reason = ""): Uint8Array {
  const text = Buffer.from(reason);
  let length = Math.min(text.length, 123);
  while (length < text.length && length > 0 && ((text[length] as number) & 0xc0) === 0x80) length--;
  const payload = Buffer.concat([new Uint8Array([code >> 8, code & 255]), text.subarray(0, length)]);
  return Buffer.concat([encodeHeader(OPCODE.close, payload.length), payload]);
}

function encodeHeader(opcode: number, length: number): Uint8Array {
  const first = 0x80 | opcode;
  if (length < 126) return new Uint8Array([first, length]);
  if (length < 65_536) return new Uint8Array([first, 126, length >> 8, length & 255]);
  const header = new Uint8Array(10);
  header.set([first, 127]);
  new DataView(header.buffer).setBigUint64(2, BigInt(length));
  return header;
}
