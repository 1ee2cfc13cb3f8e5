/**
 * What a listener does that has no exporter secret to check a caller's first proof with: it draws random octets and
 * sends them as the first message of its control stream, and the caller's first message on its own is a proof of form
 * 2 over them (`quic-proof.ts`). This costs a round trip, in which what the caller sends on its stream has to wait.
 *
 * Nobody but the listener whose key TLS has proved sees the challenge or the answer, and the answer names its key: no
 * other listener can have it made for itself.
 */
import { randomBytes } from "node:crypto";
import type { QuicSession, QuicStream } from "node:quic";
import { P2pdError } from "../errors.ts";
import { type BegunControl, CHALLENGE, MESSAGE_LENGTH, sendMessage } from "./quic-control.ts";
import { CHALLENGE_LENGTH, PROOF_LENGTH } from "./quic-proof.ts";
import { readHead } from "./quic-runtime.ts";

export interface Answer {
  readonly proof: Uint8Array;
  /** What the proof has to be over. */
  readonly by: { readonly challenge: Uint8Array };
  /** For `createQuicControl`, which goes on with it. */
  readonly control: BegunControl;
}

/** `theirs` is the caller's control stream, when it comes. Rejects with `protocol`, or when the caller leaves. */
export async function challengeCaller(session: QuicSession, theirs: Promise<QuicStream>): Promise<Answer> {
  const challenge = new Uint8Array(randomBytes(CHALLENGE_LENGTH));
  const own = await session.createUnidirectionalStream();
  await sendMessage(own, CHALLENGE, challenge);
  const reader = (await theirs)[Symbol.asyncIterator]();
  const { head, rest } = await readHead(reader, MESSAGE_LENGTH + PROOF_LENGTH);
  if (Buffer.from(head).readBigUInt64BE(0) !== CHALLENGE || rest.length > 0) {
    throw new P2pdError("protocol", "expected the caller's answer to the challenge, got another message");
  }
  return { proof: head.subarray(MESSAGE_LENGTH), by: { challenge }, control: { own, reader } };
}
