/**
 * HTTP answers that the front door writes itself, on connections that never reach the HTTP server. Each is the
 * last thing said on its connection.
 */
import type { P2pdError } from "../core/errors.ts";
import type { ByteStream, World } from "../core/net/world.ts";
import { ERRORS, errorBody } from "./errors.ts";

/** How long a refused client may go on sending before the connection is reset. */
const LINGER_MS = 1000;

const REASONS: Readonly<Record<number, string>> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  408: "Request Timeout",
  409: "Conflict",
  410: "Gone",
  426: "Upgrade Required",
  431: "Request Header Fields Too Large",
  501: "Not Implemented",
  503: "Service Unavailable",
  505: "HTTP Version Not Supported",
};

/**
 * Answers with the error in JSON and closes. What the client still sends is swallowed for a moment: a reset on
 * unread data would destroy the answer on its way.
 */
export function refuseConnection(
  time: World["time"],
  client: ByteStream,
  error: P2pdError,
  status: number = ERRORS[error.code].status,
  headers: Readonly<Record<string, string>> = {},
): void {
  const body = JSON.stringify(errorBody(error));
  const lines = [
    `HTTP/1.1 ${status} ${REASONS[status] ?? "Error"}`,
    "content-type: application/json",
    `content-length: ${Buffer.byteLength(body)}`,
    "connection: close",
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  ];
  const timer = time.after(LINGER_MS, () => client.abort(), { background: true });
  client.attach({ data() {}, drain() {}, end() {}, close: () => timer.cancel() });
  client.write(Buffer.from(`${lines.join("\r\n")}\r\n\r\n${body}`));
  client.end();
  client.resume();
}
