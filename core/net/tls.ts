/**
 * TLS 1.3 (RFC 8446) on a stream that stands, in either role whoever connected. Certificates are self-signed
 * wrappings of a node's P-256 key: no authority vouches for them, so the handshake accepts any, and the
 * proven key itself is compared here with the one that was dialled.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { formatEndpoint } from "../ip.ts";
import type { BunSocket } from "./socket-stream.ts";
import { upgradeToTls } from "./tls-upgrade.ts";
import type { ByteStream, SecureOptions, SecureStream } from "./world.ts";

const TLS_1_3 = 0x0304;

/** See `World.secure`. */
export function secure(stream: ByteStream, options: SecureOptions): Promise<SecureStream> {
  const { role, credentials, expectedKey, timeoutMs, signal } = options;
  const what = `TLS as ${role}, ${formatEndpoint(stream.local)} -> ${formatEndpoint(stream.remote)}`;
  return upgradeToTls(stream, {
    what,
    isServer: role === "server",
    timeoutMs,
    signal,
    tls: {
      key: credentials.privateKeyPem,
      cert: credentials.certificatePem,
      requestCert: true,
      rejectUnauthorized: false,
      minVersion: TLS_1_3,
      maxVersion: TLS_1_3,
    },
    judge(socket, error) {
      // A failed handshake is reported here too; one that only found the certificate self-signed has a cipher.
      if (!socket.getCipher()?.name) throw handshakeError(error ?? undefined, what);
      const peerKey = provenKey(socket, what);
      if (expectedKey !== undefined && !sameOctets(peerKey, expectedKey)) {
        const text = `${what}: expected the key ${textOf(expectedKey)}, the peer proved ${textOf(peerKey)}`;
        throw new P2pdError("peer-key", text, { expected: textOf(expectedKey), got: textOf(peerKey) });
      }
      return { peerKey, cipher: socket.getCipher().standardName };
    },
    explain: (thrown) => handshakeError(thrown, what),
  });
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
