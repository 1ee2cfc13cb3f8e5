/**
 * STUN over a byte stream to one server (RFC 8489 section 6.2.2): TCP, or TLS inside it. The stream may leave from
 * a port that is to be punched later; it keeps that port's mapping alive until it is closed.
 */
import { P2pdError } from "../errors.ts";
import { formatEndpoint, sameEndpoint } from "../ip.ts";
import type { ByteStream, ConnectOptions, Timer, World } from "../net/world.ts";
import { createStunFrameReader } from "../wire/stun-stream.ts";
import { createStunExchange, type StunTransport } from "./exchange.ts";

export interface StunStream extends StunTransport {
  readonly stream: ByteStream;
  /** Rejects what is on its way with `closed` and ends the stream; a server that lingers is cut off. */
  close(): void;
}

/** No answer to a Binding request comes near it. */
const MAX_ANSWER_BYTES = 16_384;
const LINGER_MS = 1000;

/** Connects as `options` say and speaks STUN there. Rejects as `World.connectTcp` does. */
export async function connectStun(
  world: Pick<World, "time" | "randomBytes" | "connectTcp">,
  options: ConnectOptions,
): Promise<StunStream> {
  return attachStunStream(world, await world.connectTcp(options));
}

/** Attaches to a connected stream that nobody else uses. */
export function attachStunStream(world: Pick<World, "time" | "randomBytes">, stream: ByteStream): StunStream {
  const { local, remote } = stream;
  const exchange = createStunExchange(world, true, (bytes, to) => {
    if (!sameEndpoint(to, remote)) {
      const text = `a STUN stream to ${formatEndpoint(remote)} cannot ask ${formatEndpoint(to)}`;
      throw new P2pdError("bad-argument", text);
    }
    stream.write(bytes);
  });
  const reader = createStunFrameReader(
    { stun: (bytes) => void exchange.receive(bytes, remote) },
    MAX_ANSWER_BYTES,
  );
  let linger: Timer | undefined;

  function end(reason: P2pdError): void {
    exchange.fail(reason);
    stream.end();
    linger ??= world.time.after(LINGER_MS, () => stream.abort(), { background: true });
  }

  stream.attach({
    data(bytes) {
      const fault = reader.push(bytes);
      if (fault === undefined) return;
      const text = `${formatEndpoint(remote)} sent what is no STUN message (${fault})`;
      const reason = new P2pdError("protocol", text, { fault });
      exchange.fail(reason);
      stream.abort(reason);
    },
    drain() {},
    end: () => end(new P2pdError("closed", `${formatEndpoint(remote)} ended the stream`)),
    close(error) {
      linger?.cancel();
      exchange.fail(error ?? new P2pdError("closed", `the stream to ${formatEndpoint(remote)} is closed`));
    },
  });
  return {
    stream,
    reliable: true,
    local,
    counters: exchange.counters,
    request: (request) => exchange.request(request),
    close: () => end(new P2pdError("closed", `the stream to ${formatEndpoint(remote)} was closed`)),
  };
}
