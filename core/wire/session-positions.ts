/**
 * The binary frames of a session: what was received, how much more may be sent, and how a session goes on over another
 * path. A position counts the octets of DATA of one direction from 0, with FIN as one more; it is eight octets,
 * big-endian, as is a limit. See docs/session.md.
 *
 *     ACK      received (8), limit (8)
 *     RESUME   session (16), epoch (4), received (8), limit (8)
 *     RESUMED  verdict (1), received (8), limit (8), from (8)
 */
import { P2pdError } from "../errors.ts";
import { encodeFrame } from "./session-frame.ts";

/** Octets that may be sent before the first word of the other side. */
export const INITIAL_WINDOW = 256 * 1024;

const SESSION_LENGTH = 16;
const ACK_LENGTH = 16;
const RESUME_LENGTH = SESSION_LENGTH + 4 + 16;
const RESUMED_LENGTH = 1 + 24;
const BASE64URL = { alphabet: "base64url", omitPadding: true } as const;
const TWO_32 = 2 ** 32;

/** What one side has, and how far the other may send. */
export interface Credit {
  /** Everything before this position has been received. */
  readonly received: number;
  /** DATA may be sent up to this position. */
  readonly limit: number;
}

/** The first frame on a path that is to carry a session from now on. */
export interface Resume extends Credit {
  /** As HELLO named it. */
  readonly session: string;
  /** Larger than that of any RESUME of this session that was answered with `accepted`. */
  readonly epoch: number;
}

const VERDICTS = ["accepted", "unknown", "stale", "busy", "unsuitable"] as const;
/**
 * `unknown`: there is no such session with this peer. `stale`: a later path was taken already. `busy`: this side's own
 * RESUME is under way and goes first. `unsuitable`: the path cannot carry what the session needs.
 */
export type Verdict = (typeof VERDICTS)[number];

/** The answer to RESUME. Only where it is `accepted` do the other fields mean anything. */
export interface Resumed extends Credit {
  readonly verdict: Verdict;
  /** Position at which DATA on this path begins. */
  readonly from: number;
}

export function encodeAck({ received, limit }: Credit): Uint8Array {
  const payload = new Uint8Array(ACK_LENGTH);
  writePosition(payload, 0, received);
  writePosition(payload, 8, limit);
  return encodeFrame("ack", payload);
}

export function encodeResume({ session, epoch, received, limit }: Resume): Uint8Array {
  const payload = new Uint8Array(RESUME_LENGTH);
  payload.set(Uint8Array.fromBase64(session, { alphabet: "base64url" }));
  viewOf(payload).setUint32(SESSION_LENGTH, epoch);
  writePosition(payload, SESSION_LENGTH + 4, received);
  writePosition(payload, SESSION_LENGTH + 12, limit);
  return encodeFrame("resume", payload);
}

export function encodeResumed({ verdict, received, limit, from }: Resumed): Uint8Array {
  const payload = new Uint8Array(RESUMED_LENGTH);
  payload[0] = VERDICTS.indexOf(verdict);
  writePosition(payload, 1, received);
  writePosition(payload, 9, limit);
  writePosition(payload, 17, from);
  return encodeFrame("resumed", payload);
}

/** RESUMED that refuses. */
export function encodeNotResumed(verdict: Exclude<Verdict, "accepted">): Uint8Array {
  return encodeResumed({ verdict, received: 0, limit: 0, from: 0 });
}

/** Reads the payload of an ACK. Throws `protocol`. */
export function decodeAck(payload: Uint8Array): Credit {
  checkLength("ACK", payload, ACK_LENGTH);
  return { received: readPosition(payload, 0), limit: readPosition(payload, 8) };
}

/** Reads the payload of a RESUME. Throws `protocol`. */
export function decodeResume(payload: Uint8Array): Resume {
  checkLength("RESUME", payload, RESUME_LENGTH);
  return {
    session: payload.slice(0, SESSION_LENGTH).toBase64(BASE64URL),
    epoch: viewOf(payload).getUint32(SESSION_LENGTH),
    received: readPosition(payload, SESSION_LENGTH + 4),
    limit: readPosition(payload, SESSION_LENGTH + 12),
  };
}

/** Reads the payload of a RESUMED. Throws `protocol`. */
export function decodeResumed(payload: Uint8Array): Resumed {
  checkLength("RESUMED", payload, RESUMED_LENGTH);
  const verdict = VERDICTS[payload[0] as number];
  if (verdict === undefined) throw new P2pdError("protocol", `RESUMED has the unknown verdict ${payload[0]}`);
  return {
    verdict,
    received: readPosition(payload, 1),
    limit: readPosition(payload, 9),
    from: readPosition(payload, 17),
  };
}

function checkLength(name: string, payload: Uint8Array, length: number): void {
  if (payload.length !== length)
    throw new P2pdError("protocol", `${name} has ${payload.length} octets; expected ${length}`);
}

function writePosition(target: Uint8Array, at: number, position: number): void {
  const view = viewOf(target);
  view.setUint32(at, Math.floor(position / TWO_32));
  view.setUint32(at + 4, position % TWO_32);
}

function readPosition(source: Uint8Array, at: number): number {
  const view = viewOf(source);
  const position = view.getUint32(at) * TWO_32 + view.getUint32(at + 4);
  if (!Number.isSafeInteger(position)) throw new P2pdError("protocol", "a position of more than 2^53 - 1");
  return position;
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}
