/** A TURN request whose sender has proved who it is, and the answers to it (RFC 8489 section 6.3, RFC 8656 section 18). */
import { type Attribute, attribute, ERROR_CODE, FINGERPRINT } from "../wire/stun-attributes.ts";
import type { IntegrityHash } from "../wire/stun-integrity.ts";
import { encodeStun, hasAttribute, type StunMessage } from "../wire/stun.ts";
import type { KnownUser, PasswordHash } from "./turn-credentials.ts";
import type { ClientPath } from "./turn-parts.ts";

export interface Sender extends KnownUser {
  readonly passwordHash: PasswordHash;
  /** What the request is signed with, and its answer will be. */
  readonly integrity: IntegrityHash;
}

export interface TurnRequest {
  readonly message: StunMessage;
  readonly path: ClientPath;
  readonly sender: Sender;
  readonly nowMs: number;
}

const REASONS: Readonly<Record<number, string>> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  420: "Unknown Attribute",
  437: "Allocation Mismatch",
  438: "Stale Nonce",
  440: "Address Family not Supported",
  441: "Wrong Credentials",
  442: "Unsupported Transport Protocol",
  443: "Peer Address Family Mismatch",
  446: "Connection Already Exists",
  447: "Connection Timeout or Failure",
  486: "Allocation Quota Reached",
  500: "Server Error",
  508: "Insufficient Capacity",
};

/** A signed success. */
export function successOf({ message, sender }: TurnRequest, attributes: readonly Attribute[]): Uint8Array {
  return encodeStun({
    class: "success",
    method: message.method,
    transactionId: message.transactionId,
    attributes,
    integrity: { key: sender.key, hashes: [sender.integrity] },
    fingerprint: hasAttribute(message, FINGERPRINT),
  });
}

/** An error; signed where the sender is known. */
export function errorOf(
  message: StunMessage,
  code: number,
  more: readonly Attribute[] = [],
  sender?: Sender,
): Uint8Array {
  return encodeStun({
    class: "error",
    method: message.method,
    transactionId: message.transactionId,
    attributes: [attribute(ERROR_CODE, { code, reason: reasonOf(code) }), ...more],
    fingerprint: hasAttribute(message, FINGERPRINT),
    ...(sender === undefined ? {} : { integrity: { key: sender.key, hashes: [sender.integrity] } }),
  });
}

export function reasonOf(code: number): string {
  return REASONS[code] ?? "Error";
}
