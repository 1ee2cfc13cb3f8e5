/** A ByteStream as the Duplex that packages for Node.js want, backpressure both ways. */
import { Duplex } from "node:stream";
import { P2pdError } from "../errors.ts";
import type { ByteStream } from "../net/world.ts";

/**
 * Takes the stream over. `pass` sees every octet that arrives first; when it returns false, the stream is aborted with
 * `protocol`. `peer` is who is at the other end, for errors. Destroying the duplex aborts the stream, the end of the stream destroys the duplex with its reason.
 */
export function byteDuplex(
  stream: ByteStream,
  pass: (bytes: Uint8Array) => boolean,
  peer: "broker" | "client" = "broker",
): Duplex {
  let drained: (() => void) | undefined;
  const write = (bytes: Uint8Array, done: () => void): void => {
    if (stream.write(bytes)) done();
    else drained = done;
  };
  const duplex = new Duplex({
    read: () => stream.resume(),
    write: (chunk: Uint8Array, _, done) => write(chunk, done),
    writev: (parts, done) => write(Buffer.concat(parts.map(({ chunk }) => chunk as Uint8Array)), done),
    final(done) {
      stream.end();
      done();
    },
    destroy(error, done) {
      stream.abort(error instanceof P2pdError ? error : undefined);
      done(error);
    },
  });
  stream.attach({
    data(bytes) {
      if (!pass(bytes)) {
        duplex.destroy(new P2pdError("protocol", `the ${peer} sent a packet that is too long or unreadable`));
      } else if (!duplex.push(bytes)) stream.pause();
    },
    drain() {
      const done = drained;
      drained = undefined;
      done?.();
    },
    // MQTT knows no half-closed connection.
    end: () => void duplex.destroy(new P2pdError("closed", `the ${peer} closed the connection`)),
    close: (error) =>
      void duplex.destroy(error ?? new P2pdError("closed", `the ${peer} closed the connection`)),
  });
  return duplex;
}
