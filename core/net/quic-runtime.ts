/**
 * The runtime's `node:quic`, loaded when QUIC is first used: it takes some 30 ms, and on loading prints a warning
 * that the module is experimental, which is not the user's business. Also what sessions of both roles have in common.
 */
import { createPrivateKey } from "node:crypto";
import { SocketAddress } from "node:net";
import type * as Quic from "node:quic";
import { P2pdError } from "../errors.ts";
import { canonicalIp, type Endpoint, familyOf } from "../ip.ts";
import type { Credentials } from "./world.ts";

export type QuicModule = typeof Quic;
type SessionOptions = Quic.SessionOptions;

let loaded: QuicModule | undefined;

/** Throws `unsupported` where the runtime has no QUIC. */
export function loadQuic(): QuicModule {
  if (loaded !== undefined) return loaded;
  const emitWarning = process.emitWarning.bind(process);
  process.emitWarning = () => undefined;
  try {
    loaded = process.getBuiltinModule("node:quic");
  } catch (thrown) {
    throw new P2pdError("unsupported", "this runtime has no QUIC", {}, { cause: thrown });
  } finally {
    process.emitWarning = emitWarning;
  }
  if (loaded === undefined) throw new P2pdError("unsupported", "this runtime has no QUIC (node:quic)");
  return loaded;
}

/** As ALPN names it (RFC 7301). The number grows when the first octets of the stream change their meaning. */
const PROTOCOL = "p2pd/1";
/**
 * The one that every TLS 1.3 has (RFC 8446 section 9.1), so that nothing has to be asked. It hashes with SHA-256,
 * which the exporter in `quic-proof.ts` counts on.
 */
export const CIPHER = "TLS_AES_128_GCM_SHA256";
/** Octets that may be on their way; what bounds a slow reader is in `quic-path.ts`. */
const STREAM_WINDOW = 8 * 1024 * 1024;
const CONTROL_WINDOW = 64 * 1024;
/** The largest that UDP could carry; what a path carries is found by QUIC. */
const MAX_DATAGRAM_FRAME = 65_527;
const IDLE_TIMEOUT_MS = 30_000;

/** How long a session lives without a sign of the peer; QUIC counts whole seconds here. */
export interface Patience {
  /** 30,000 by default. */
  readonly idleTimeoutMs?: number;
  /** Between two signs of ours; a third of that by default. */
  readonly keepAliveMs?: number | undefined;
}

/** Options of a session; `streams` is how many streams the peer may open. */
export function sessionOptions(streams: number, { idleTimeoutMs = IDLE_TIMEOUT_MS, keepAliveMs }: Patience) {
  return {
    ciphers: CIPHER,
    cc: "bbr",
    keylog: true, // the exporter secret comes this way
    keepAlive: keepAliveMs ?? Math.floor(idleTimeoutMs / 3),
    // Streams and sessions report errors by their promises; with a handler those need not be watched one by one.
    onerror() {},
    transportParams: {
      initialMaxData: STREAM_WINDOW + CONTROL_WINDOW,
      initialMaxStreamDataBidiLocal: STREAM_WINDOW,
      initialMaxStreamDataBidiRemote: STREAM_WINDOW,
      initialMaxStreamsBidi: streams,
      initialMaxStreamsUni: 1,
      initialMaxStreamDataUni: CONTROL_WINDOW,
      maxIdleTimeout: Math.ceil(idleTimeoutMs / 1000),
      maxDatagramFrameSize: MAX_DATAGRAM_FRAME,
    },
  } satisfies SessionOptions & { keepAlive: number };
}

/** What makes a session that of a server with `credentials`. */
export function serverOptions({ privateKeyPem, certificatePem }: Credentials): SessionOptions {
  return {
    alpn: [PROTOCOL],
    sni: {
      "*": { keys: [createPrivateKey(privateKeyPem)], certs: [new TextEncoder().encode(certificatePem)] },
    },
  };
}

