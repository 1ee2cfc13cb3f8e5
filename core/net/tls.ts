/**
 * TLS 1.3 (RFC 8446) on a stream that stands, in either role whoever connected. Certificates are self-signed
 * wrappings of a node's P-256 key: no authority vouches for them, so the handshake accepts any, and the
 * proven key itself is compared here with the one that was dialled.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { formatEndpoint } from "../ip.ts";
import { bridgeStream } from "./bridge-stream.ts";
import { type BunSocket, createSocketStream, takeSocket, TLS_SOCKET_HANDLERS } from "./socket-stream.ts";
import type { SocketEvents, TakenSocket } from "./socket-stream.ts";
import type { ByteStream, SecureOptions, SecureStream } from "./world.ts";

const TLS_1_3 = 0x0304;

/** See `World.secure`. A stream that is no socket of this machine is first carried over a local one. */
export async function secure(stream: ByteStream, options: SecureOptions): Promise<SecureStream> {
  const taken = takeSocket(stream) ?? takeSocket(await bridgeStream(stream));
  if (taken === undefined) throw new P2pdError("internal", "a bridged stream has no socket");
  return handshake(taken, stream, options);
}

/** Bun's upgrade, with the role that its declarations leave out. */
type Upgrade = (options: {
  readonly isServer: boolean;
  readonly data: SocketEvents;
  readonly tls: Bun.TLSOptions & { readonly minVersion: number; readonly maxVersion: number };
  readonly socket: Bun.SocketHandler<SocketEvents>;
}) => [raw: BunSocket, tls: BunSocket];

function handshake(taken: TakenSocket, under: ByteStream, options: SecureOptions): Promise<SecureStream> {
  const { role, credentials, expectedKey, timeoutMs, signal } = options;
  const { local, remote } = under;
  const raw = taken.socket;
  const what = `TLS as ${role}, ${formatEndpoint(local)} -> ${formatEndpoint(remote)}`;
  const { promise, resolve, reject } = Promise.withResolvers<SecureStream>();
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
  if (signal?.aborted === true) {
    onAbort();
    return promise;
  }
  if (taken.ended !== undefined) {
    fail(new P2pdError("closed", `${what}: ${taken.ended.message}`, {}, { cause: taken.ended }));
    return promise;
  }

  const closedEarly = (error: Error | undefined): void => fail(handshakeError(error, what));
  const events: SocketEvents = {
    data: (bytes) => inner?.events.data(bytes),
    drain: () => inner?.events.drain(),
    end() {
      if (inner === undefined) closedEarly(undefined);
      else inner.events.end();
    },
    error(error) {
      if (inner === undefined) closedEarly(error);
      else inner.events.error(error);
    },
    close(error) {
      if (inner === undefined) closedEarly(error);
      else inner.events.close(error);
    },
    handshake(socket, error) {
      if (finished) return;
      secured = socket;
      try {
        // A failed handshake is reported here too; one that only found the certificate self-signed has a cipher.
        if (!socket.getCipher()?.name) return closedEarly(error ?? undefined);
        const peerKey = provenKey(socket, what);
        if (expectedKey !== undefined && !sameOctets(peerKey, expectedKey)) {
          const text = `${what}: expected the key ${textOf(expectedKey)}, the peer proved ${textOf(peerKey)}`;
          throw new P2pdError("peer-key", text, { expected: textOf(expectedKey), got: textOf(peerKey) });
        }
        const cipher = socket.getCipher().standardName;
        inner = createSocketStream(socket, local, remote);
        finish();
        resolve(Object.assign(inner.stream, { peerKey, cipher }));
      } catch (thrown) {
        fail(thrown instanceof P2pdError ? thrown : handshakeError(thrown, what));
      }
    },
  };
  taken.redirect({ close: closedEarly, end() {} });
  try {
    raw.resume();
    [, secured] = (raw.upgradeTLS as unknown as Upgrade).call(raw, {
      isServer: role === "server",
      data: events,
      tls: {
        key: credentials.privateKeyPem,
        cert: credentials.certificatePem,
        requestCert: true,
        rejectUnauthorized: false,
        minVersion: TLS_1_3,
        maxVersion: TLS_1_3,
      },
      socket: TLS_SOCKET_HANDLERS,
    });
    if (finished) secured.terminate();
  } catch (thrown) {
    fail(handshakeError(thrown, what));
  }
  return promise;
}

/** Compressed form (SEC 1, 2.3.3) of the P-256 key that the peer's certificate carries and TLS has proved. */
function provenKey(socket: BunSocket, what: string): Uint8Array {
  const certificate = socket.getPeerCertificate() as Partial<
    ReturnType<BunSocket["getPeerCertificate"]>
  > | null;
  const point = certificate?.pubkey;
  if (point === undefined) throw new P2pdError("peer-key", `${what}: the peer showed no certificate`);
  if (certificate?.asn1Curve !== "prime256v1" || point.length !== 65 || point[0] !== 4) {
    const curve = certificate?.asn1Curve ?? "no elliptic curve";
    throw new P2pdError("peer-key", `${what}: expected a P-256 key, the peer's is on ${curve}`);
  }
  const key = new Uint8Array(point.subarray(0, 33));
  key[0] = 2 + ((point[64] as number) & 1);
  return key;
}

function handshakeError(thrown: unknown, what: string): P2pdError {
  if (thrown instanceof P2pdError) return thrown;
  if (thrown === undefined) return new P2pdError("closed", `${what}: the peer closed during the handshake`);
  const text = toP2pdError(thrown).message;
  const system = thrown instanceof Error && "code" in thrown ? String(thrown.code) : "";
  const wasCut = system === "ECONNRESET" || system === "EPIPE";
  if (wasCut)
    return new P2pdError("closed", `${what}: the peer closed during the handshake (${system})`, { system });
  return new P2pdError("protocol", `${what}: ${text}`, { system }, { cause: thrown });
}

function sameOctets(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((octet, i) => octet === b[i]);
}

function textOf(key: Uint8Array): string {
  return key.toBase64({ alphabet: "base64url", omitPadding: true });
}
