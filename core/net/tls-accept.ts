/** TLS in a server's role towards clients that prove nothing, such as those of a TURN server or a broker. */
import { P2pdError, toP2pdError } from "../errors.ts";
import { formatEndpoint } from "../ip.ts";
import { upgradeToTls } from "./tls-upgrade.ts";
import type { AcceptTlsOptions, ByteStream } from "./world.ts";

const TLS_1_2 = 0x0303;

/** See `World.acceptTls`. */
export function acceptTls(stream: ByteStream, options: AcceptTlsOptions): Promise<ByteStream> {
  const what = `TLS with ${formatEndpoint(stream.remote)}`;
  const failed = (thrown: unknown): P2pdError => {
    if (thrown === undefined) return new P2pdError("closed", `${what}: the client closed in the handshake`);
    const why = toP2pdError(thrown).message;
    return new P2pdError("protocol", `${what}: the handshake failed (${why})`, {}, { cause: thrown });
  };
  return upgradeToTls(stream, {
    what,
    isServer: true,
    timeoutMs: options.timeoutMs,
    tls: { cert: options.certificatePem, key: options.privateKeyPem, minVersion: TLS_1_2 },
    judge(socket, error) {
      if (!socket.getCipher()?.name) throw failed(error ?? undefined);
      return {};
    },
    explain: (thrown) => (thrown instanceof P2pdError ? thrown : failed(thrown)),
  });
}