/** What makes a session that of a client, which compares the server's key on its own. */
export function clientOptions(): SessionOptions {
  return { alpn: PROTOCOL, verifyPeer: "manual", servername: "p2pd" };
}

/** `mapped` writes IPv4 addresses into IPv6, as a socket on `::` wants them. */
export function socketAddressFor({ ip, port }: Endpoint, mapped = false): SocketAddress {
  const inIp6 = mapped && familyOf(ip) === 4;
  const family = inIp6 || familyOf(ip) === 6 ? "ipv6" : "ipv4";
  return new SocketAddress({ address: inIp6 ? `::ffff:${ip}` : ip, port, family });
}

export function endpointFor({ address, port }: SocketAddress): Endpoint {
  return { ip: canonicalIp(address) ?? address, port };
}

/**
 * The exporter secret of TLS (RFC 8446 section 7.1). A client has it, and the server's certificate, when it has
 * verified the server's Finished, and may send at once; `opened` of the runtime waits for another round trip, for
 * the server's confirmation. Rejects when the handshake fails, or with `unsupported`.
 */
export async function exporterSecretOf(session: Quic.QuicSession): Promise<Uint8Array> {
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
  onExporterSecret(session, resolve);
  session.opened.then(
    () => reject(new P2pdError("unsupported", "QUIC in this runtime shows no exporter")),
    reject,
  );
  return promise;
}

/**
 * The exporter secret as a listener has it when `session` is open. Undefined where the runtime has mislaid it: it
 * keeps the lines of unfinished handshakes by the caller's address, and one of them that fails takes those of all
 * others of this address with it. Rejects when the handshake fails.
 */
export async function exporterSecretWhenOpened(session: Quic.QuicSession): Promise<Uint8Array | undefined> {
  let last: Uint8Array | undefined;
  onExporterSecret(session, (secret) => {
    last = secret;
  });
  await session.opened;
  return last;
}

function onExporterSecret(session: Quic.QuicSession, found: (secret: Uint8Array) => void): void {
  session.onkeylog = (line) => {
    const match = /^EXPORTER_SECRET [0-9a-f]+ ([0-9a-f]{64})\s*$/.exec(line);
    if (match !== null) found(new Uint8Array(Buffer.from(match[1] as string, "hex")));
  };
}

/** The readable side of a stream: batches of pieces. */
export type StreamReader = AsyncIterator<readonly Uint8Array[]>;

/** The next `length` octets, and what came with them. Throws `protocol` if the stream ends before. */
export async function readHead(
  reader: StreamReader,
  length: number,
): Promise<{ head: Uint8Array; rest: Uint8Array }> {
  let had: Uint8Array = new Uint8Array(0);
  while (had.length < length) {
    const { done, value } = await reader.next();
    if (done === true) throw new P2pdError("protocol", "the caller ended its stream before its proof");
    had = Buffer.concat([had, ...value]);
  }
  return { head: new Uint8Array(had.subarray(0, length)), rest: new Uint8Array(had.subarray(length)) };
}

/** The writable side of a stream, as this runtime has it. */
export interface StreamWriter {
  /** Takes all of `chunk` or, returning false, nothing. */
  writeSync(chunk: Uint8Array): boolean;
  /** Ends this direction after what was written. */
  endSync(): number;
  /** Resolves when there is room again; null if there is room, or never will be. */
  drained(): Promise<unknown> | null;
}

// Its module, node:stream/iter, is not there to ask for the symbol.
const DRAINABLE = Symbol.for("Stream.drainableProtocol");

export function writerOf(stream: Quic.QuicStream): StreamWriter {
  const writer = stream.writer as unknown as Omit<StreamWriter, "drained"> & {
    [DRAINABLE](): Promise<unknown> | null;
  };
  return {
    writeSync: (chunk) => writer.writeSync(chunk),
    endSync: () => writer.endSync(),
    drained: () => writer[DRAINABLE](),
  };
}
