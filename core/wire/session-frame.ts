/**
 * The frames of a session between two nodes, on any ordered and authenticated stream of octets. A frame is its
 * type, the length of its payload and the payload:
 *
 *      0               1               2               3               4
 *     +---------------+---------------+---------------+---------------+----------
 *     | type          | length of the payload, big-endian             | payload…
 *     +---------------+---------------+---------------+---------------+----------
 *
 * What says who one is and why one ends is JSON; what is said often (ACK, PING, PONG) or on a new path (RESUME, RESUMED)
 * is binary, see `session-positions.ts`. Layout and limits only; which frame may come when is decided in
 * `core/node/session.ts`. See docs/session.md.
 */
import type * as Schema from "typebox/schema";
import { P2pdError } from "../errors.ts";

export const FRAME_HEADER_LENGTH = 4;
/** Longest payload of a DATA frame. */
export const MAX_DATA_LENGTH = 256 * 1024;
/** A DATA frame up to this length is delivered whole; a longer one in parts as they come. */
export const WHOLE_DATA_LENGTH = 16 * 1024;
/** Longest payload of every other frame. */
export const MAX_CONTROL_LENGTH = 4096;

export const FRAME_TYPES = {
  hello: 1,
  welcome: 2,
  data: 3,
  fin: 4,
  reset: 5,
  answer: 6,
  ack: 7,
  ping: 8,
  pong: 9,
  resume: 10,
  resumed: 11,
} as const;
export type FrameType = keyof typeof FRAME_TYPES;
export type ControlType = Exclude<FrameType, "data">;
const TYPES: readonly (FrameType | undefined)[] = [undefined, ...(Object.keys(FRAME_TYPES) as FrameType[])];

const CAPABILITIES = { type: "array", maxItems: 32, items: { type: "string", maxLength: 32 } } as const;
const REASON = {
  type: "object",
  required: ["code", "text"],
  properties: { code: { type: "string", maxLength: 32 }, text: { type: "string", maxLength: 512 } },
} as const;
const HELLO = {
  type: "object",
  required: ["version", "capabilities", "session"],
  properties: {
    version: { const: 1 },
    capabilities: CAPABILITIES,
    session: { type: "string", pattern: "^[A-Za-z0-9_-]{21}[AQgw]$" },
    service: { type: "string", minLength: 1, maxLength: 64 },
    mode: { enum: ["stream", "datagrams"] },
  },
} as const;
const ANSWER = {
  type: "object",
  required: ["version", "token"],
  properties: { version: { const: 1 }, token: { type: "string", minLength: 16, maxLength: 64 } },
} as const;
const WELCOME = {
  type: "object",
  required: ["version", "capabilities"],
  properties: { version: { const: 1 }, capabilities: CAPABILITIES, refusal: REASON },
} as const;

/** The dialer's first frame: what it speaks and which service it wants; none: the accept queue. */
export interface Hello {
  readonly version: 1;
  readonly capabilities: readonly string[];
  /** Names the session when it goes on over another path: 16 random octets in base64url. */
  readonly session: string;
  readonly service?: string;
  /** `datagrams`: messages go as datagrams of the path, not as DATA; absent: a stream. */
  readonly mode?: "stream" | "datagrams";
}

/** The first frame of a node that was asked by signal to connect: it answers that request, and waits for HELLO. */
export interface Answer {
  readonly version: 1;
  /** From the request. */
  readonly token: string;
}

/** The answer to HELLO. With a refusal nothing follows it. */
export interface Welcome {
  readonly version: 1;
  readonly capabilities: readonly string[];
  readonly refusal?: Reason;
}

/** Why something ended: an error code and words. */
export interface Reason {
  readonly code: string;
  readonly text: string;
}

const isHello = checker(HELLO);
const isWelcome = checker(WELCOME);
const isReason = checker(REASON);
const isAnswer = checker(ANSWER);

export function encodeHello(hello: Hello): Uint8Array {
  return encodeControl("hello", hello);
}

export function encodeWelcome(welcome: Welcome): Uint8Array {
  return encodeControl("welcome", welcome);
}

export function encodeAnswer(answer: Answer): Uint8Array {
  return encodeControl("answer", answer);
}

export function encodeReset(reason: Reason): Uint8Array {
  return encodeControl("reset", { code: reason.code.slice(0, 32), text: reason.text.slice(0, 512) });
}

export function encodeFin(): Uint8Array {
  return encodeFrame("fin");
}

/** Reads the payload of a HELLO. Throws `protocol`. */
export function decodeHello(payload: Uint8Array): Hello {
  return decodeJson("HELLO", payload, isHello) as Hello;
}

/** Reads the payload of a WELCOME. Throws `protocol`. */
export function decodeWelcome(payload: Uint8Array): Welcome {
  return decodeJson("WELCOME", payload, isWelcome) as Welcome;
}

/** Reads the payload of an ANSWER. Throws `protocol`. */
export function decodeAnswer(payload: Uint8Array): Answer {
  return decodeJson("ANSWER", payload, isAnswer) as Answer;
}

/** Reads the payload of a RESET. Throws `protocol`. */
export function decodeReset(payload: Uint8Array): Reason {
  return decodeJson("RESET", payload, isReason) as Reason;
}

/** Writes the header of a frame with `length` octets of payload at the start of `target`. */
export function writeFrameHeader(target: Uint8Array, type: FrameType, length: number): void {
  target[0] = FRAME_TYPES[type];
  target[1] = length >>> 16;
  target[2] = length >>> 8;
  target[3] = length;
}

