/**
 * TLS to a server that has a name and a certificate of an authority (RFC 8446, RFC 6125): brokers and TURN servers,
 * not nodes, whose keys `tls.ts` compares. The authorities are the runtime's, and those of NODE_EXTRA_CA_CERTS.
 */
import { checkServerIdentity } from "node:tls";
import { P2pdError } from "../errors.ts";
import { formatEndpoint } from "../ip.ts";
import { bridgeStream } from "./bridge-stream.ts";
import { createSocketStream, type SocketEvents, takeSocket, TLS_SOCKET_HANDLERS } from "./socket-stream.ts";
import type { ByteStream, SecureServerOptions } from "./world.ts";

/** See `World.secureServer`. */
export async function secureServer(stream: ByteStream, options: SecureServerOptions): Promise<ByteStream> {
  const { serverName, timeoutMs, signal } = options;
  const { local, remote } = stream;
  const taken = takeSocket(stream) ?? takeSocket(await bridgeStream(stream));
  if (taken === undefined) throw new P2pdError("internal", "a bridged stream has no socket");
  const raw = taken.socket;
  const what = `TLS to ${serverName} at ${formatEndpoint(remote)}`;
  const { promise, resolve, reject } = Promise.withResolvers<ByteStream>();
  let finished = false;
  let inner: ReturnType<typeof createSocketStream> | undefined;
  let secured: typeof raw | undefined;

  const finish = (): void => {
    finished = true;
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  };
  const fail = (error: P2pdError): void => {
    if (finished) return;
    finish();
    (secured ?? raw).terminate();
    reject(error);
  };
  const timer = setTimeout(
    () => fail(new P2pdError("timeout", `${what}: no handshake within ${timeoutMs} ms`)),
    timeoutMs,
  );
  const onAbort = (): void => fail(new P2pdError("aborted", `${what}: aborted`));
  const closed = (error?: Error): void =>
    fail(
      new P2pdError(
        "closed",
        `${what}: the handshake failed (${error?.message ?? "the server closed"})`,
        {},
        { cause: error },
      ),
    );
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  else if (taken.ended !== undefined) closed(taken.ended);
  if (finished) return promise;

  const events: SocketEvents = {
    data: (bytes) => inner?.events.data(bytes),
    drain: () => inner?.events.drain(),
    end: () => (inner === undefined ? closed() : inner.events.end()),
    error: (error) => (inner === undefined ? closed(error) : inner.events.error(error)),
    close: (error) => (inner === undefined ? closed(error) : inner.events.close(error)),
    handshake(socket, error) {
      if (finished) return;
      secured = socket;
      const wrong = error ?? checkServerIdentity(serverName, socket.getPeerCertificate());
      if (wrong !== undefined) {
        fail(new P2pdError("peer-key", `${what}: its certificate is not trusted (${wrong.message})`));
        return;
      }
      inner = createSocketStream(socket, local, remote);
      finish();
      resolve(inner.stream);
    },
  };
  taken.redirect({ close: closed, end() {} });
  raw.resume();
  [, secured] = raw.upgradeTLS({
    data: events,
    tls: {
      rejectUnauthorized: false,
      serverName,
      ...(options.authorities === undefined ? {} : { ca: [...options.authorities] }),
    },
    socket: TLS_SOCKET_HANDLERS,
  }) as unknown as [typeof raw, typeof raw];
  return promise;
}
