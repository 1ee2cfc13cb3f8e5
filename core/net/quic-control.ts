/**
 * The control streams of a QUIC path, one in each direction: how many octets of the peer's stream the receiver has
 * taken, and at last that all of it has come. Each message begins with one number of 8 octets, big-endian:
 *
 *   0 … 2^53-1   octets taken since the path began; it never falls, and is told again on a path that is silent
 *   2^64-2       first message alone: the listener's challenge follows, or the caller's answer (`quic-challenge.ts`)
 *   2^64-1       everything up to the end of the stream has been received; the last message
 */
import type { QuicSession, QuicStream } from "node:quic";
import { CHALLENGE_LENGTH } from "./quic-proof.ts";
import { type StreamReader, writerOf } from "./quic-runtime.ts";

export const MESSAGE_LENGTH = 8;
const ALL = 0xffff_ffff_ffff_ffffn;
export const CHALLENGE = 0xffff_ffff_ffff_fffen;

export interface QuicControl {
  answer(proof: Uint8Array): void;
  tellTaken(count: number): void;
  tellAll(): void;
}

/** Streams that carried a challenge and its answer, and nothing else yet. */
export interface BegunControl {
  readonly own: QuicStream;
  readonly reader: StreamReader;
}

/** Calls never overlap; after `broken` there is none. */
export interface ControlHandlers {
  /** At most once, and before all others; undefined where a challenge breaks the rules. */
  readonly challenge: ((challenge: Uint8Array) => void) | undefined;
  taken(count: number): void;
  all(): void;
  /** The peer broke the rules above, or opened a stream that has no place. */
  broken(): void;
}

/** Takes over the streams that the peer may still open. The own one, if not `begun`, is opened with its first message. */
export function createQuicControl(
  session: QuicSession,
  handlers: ControlHandlers,
  begun?: BegunControl,
): QuicControl {
  let own = begun === undefined ? undefined : Promise.resolve(begun.own);
  let hasTheirs = begun !== undefined;

  session.onstream = (stream) => {
    stream.closed.catch(() => undefined);
    if (stream.direction !== "uni" || hasTheirs) return handlers.broken();
    hasTheirs = true;
    void readMessages(stream[Symbol.asyncIterator](), handlers);
  };

  const tell = async (message: bigint, more?: Uint8Array): Promise<void> => {
    try {
      own ??= session.createUnidirectionalStream();
      await sendMessage(await own, message, more);
    } catch {
      // The session has gone, which its close tells.
    }
  };

  if (begun !== undefined) void readMessages(begun.reader, handlers);
  return {
    answer: (proof) => void tell(CHALLENGE, proof),
    tellTaken: (count) => void tell(BigInt(count)),
    tellAll: () => void tell(ALL),
  };
}

/** Waits for room if there is none. Throws if the session has gone. */
export async function sendMessage(stream: QuicStream, message: bigint, more?: Uint8Array): Promise<void> {
  stream.closed.catch(() => undefined);
  const head = Buffer.alloc(MESSAGE_LENGTH);
  head.writeBigUInt64BE(message);
  const bytes = new Uint8Array(Buffer.concat([head, more ?? new Uint8Array(0)]));
  const writer = writerOf(stream);
  while (!writer.writeSync(bytes)) {
    const room = writer.drained();
    if (room === null) return;
    await room;
  }
}

async function readMessages(reader: StreamReader, handlers: ControlHandlers): Promise<void> {
  let rest = Buffer.alloc(0);
  let isFirst = true;
  try {
    for (;;) {
      const { done, value } = await reader.next();
      if (done === true) return;
      rest = Buffer.concat([rest, ...value]);
      while (rest.length >= MESSAGE_LENGTH) {
        const message = rest.readBigUInt64BE(0);
        if (message === CHALLENGE && isFirst && handlers.challenge !== undefined) {
          if (rest.length < MESSAGE_LENGTH + CHALLENGE_LENGTH) break;
          handlers.challenge(
            new Uint8Array(rest.subarray(MESSAGE_LENGTH, MESSAGE_LENGTH + CHALLENGE_LENGTH)),
          );
          rest = rest.subarray(CHALLENGE_LENGTH);
        } else if (message === CHALLENGE) return handlers.broken();
        isFirst = false;
        rest = rest.subarray(MESSAGE_LENGTH);
        if (message === ALL) handlers.all();
        else if (message <= BigInt(Number.MAX_SAFE_INTEGER)) handlers.taken(Number(message));
        else if (message !== CHALLENGE) return handlers.broken();
      }
    }
  } catch {
    // The session has gone, which its close tells; if only this stream has, nothing is missed but counts.
  }
}
