/**
 * QUIC (RFC 9000) as a data path: one UDP port that listens and connects. The listener's key is proved by TLS, the
 * caller's by its first octets (`quic-proof.ts`). Callers that came are seen to in `quic-accept.ts`, what is sent on
 * a path in `quic-path.ts`.
 */
import { createPublicKey } from "node:crypto";
import type { QuicEndpoint as RuntimeEndpoint, QuicSession } from "node:quic";
import { constants } from "node:os";
import { P2pdError } from "../errors.ts";
import { type Endpoint, familyOf, formatEndpoint } from "../ip.ts";
import { createQuicAcceptor } from "./quic-accept.ts";
import { createQuicDatagrams } from "./quic-datagrams.ts";
import { type CloseName, closeWhenOpened, sessionError } from "./quic-errors.ts";
import { createQuicPath, SEND_BUFFER } from "./quic-path.ts";
import { compressedKeyOf, encodeProof, type ProofSubject } from "./quic-proof.ts";
import {
  CIPHER,
  clientOptions,
  exporterSecretOf,
  loadQuic,
  type QuicModule,
  serverOptions,
  sessionOptions,
  socketAddressFor,
  writerOf,
} from "./quic-runtime.ts";
import { prepareQuicSocket } from "./quic-socket.ts";
import { isLinkLocal6 } from "./socket-endpoints.ts";
import { openError } from "./socket-errors.ts";
import { sourceAddress } from "./source-address.ts";
import type { QuicConnectOptions, QuicEndpoint, QuicOptions, QuicPath } from "./world.ts";

/** Of one address, paths included: programs of this machine come from one. */
const MAX_SESSIONS_PER_IP = 8192;
const MAX_SESSIONS = 65_535;
/** New sessions a second that one address may begin, and how many at once. */
const SESSION_RATE = 1000;
/** After many sessions that ended early the runtime does not always say that an endpoint has closed. */
const CLOSE_TIMEOUT_MS = 2000;

/** An endpoint and what is known of this side. */
interface Own {
  readonly quic: QuicModule;
  readonly endpoint: RuntimeEndpoint;
  readonly options: QuicOptions;
  /** Compressed. */
  readonly key: Uint8Array;
  readonly local: Endpoint;
}

