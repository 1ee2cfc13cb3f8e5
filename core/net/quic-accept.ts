/**
 * The listening side of QUIC: callers are strangers until they have proved their key (`quic-proof.ts`), and there is
 * a bound on their number and on their time. Addresses can be forged until the handshake is over, so before that the
 * oldest stranger makes room for the newest, and only after it a single address has its own bound.
 */
import type { QuicSession, QuicStream } from "node:quic";
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, scopeOf } from "../ip.ts";
import { challengeCaller } from "./quic-challenge.ts";
import { createQuicDatagrams } from "./quic-datagrams.ts";
import { type CloseName, closeSession } from "./quic-errors.ts";
import { createQuicPath, SEND_BUFFER } from "./quic-path.ts";
import { PROOF_LENGTH, verifyProof } from "./quic-proof.ts";
import { CIPHER, endpointFor, exporterSecretWhenOpened, readHead } from "./quic-runtime.ts";
import { sourceAddress } from "./source-address.ts";
import type { QuicCounters, QuicPath } from "./world.ts";

const STRANGER_TIMEOUT_MS = 10_000;
const MAX_STRANGERS = 1024;
/** Of one address; programs on this machine are bounded by `MAX_STRANGERS` alone. */
const MAX_STRANGERS_PER_IP = 128;

export interface AcceptorOptions {
  /** Compressed key of this node. */
  readonly ownKey: Uint8Array;
  readonly local: Endpoint;
  readonly strangerTimeoutMs?: number;
  readonly accept?: (path: QuicPath) => void;
}

export interface QuicAcceptor {
  readonly counters: QuicCounters;
  /** A caller's first packet has come. */
  receive(session: QuicSession): void;
}

export function createQuicAcceptor(options: AcceptorOptions): QuicAcceptor {
  const { ownKey, local, accept, strangerTimeoutMs = STRANGER_TIMEOUT_MS } = options;
  /** In the order of their coming. */
  const strangers = new Set<QuicSession>();
  const strangersFrom = new Map<string, number>();
  const counts = { accepted: 0, turnedAway: 0, failed: 0 };

  const count = (ip: string, change: number): void => {
    const now = (strangersFrom.get(ip) ?? 0) + change;
    if (now === 0) strangersFrom.delete(ip);
    else strangersFrom.set(ip, now);
  };

  const turnAway = (session: QuicSession): void => {
    counts.turnedAway++;
    strangers.delete(session);
    closeSession(session, "busy");
  };

  const welcome = async (session: QuicSession): Promise<void> => {
    const datagrams = createQuicDatagrams(session);
    const secret = exporterSecretWhenOpened(session);
    const opened = firstStream(session, "bidi");
    const exporterSecret = await secret;
    const remote = remoteOf(session);
    const isLocal = scopeOf(remote.ip) === "loopback";
    if (!isLocal && (strangersFrom.get(remote.ip) ?? 0) >= MAX_STRANGERS_PER_IP) return turnAway(session);
    count(remote.ip, 1);
    try {
      const stream = await opened;
      stream.highWaterMark = SEND_BUFFER;
      const reader = stream[Symbol.asyncIterator]();
      const { head, rest } = await readHead(reader, PROOF_LENGTH);
      const answer =
        exporterSecret === undefined
          ? await challengeCaller(session, firstStream(session, "uni"))
          : { proof: head, by: { exporterSecret }, control: undefined };
      const peerKey = verifyProof(answer.proof, { ...answer.by, listenerKey: ownKey });
      const near = await sourceAddress(local, remote);
      if (!strangers.delete(session) || session.destroyed) {
        throw new P2pdError("closed", "the caller left with its proof");
      }
      accept?.(
        createQuicPath({
          session,
          stream,
          reader,
          datagrams,
          local: near,
          remote,
          peerKey,
          cipher: CIPHER,
          first: rest,
          control: answer.control,
        }),
      );
    } finally {
      count(remote.ip, -1);
    }
  };

  return {
    get counters() {
      return { ...counts, strangers: strangers.size };
    },
    receive(session) {
      counts.accepted++;
      session.closed.catch(() => undefined);
      if (accept === undefined) return turnAway(session);
      const [oldest] = strangers;
      if (oldest !== undefined && strangers.size >= MAX_STRANGERS) turnAway(oldest);
      strangers.add(session);
      const timer = setTimeout(() => closeSession(session, "timeout"), strangerTimeoutMs);
      timer.unref();
      welcome(session)
        .catch((thrown: unknown) => {
          // One that was turned away has been counted as that.
          if (strangers.delete(session)) counts.failed++;
          closeSession(session, closeNameOf(thrown));
        })
        .finally(() => clearTimeout(timer));
    },
  };
}

/** The one stream that a caller opens now; another one breaks the rules. */
function firstStream(session: QuicSession, direction: QuicStream["direction"]): Promise<QuicStream> {
  const { promise, resolve, reject } = Promise.withResolvers<QuicStream>();
  promise.catch(() => undefined);
  let isFirst = true;
  session.onstream = (stream) => {
    stream.closed.catch(() => undefined);
    if (isFirst && stream.direction === direction) resolve(stream);
    else closeSession(session, "protocol");
    isFirst = false;
  };
  const gone = (): void => reject(new P2pdError("closed", "the caller left before it opened its stream"));
  session.closed.then(gone, gone);
  return promise;
}

function closeNameOf(thrown: unknown): CloseName {
  const { code } = toP2pdError(thrown);
  return code === "peer-key" ? "peerKey" : code === "protocol" ? "protocol" : "aborted";
}

/** Known once the handshake is over. */
function remoteOf(session: QuicSession): Endpoint {
  const remote = session.path?.remote;
  if (remote === undefined) throw new P2pdError("closed", "the session has gone");
  return endpointFor(remote);
}