/** A whole frame. Throws `too-large`. */
export function encodeFrame(type: ControlType, payload: Uint8Array = new Uint8Array()): Uint8Array {
  if (payload.length > MAX_CONTROL_LENGTH) {
    throw new P2pdError(
      "too-large",
      `a ${type} frame of ${payload.length} octets; at most ${MAX_CONTROL_LENGTH} fit`,
    );
  }
  const frame = new Uint8Array(FRAME_HEADER_LENGTH + payload.length);
  writeFrameHeader(frame, type, payload.length);
  frame.set(payload, FRAME_HEADER_LENGTH);
  return frame;
}

function encodeControl(type: ControlType, value: object): Uint8Array {
  return encodeFrame(type, new TextEncoder().encode(JSON.stringify(value)));
}

function decodeJson(name: string, payload: Uint8Array, check: (value: unknown) => boolean): unknown {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));
  } catch (error) {
    throw new P2pdError("protocol", `${name} is not JSON in UTF-8`, {}, { cause: error });
  }
  if (!check(value)) throw new P2pdError("protocol", `${name} lacks a field or has one of the wrong kind`);
  return value;
}

/** Loads and compiles at the first use: a start does not pay for it. */
function checker(schema: Schema.XSchema): (value: unknown) => boolean {
  let compiled: { Check(value: unknown): boolean } | undefined;
  return (value) => {
    compiled ??= (require("typebox/schema") as typeof Schema).Compile(schema);
    return compiled.Check(value);
  };
}

export interface FrameHandlers {
  /** A whole control frame. */
  control(type: ControlType, payload: Uint8Array): void;
  /** A whole DATA frame, or a part of one longer than `WHOLE_DATA_LENGTH`. A view wherever that is possible. */
  data(bytes: Uint8Array): void;
}

/**
 * Cuts a stream into frames. Holds no more than the largest frame that must be whole. `push` throws `protocol`
 * for what is no frame; the decoder is of no use after that.
 */
export class FrameDecoder {
  #stopped = false;
  readonly #header = new Uint8Array(FRAME_HEADER_LENGTH);
  #headerLength = 0;
  #type: FrameType = "fin";
  /** Octets of the current payload that are still to come. */
  #missing = 0;
  /** The part that has come of a payload that must be whole. */
  #partial: Uint8Array | undefined;
  #partialLength = 0;

  constructor(readonly handlers: FrameHandlers) {}

  /** Whether the stream stands between two frames. */
  get atBoundary(): boolean {
    return this.#headerLength === 0;
  }

  /** May be called by a handler: `push` then returns after the current frame with what it left unread. */
  stop(): void {
    this.#stopped = true;
  }

  /** Takes the next octets and returns those that a `stop` left unread. */
  push(chunk: Uint8Array): Uint8Array {
    this.#stopped = false;
    let at = 0;
    while (at < chunk.length && !this.#stopped) {
      at =
        this.#headerLength < FRAME_HEADER_LENGTH ? this.#readHeader(chunk, at) : this.#readPayload(chunk, at);
    }
    return chunk.subarray(at);
  }

  #readHeader(chunk: Uint8Array, start: number): number {
    let at = start;
    while (this.#headerLength < FRAME_HEADER_LENGTH && at < chunk.length) {
      this.#header[this.#headerLength++] = chunk[at++] as number;
    }
    if (this.#headerLength < FRAME_HEADER_LENGTH) return at;
    const [type, high, middle, low] = this.#header as unknown as [number, number, number, number];
    const length = (high << 16) | (middle << 8) | low;
    const known = TYPES[type];
    if (known === undefined) {
      throw new P2pdError("protocol", `a frame of type ${type}; known are 1 to ${TYPES.length - 1}`);
    }
    const limit = known === "data" ? MAX_DATA_LENGTH : MAX_CONTROL_LENGTH;
    if (length > limit)
      throw new P2pdError("protocol", `a frame of ${length} octets; at most ${limit} are allowed`);
    this.#type = known;
    this.#missing = length;
    this.#partial = undefined;
    this.#partialLength = 0;
    if (length === 0) this.#finish(new Uint8Array());
    return at;
  }

  #readPayload(chunk: Uint8Array, start: number): number {
    const part = chunk.subarray(start, start + this.#missing);
    this.#missing -= part.length;
    const inOnePiece = this.#partial === undefined && this.#missing === 0;
    const mayBeCut = this.#type === "data" && this.#length() > WHOLE_DATA_LENGTH;
    if (inOnePiece || mayBeCut) {
      if (this.#missing === 0) this.#finish(part);
      else this.handlers.data(part);
      return start + part.length;
    }
    this.#partial ??= new Uint8Array(this.#length());
    this.#partial.set(part, this.#partialLength);
    this.#partialLength += part.length;
    if (this.#missing === 0) this.#finish(this.#partial);
    return start + part.length;
  }

  #length(): number {
    const [, high, middle, low] = this.#header as unknown as [number, number, number, number];
    return (high << 16) | (middle << 8) | low;
  }

  #finish(payload: Uint8Array): void {
    this.#headerLength = 0;
    this.#partial = undefined;
    if (this.#type !== "data") this.handlers.control(this.#type, payload);
    else if (payload.length > 0) this.handlers.data(payload);
  }
}