/** See `World.openQuic`. */
export async function openQuic(options: QuicOptions): Promise<QuicEndpoint> {
  const what = `QUIC on ${formatEndpoint(options.local)}`;
  const quic = loadQuic();
  const key = compressedKeyOf(createPublicKey(options.credentials.privateKeyPem));
  if (key === undefined) throw new P2pdError("bad-argument", `${what}: expected a P-256 key as credentials`);
  if (isLinkLocal6(options.local.ip)) {
    throw new P2pdError("unsupported", `${what}: QUIC has no zones, so no link-local addresses`);
  }
  const endpoint = new quic.QuicEndpoint({
    address: socketAddressFor(options.local),
    maxConnectionsPerHost: MAX_SESSIONS_PER_IP,
    maxConnectionsTotal: MAX_SESSIONS,
    sessionCreationRate: SESSION_RATE,
    sessionCreationBurst: SESSION_RATE,
  });
  const broken = endpoint.closed.then(
    () => undefined,
    (thrown: unknown) => bindError(thrown),
  );
  await quic.listen((session) => acceptor.receive(session), {
    endpoint,
    ...serverOptions(options.credentials),
    ...sessionOptions(1, options),
  });
  const port = endpoint.address?.port;
  if (port === undefined) throw openError(await broken, what);
  const local = { ip: options.local.ip, port };
  const { device } = options;
  try {
    prepareQuicSocket(local, device, device === undefined ? what : `${what} of ${device}`);
  } catch (thrown) {
    endpoint.destroy();
    throw thrown;
  }
  const acceptor = createQuicAcceptor({ ...options, ownKey: key, local });
  const own: Own = { quic, endpoint, options, key, local };
  return {
    local,
    get counters() {
      return acceptor.counters;
    },
    connect: (to) => dial(own, to),
    async close() {
      if (!endpoint.destroyed) endpoint.destroy();
      const { promise: late, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
      await Promise.race([broken, late]);
      clearTimeout(timer);
    },
  };
}

async function dial(own: Own, options: QuicConnectOptions): Promise<QuicPath> {
  const { remote, timeoutMs, signal } = options;
  const what = `QUIC ${formatEndpoint(own.local)} -> ${formatEndpoint(remote)}`;
  checkTarget(own, options, what);
  let reason: P2pdError | undefined;
  let session: QuicSession | undefined;
  const givenUp = Promise.withResolvers<never>();
  givenUp.promise.catch(() => undefined);
  const giveUp = (error: P2pdError, name: CloseName): void => {
    reason ??= error;
    if (session !== undefined) closeWhenOpened(session, name);
    givenUp.reject(reason);
  };
  const onAbort = (): void => giveUp(new P2pdError("aborted", `${what}: aborted`), "aborted");
  const timer = setTimeout(
    () => giveUp(new P2pdError("timeout", `${what}: no handshake within ${timeoutMs} ms`), "timeout"),
    timeoutMs,
  );
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    session = await own.quic.connect(socketAddressFor(remote, familyOf(own.local.ip) === 6), {
      endpoint: own.endpoint,
      ...clientOptions(),
      ...sessionOptions(0, { ...own.options, keepAliveMs: options.keepAliveMs ?? own.options.keepAliveMs }),
      handshakeTimeout: timeoutMs + 1000, // ours is first
    });
    return await Promise.race([openPath(own, options, session, what, () => reason), givenUp.promise]);
  } catch (thrown) {
    const error = reason ?? sessionError(thrown, what);
    giveUp(error, error.code === "peer-key" ? "peerKey" : "aborted");
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

/** Compares the listener's key, and proves ours. */
async function openPath(
  own: Own,
  { expectedKey, remote }: QuicConnectOptions,
  session: QuicSession,
  what: string,
  reasonToStop: () => P2pdError | undefined,
): Promise<QuicPath> {
  session.closed.catch(() => undefined);
  const datagrams = createQuicDatagrams(session);
  const local = sourceAddress(own.local, remote);
  const exporterSecret = await exporterSecretOf(session);
  const certified = session.peerCertificate?.publicKey;
  const peerKey = certified === undefined ? undefined : compressedKeyOf(certified);
  if (peerKey === undefined || Buffer.compare(peerKey, expectedKey) !== 0) {
    const [expected, got] = [textOf(expectedKey), peerKey === undefined ? "none on P-256" : textOf(peerKey)];
    const text = `${what}: expected the key ${expected}, the peer proved ${got}`;
    throw new P2pdError("peer-key", text, { expected, got });
  }
  const prove = (subject: ProofSubject): Uint8Array =>
    encodeProof(subject, own.key, own.options.credentials.privateKeyPem);
  const stream = await session.createBidirectionalStream({ highWaterMark: SEND_BUFFER });
  stream.closed.catch(() => undefined);
  const stop = reasonToStop();
  if (stop !== undefined) throw stop;
  writerOf(stream).writeSync(prove({ exporterSecret, listenerKey: peerKey }));
  return createQuicPath({
    session,
    stream,
    reader: stream[Symbol.asyncIterator](),
    datagrams,
    local: await local,
    remote,
    peerKey,
    cipher: CIPHER,
    first: new Uint8Array(0),
    answer: (challenge) => prove({ challenge, listenerKey: peerKey }),
  });
}

function checkTarget({ local }: Own, { remote, signal }: QuicConnectOptions, what: string): void {
  if (remote.port === 0) throw new P2pdError("bad-argument", `${what}: port 0 cannot be connected to`);
  if (familyOf(local.ip) !== familyOf(remote.ip) && local.ip !== "::") {
    throw new P2pdError("bad-argument", `${what}: both addresses must be of one family`);
  }
  if (isLinkLocal6(remote.ip)) {
    throw new P2pdError("unsupported", `${what}: QUIC has no zones, so no link-local addresses`);
  }
  if (signal?.aborted === true) throw new P2pdError("aborted", `${what}: aborted before it began`);
}

/** The runtime tells a failed bind by the error's number alone. */
function bindError(thrown: unknown): Error {
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  const number = Number(/\((-?\d+)\)/.exec(text)?.[1] ?? 0);
  const [code = ""] = Object.entries(constants.errno).find(([, value]) => value === Math.abs(number)) ?? [];
  return Object.assign(new Error(text), { code });
}

function textOf(key: Uint8Array): string {
  return key.toBase64({ alphabet: "base64url", omitPadding: true });
}
