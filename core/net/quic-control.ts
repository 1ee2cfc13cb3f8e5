/**
 * The control streams of a QUIC path, one in each direction: how many octets of the peer's stream the receiver has
 * taken, and at last that all of it has come. Each message is one number of 8 octets, big-endian:
 *
 *   0 … 2^53-1   octets taken since the path began; it never falls
 *   2^64-1       everything up to the end of the stream has been received; the last message
 */
import type { QuicSession, QuicStream } from "node:quic";
import { writerOf } from "./quic-runtime.ts";

const MESSAGE_LENGTH = 8;
const ALL = 0xffff_ffff_ffff_ffffn;

export interface QuicControl {
  tellTaken(count: number): void;
  tellAll(): void;
}

/** Calls never overlap; after `broken` there is none. */
export interface ControlHandlers {
  taken(count: number): void;
  all(): void;
  /** The peer broke the rules above, or opened a stream that has no place. */
  broken(): void;
}

/** Takes over the streams that the peer may still open. The own one is opened with its first message. */
export function createQuicControl(session: QuicSession, handlers: ControlHandlers): QuicControl {
  let own: Promise<QuicStream> | undefined;
  let theirs: QuicStream | undefined;

  session.onstream = (stream) => {
    stream.closed.catch(() => undefined);
    if (stream.direction !== "uni" || theirs !== undefined) return handlers.broken();
    theirs = stream;
    void readMessages(stream, handlers);
  };

  const tell = async (message: bigint): Promise<void> => {
    try {
      own ??= session.createUnidirectionalStream();
      const stream = await own;
      stream.closed.catch(() => undefined);
      const bytes = new Uint8Array(MESSAGE_LENGTH);
      new DataView(bytes.buffer).setBigUint64(0, message);
      const writer = writerOf(stream);
      while (!writer.writeSync(bytes)) {
        const room = writer.drained();
        if (room === null) return;
        await room;
      }
    } catch {
      // The session has gone, which its close tells.
    }
  };

  return {
    tellTaken: (count) => void tell(BigInt(count)),
    tellAll: () => void tell(ALL),
  };
}

async function readMessages(stream: QuicStream, handlers: ControlHandlers): Promise<void> {
  let rest = Buffer.alloc(0);
  try {
    for await (const batch of stream) {
      rest = Buffer.concat([rest, ...batch]);
      while (rest.length >= MESSAGE_LENGTH) {
        const message = rest.readBigUInt64BE(0);
        rest = rest.subarray(MESSAGE_LENGTH);
        if (message === ALL) handlers.all();
        else if (message <= BigInt(Number.MAX_SAFE_INTEGER)) handlers.taken(Number(message));
        else return handlers.broken();
      }
    }
  } catch {
    // The session has gone, which its close tells; if only this stream has, nothing is missed but counts.
  }
}
