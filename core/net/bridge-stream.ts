/**
 * Carries a byte stream that is no socket (one inside TURN, say) over a TCP connection of this machine to
 * itself, for whatever needs a real socket, such as TLS.
 */
import { P2pdError } from "../errors.ts";
import { connectTcp } from "./tcp-connect.ts";
import { listenTcp } from "./tcp-listen.ts";
import type { ByteStream, StreamHandlers } from "./world.ts";

const LOOPBACK = "127.0.0.1";
const CONNECT_TIMEOUT_MS = 5000;

/** The near end of a local connection whose far end is joined to `stream`. */
export async function bridgeStream(stream: ByteStream): Promise<ByteStream> {
  const accepted: ByteStream[] = [];
  const { promise: arrival, resolve: arrived } = Promise.withResolvers<void>();
  const listener = await listenTcp({
    local: { ip: LOOPBACK, port: 0 },
    accept(far) {
      accepted.push(far);
      arrived();
    },
  });
  try {
    const near = await connectTcp({ remote: listener.local, timeoutMs: CONNECT_TIMEOUT_MS });
    await arrival;
    // Another program may have been quicker at this port: only our own connection is joined.
    const far = accepted.find(({ remote }) => remote.port === near.local.port);
    for (const stranger of accepted) if (stranger !== far) stranger.abort();
    if (far === undefined) {
      near.abort();
      throw new P2pdError("unavailable", "a local connection was taken by another program");
    }
    stream.attach(passOn(stream, far));
    far.attach(passOn(far, stream));
    return near;
  } finally {
    listener.close();
  }
}

function passOn(from: ByteStream, to: ByteStream): StreamHandlers {
  return {
    data(bytes) {
      if (!to.write(bytes)) from.pause();
    },
    drain: () => to.resume(),
    end: () => to.end(),
    close(error) {
      if (error !== undefined) to.abort(error);
    },
  };
}
