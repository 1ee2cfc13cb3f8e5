/**
 * What two nodes say to each other through brokers: JSON in UTF-8, padded with spaces so that its length tells little,
 * checked against a schema on both sides. A new kind of message is one entry of `BODIES` and one of `SignalBody`.
 * What the messages lead to is decided above. See docs/signaling.md.
 */
import type * as Schema from "typebox/schema";
import { P2pdError } from "../errors.ts";
import { ADDRESS_MAX_LENGTH } from "./address.ts";
import { ENVELOPE_MAX_TEXT } from "./signal-envelope.ts";
import { PUNCH, type SignalPunch } from "./signal-punch.ts";
import { RELAY, RELAY_IPS, type SignalRelay } from "./signal-relay.ts";

export const SIGNAL_VERSION = 1;
/** Plaintexts are padded to a multiple of this many octets. */
export const SIGNAL_PADDING = 256;

const ID = { type: "string", pattern: "^[A-Za-z0-9_-]{22}$" } as const;
const WALL_MS = { type: "integer", minimum: 0, maximum: 8_640_000_000_000_000 } as const;
const WORD = { type: "string", minLength: 1, maxLength: 32 } as const;
const TEXT = { type: "string", maxLength: 512 } as const;
const ADDRESS = { type: "string", minLength: 1, maxLength: ADDRESS_MAX_LENGTH } as const;
const TRANSPORT = { enum: ["tcp", "udp"] } as const;
const TOKEN = { type: "string", pattern: "^[A-Za-z0-9_-]{1,64}$" } as const;

const BODIES = {
  offer: {
    required: ["request", "address", "strategies"],
    properties: {
      request: ID,
      address: ADDRESS,
      strategies: { type: "array", minItems: 1, maxItems: 8, items: WORD },
      transport: TRANSPORT,
      punch: PUNCH,
      relay: RELAY,
    },
  },
  answer: {
    required: ["request", "accepted"],
    properties: {
      request: ID,
      accepted: { type: "boolean" },
      address: ADDRESS,
      punch: PUNCH,
      relay: RELAY,
      code: WORD,
      text: TEXT,
    },
  },
  reverse: {
    required: ["request", "address", "token"],
    properties: {
      request: ID,
      address: ADDRESS,
      token: TOKEN,
      transport: TRANSPORT,
    },
  },
  permit: { required: ["request", "ips"], properties: { request: ID, ips: RELAY_IPS } },
  cancel: { required: ["request", "code"], properties: { request: ID, code: WORD, text: TEXT } },
  ping: { required: [], properties: {} },
  pong: { required: [], properties: {} },
  stale: { required: [], properties: {} },
} as const;

export type SignalType = keyof typeof BODIES;
export const SIGNAL_TYPES = Object.keys(BODIES) as readonly SignalType[];

/** "I want a connection; this is where I am and what I try." */
export interface OfferBody {
  readonly type: "offer";
  /** Identifies the open that all its messages belong to: 16 octets in base64url. */
  readonly request: string;
  /** Address line of the sender, as it is now. */
  readonly address: string;
  readonly strategies: readonly string[];
  readonly transport?: "tcp" | "udp";
  readonly punch?: SignalPunch;
  readonly relay?: SignalRelay;
}

/** The reply to an offer or a reverse. `code` and `text` say why it was not accepted. */
export interface AnswerBody {
  readonly type: "answer";
  readonly request: string;
  readonly accepted: boolean;
  readonly address?: string;
  readonly punch?: SignalPunch;
  readonly relay?: SignalRelay;
  readonly code?: string;
  readonly text?: string;
}

/** "Connect to me": only the sender's side can be reached. */
export interface ReverseBody {
  readonly type: "reverse";
  readonly request: string;
  readonly address: string;
  /** Proves to the sender that an incoming path belongs to this request. */
  readonly token: string;
  readonly transport?: "tcp" | "udp";
}

/** "I come to your relay from these addresses: let them in." */
export interface PermitBody {
  readonly type: "permit";
  readonly request: string;
  readonly ips: readonly string[];
}

