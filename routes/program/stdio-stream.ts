/**
 * Standard input and output as one byte stream: what is read is what the stream receives, what is written to it is
 * printed. Reading stops while it is paused, so that a fast producer waits for a slow peer.
 */
import { type P2pdError, toP2pdError } from "../../core/errors.ts";
import type { ByteStream, StreamHandlers } from "../../core/net/world.ts";

const NOWHERE = { ip: "", port: 0 };

/** What of a writable Node stream is used. */
export interface Output {
  write(bytes: Uint8Array): boolean;
  write(bytes: string, written: () => void): boolean;
  on(event: "drain", listener: () => void): unknown;
  on(event: "error", listener: (error: Error) => void): unknown;
}

export interface StdioStream extends ByteStream {
  /** Settles when both directions have ended: with the reason of an abort, if there was one. */
  readonly closed: Promise<P2pdError | undefined>;
  /** Settles when all that was written before `end` has been printed. */
  readonly printed: Promise<void>;
}

export function stdioStream(input: ReadableStream<Uint8Array>, output: Output): StdioStream {
  const closed = Promise.withResolvers<P2pdError | undefined>();
  const printed = Promise.withResolvers<void>();
  const reader = input.getReader();
  let handlers: StreamHandlers | undefined;
  let resume: (() => void) | undefined;
  let paused = false;
  let inputEnded = false;
  let outputEnded = false;
  let over = false;

  const close = (reason?: P2pdError) => {
    if (over) return;
    over = true;
    resume?.();
    printed.resolve();
    handlers?.close(reason);
    closed.resolve(reason);
  };
  const closeWhenBothEnded = () => {
    if (inputEnded && outputEnded) close();
  };
  const readOn = async () => {
    for (;;) {
      if (paused && !over) {
        const { promise, resolve } = Promise.withResolvers<void>();
        resume = resolve;
        await promise;
        continue;
      }
      if (over) return;
      const { value, done } = await reader.read();
      if (over) return;
      if (done) {
        inputEnded = true;
        handlers?.end();
        closeWhenBothEnded();
        return;
      }
      handlers?.data(value);
    }
  };
  output.on("drain", () => {
    if (!over) handlers?.drain();
  });
  output.on("error", (error) => {
    close(toP2pdError(error, "closed", "standard output"));
  });

  return {
    local: NOWHERE,
    remote: NOWHERE,
    fd: -1,
    pendingBytes: 0,
    closed: closed.promise,
    printed: printed.promise,
    attach(next) {
      const first = handlers === undefined;
      handlers = next;
      if (first) readOn().catch((thrown: unknown) => close(toP2pdError(thrown, "closed", "standard input")));
    },
    write: (bytes) => over || outputEnded || output.write(bytes),
    pause() {
      paused = true;
    },
    resume() {
      paused = false;
      resume?.();
    },
    end() {
      if (over || outputEnded) return;
      outputEnded = true;
      output.write("", () => {
        printed.resolve();
        closeWhenBothEnded();
      });
    },
    abort: close,
  };
}
