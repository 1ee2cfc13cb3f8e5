/**
 * Codes with which either side closes a QUIC session, and what QUIC's own errors mean in the project's words. Every
 * close that we make carries a code, so a session that ends without one was lost.
 */
import type { QuicSession } from "node:quic";
import { type ErrorCode, P2pdError, toP2pdError } from "../errors.ts";

/** Application error codes on the wire (RFC 9000 section 20.2). */
export const CLOSE = {
  /** Both directions had ended. */
  done: 1,
  /** Broken off by the program above. */
  aborted: 2,
  /** The caller's proof was wrong. */
  peerKey: 3,
  /** Too many strangers: CONNECTION_REFUSED of QUIC itself, as it is told during the handshake. */
  busy: 0x02,
  /** The rules of `quic-accept.ts` and `quic-path.ts` were broken. */
  protocol: 5,
  /** The proof did not come in time. */
  timeout: 6,
} as const;

export type CloseName = keyof typeof CLOSE;

const MEANINGS: Readonly<Record<number, readonly [code: ErrorCode, words: string]>> = {
  [CLOSE.done]: ["closed", "the peer closed the connection"],
  [CLOSE.aborted]: ["closed", "the peer broke off the connection"],
  [CLOSE.peerKey]: ["peer-key", "the peer says that this side's key was not proved"],
  [CLOSE.protocol]: ["protocol", "the peer says that this side broke the rules"],
  [CLOSE.timeout]: ["timeout", "the peer waited too long for this side's proof"],
};

/** Closes a session with one of our codes. */
export function closeSession(session: QuicSession, name: CloseName): void {
  const type = name === "busy" ? "transport" : "application";
  session.destroy(undefined, { code: CLOSE[name], type });
}

/**
 * For a caller, whose part of the handshake may be under way. One that is broken off costs others from the same
 * address to the same listener their exporter secrets (`exporterSecretWhenOpened`), so it is let run to its end,
 * which its own time bounds.
 */
export function closeWhenOpened(session: QuicSession, name: CloseName): void {
  session.opened.then(
    () => closeSession(session, name),
    () => undefined,
  );
}

/** Whether the peer closed because both directions had ended. */
export function isDone(thrown: unknown): boolean {
  return quicCodeOf(thrown)?.isOurs === true && Number(quicCodeOf(thrown)?.code) === CLOSE.done;
}

/** Why a session ended; `thrown` is undefined when it ended without a code. */
export function sessionError(thrown: unknown, what: string): P2pdError {
  if (thrown instanceof P2pdError) return thrown;
  if (thrown === undefined) return new P2pdError("timeout", `${what}: lost, there was no answer`);
  const quic = quicCodeOf(thrown);
  const known = quic?.isOurs === true ? MEANINGS[Number(quic.code)] : undefined;
  if (known !== undefined) return new P2pdError(known[0], `${what}: ${known[1]}`, {}, { cause: thrown });
  const text = toP2pdError(thrown).message;
  return new P2pdError(transportCode(quic, text), `${what}: ${text}`, {}, { cause: thrown });
}

interface QuicCode {
  readonly code: bigint;
  /** From the program above QUIC, not from QUIC. */
  readonly isOurs: boolean;
}

// INTERNAL_ERROR is what the runtime says for a listener that turns away a first packet.
const REFUSALS: readonly bigint[] = [0x01n, BigInt(CLOSE.busy)];
const HANDSHAKE_TIMED_OUT = /timed out/;

function transportCode(quic: QuicCode | undefined, text: string): ErrorCode {
  if (HANDSHAKE_TIMED_OUT.test(text)) return "timeout";
  if (quic === undefined) return "closed";
  return REFUSALS.includes(quic.code) && !quic.isOurs ? "refused" : "protocol";
}

function quicCodeOf(thrown: unknown): QuicCode | undefined {
  if (!(thrown instanceof Error) || !("errorCode" in thrown) || typeof thrown.errorCode !== "bigint") {
    return undefined;
  }
  return { code: thrown.errorCode, isOurs: "type" in thrown && thrown.type === "application" };
}
