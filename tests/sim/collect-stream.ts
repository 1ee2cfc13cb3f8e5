/** Reads a byte stream to its end, for tests. */
import type { P2pdError } from "../../core/errors.ts";
import type { ByteStream } from "../../core/net/world.ts";

export interface CollectedStream {
  /** Everything, once the peer has ended. */
  readonly ended: Promise<Uint8Array>;
  /** The last event, with its error. */
  readonly closed: Promise<P2pdError | undefined>;
  /** What has come so far. */
  bytes(): Uint8Array;
}

/** Attaches to `stream`. */
export function collectStream(stream: ByteStream): CollectedStream {
  const pieces: Uint8Array[] = [];
  const ended = Promise.withResolvers<Uint8Array>();
  const closed = Promise.withResolvers<P2pdError | undefined>();
  const bytes = (): Uint8Array => new Uint8Array(Buffer.concat(pieces));
  stream.attach({
    data: (piece) => void pieces.push(piece),
    drain() {},
    end: () => ended.resolve(bytes()),
    close: (error) => closed.resolve(error),
  });
  return { ended: ended.promise, closed: closed.promise, bytes };
}
