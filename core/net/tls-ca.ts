/**
 * TLS to a server that has a name and a certificate of an authority (RFC 8446, RFC 6125): brokers and TURN servers,
 * not nodes, whose keys `tls.ts` compares. The authorities are the runtime's, and those of NODE_EXTRA_CA_CERTS.
 */
import { checkServerIdentity } from "node:tls";
import { P2pdError } from "../errors.ts";
import { formatEndpoint } from "../ip.ts";
import { upgradeToTls } from "./tls-upgrade.ts";
import type { ByteStream, SecureServerOptions } from "./world.ts";

/** See `World.secureServer`. */
export function secureServer(stream: ByteStream, options: SecureServerOptions): Promise<ByteStream> {
  const { serverName, authorities, timeoutMs, signal } = options;
  const what = `TLS to ${serverName} at ${formatEndpoint(stream.remote)}`;
  return upgradeToTls(stream, {
    what,
    isServer: false,
    timeoutMs,
    signal,
    tls: {
      rejectUnauthorized: false,
      serverName,
      ...(authorities === undefined ? {} : { ca: [...authorities] }),
    },
    judge(socket, error) {
      const wrong = error ?? checkServerIdentity(serverName, socket.getPeerCertificate());
      if (wrong === undefined) return {};
      throw new P2pdError("peer-key", `${what}: its certificate is not trusted (${wrong.message})`);
    },
    explain(thrown) {
      if (thrown instanceof P2pdError) return thrown;
      const why = thrown instanceof Error ? thrown.message : "the server closed";
      return new P2pdError("closed", `${what}: the handshake failed (${why})`, {}, { cause: thrown });
    },
  });
}
