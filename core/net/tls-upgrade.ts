/**
 * The upgrade of a socket to TLS, with its deadline, its abort and its early ends: what `tls.ts` (nodes, by their keys)
 * and `tls-ca.ts` (servers, by an authority) share. Whom to trust is theirs.
 */
import { P2pdError } from "../errors.ts";
import { bridgeStream } from "./bridge-stream.ts";
import {
  type BunSocket,
  createSocketStream,
  type SocketEvents,
  takeSocket,
  TLS_SOCKET_HANDLERS,
} from "./socket-stream.ts";
import type { ByteStream } from "./world.ts";

export interface TlsUpgrade<Facts> {
  /** Names the connection in errors. */
  readonly what: string;
  readonly isServer: boolean;
  readonly tls: Bun.TLSOptions & { readonly minVersion?: number; readonly maxVersion?: number };
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Looks at the peer when the handshake is over and returns what it found; throws what refuses the peer. */
  readonly judge: (socket: BunSocket, error: Error | null) => Facts;
  /** The error for a handshake that ended early or threw; undefined: the peer closed. */
  readonly explain: (thrown: unknown) => P2pdError;
}

/** Bun's upgrade, with the role that its declarations leave out. */
type Upgrade = (options: {
  readonly isServer: boolean;
  readonly data: SocketEvents;
  readonly tls: TlsUpgrade<unknown>["tls"];
  readonly socket: Bun.SocketHandler<SocketEvents>;
}) => [raw: BunSocket, tls: BunSocket];

/**
 * The stream inside TLS, with what `judge` found. A stream that is no socket of this machine is first carried over a
 * local one. Rejects with `timeout`, `aborted`, `closed`, or what `judge` and `explain` say; the socket is closed then.
 */
export async function upgradeToTls<Facts>(
  under: ByteStream,
  { what, isServer, tls, timeoutMs, signal, judge, explain }: TlsUpgrade<Facts>,
): Promise<ByteStream & Facts> {
  const { local, remote } = under;
  const taken = takeSocket(under) ?? takeSocket(await bridgeStream(under));
  if (taken === undefined) throw new P2pdError("internal", "a bridged stream has no socket");
  const raw = taken.socket;
  const { promise, resolve, reject } = Promise.withResolvers<ByteStream & Facts>();
  let finished = false;
  // Once it is there, the raw socket no longer answers to `terminate`.
  let secured: BunSocket | undefined;
  let inner: ReturnType<typeof createSocketStream> | undefined;

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

  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  else if (taken.ended !== undefined) {
    fail(new P2pdError("closed", `${what}: ${taken.ended.message}`, {}, { cause: taken.ended }));
  }
  if (finished) return promise;

  const closedEarly = (error?: Error): void => fail(explain(error));
  const events: SocketEvents = {
    data: (bytes) => inner?.events.data(bytes),
    drain: () => inner?.events.drain(),
    end: () => (inner === undefined ? closedEarly() : inner.events.end()),
    error: (error) => (inner === undefined ? closedEarly(error) : inner.events.error(error)),
    close: (error) => (inner === undefined ? closedEarly(error) : inner.events.close(error)),
    handshake(socket, error) {
      if (finished) return;
      secured = socket;
      try {
        const facts = judge(socket, error);
        inner = createSocketStream(socket, local, remote);
        finish();
        resolve(Object.assign(inner.stream, facts));
      } catch (thrown) {
        fail(explain(thrown));
      }
    },
  };
  taken.redirect({ close: closedEarly, end() {} });
  try {
    raw.resume();
    [, secured] = (raw.upgradeTLS as unknown as Upgrade).call(raw, {
      isServer,
      data: events,
      tls,
      socket: TLS_SOCKET_HANDLERS,
    });
    if (finished) secured.terminate();
  } catch (thrown) {
    fail(explain(thrown));
  }
  return promise;
}