/** "I gave up." */
export interface CancelBody {
  readonly type: "cancel";
  readonly request: string;
  readonly code: string;
  readonly text?: string;
}

export type SignalBody =
  | OfferBody
  | AnswerBody
  | ReverseBody
  | PermitBody
  | CancelBody
  | { readonly type: "ping" }
  | { readonly type: "pong" }
  /** "Your message's time is not mine; here is mine." */
  | { readonly type: "stale" };

/** Times, in wall-clock milliseconds, that make of a message and its reply a measurement of the clocks. */
export interface SignalReply {
  /** Id of the message that this one answers. */
  readonly id: string;
  /** Its `at`. */
  readonly at: number;
  /** When it arrived, by the clock of who answers. */
  readonly got: number;
  /** How long the answer took to make, in milliseconds. */
  readonly held: number;
}

export interface SignalHead {
  readonly v: 1;
  /** Of this message, kept when it is sent again: 16 octets in base64url. */
  readonly id: string;
  /** When it was sent, by the receiver's clock as far as the sender knows it. */
  readonly at: number;
  readonly re?: SignalReply;
}

export type SignalMessage = SignalHead & SignalBody;

export type SignalFault = "malformed" | "unknown-version" | "unknown-type";

/** The padded text. Throws `bad-argument` for what the schema refuses, `too-large`. */
export function encodeSignal(message: SignalMessage): Uint8Array {
  if (!checkerOf(message.type)(message)) {
    throw new P2pdError(
      "bad-argument",
      `a signal of type "${message.type}" lacks a field, or one is of the wrong kind`,
    );
  }
  const text = new TextEncoder().encode(JSON.stringify(message));
  const padded = Math.ceil(text.length / SIGNAL_PADDING) * SIGNAL_PADDING;
  if (text.length > ENVELOPE_MAX_TEXT) {
    throw new P2pdError("too-large", `a signal of ${text.length} octets; at most ${ENVELOPE_MAX_TEXT} fit`);
  }
  const bytes = new Uint8Array(Math.min(padded, ENVELOPE_MAX_TEXT)).fill(0x20);
  bytes.set(text);
  return bytes;
}

/** Reads the text; or says what is wrong with it. Never throws. */
export function decodeSignal(bytes: Uint8Array): SignalMessage | SignalFault {
  if (bytes.length > ENVELOPE_MAX_TEXT) return "malformed";
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return "malformed";
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return "malformed";
  const { v, type } = value as { v?: unknown; type?: unknown };
  if (v !== SIGNAL_VERSION) return typeof v === "number" ? "unknown-version" : "malformed";
  if (typeof type !== "string") return "malformed";
  if (!Object.hasOwn(BODIES, type)) return "unknown-type";
  return checkerOf(type as SignalType)(value) ? (value as SignalMessage) : "malformed";
}

/** Compiles what checks the messages of an open, ahead of the first: some ten milliseconds. */
export function prepareSignals(): void {
  for (const type of ["offer", "answer", "reverse", "cancel"] as const) checkerOf(type);
}

type Checker = (value: unknown) => boolean;
const checkers = new Map<SignalType, Checker>();

/** Loads and compiles at the first use: a start does not pay for it. */
function checkerOf(type: SignalType): Checker {
  const known = checkers.get(type);
  if (known !== undefined) return known;
  const { required, properties } = BODIES[type];
  const { Compile } = require("typebox/schema") as typeof Schema;
  const schema = {
    type: "object",
    required: ["v", "id", "at", "type", ...required],
    properties: {
      v: { const: SIGNAL_VERSION },
      id: ID,
      at: WALL_MS,
      re: {
        type: "object",
        required: ["id", "at", "got", "held"],
        properties: { id: ID, at: WALL_MS, got: WALL_MS, held: { type: "number", minimum: 0 } },
      },
      type: { const: type },
      ...properties,
    },
  };
  const compiled = Compile(schema as unknown as Schema.XSchema);
  const checker: Checker = (value) => compiled.Check(value);
  checkers.set(type, checker);
  return checker;
}
