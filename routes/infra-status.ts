/**
 * The HTTP port of `p2pd infra`: a page, JSON and metrics, read only. Each connection carries one request, whose head is
 * bounded in length and time. It tells nobody a password.
 */
import type { Infra } from "../core/infra/infra.ts";
import type { Endpoint } from "../core/ip.ts";
import type { ByteStream, World } from "../core/net/world.ts";
import { createGuard } from "./guard.ts";
import { infraMetrics, infraPage, infraStatus } from "./infra-pages.ts";

export interface InfraStatusServer {
  readonly local: Endpoint;
  close(): void;
}

const HEAD_MAX_LENGTH = 8192;
const TIMEOUT_MS = 10_000;
const CONNECTIONS_MAX = 64;

/** Rejects with `address-in-use` or `unreachable`. */
export async function serveInfraStatus(
  world: World,
  infra: Infra,
  local: Endpoint,
): Promise<InfraStatusServer> {
  const { time } = world;
  const guard = createGuard({ apiHost: local.ip });
  const open = new Set<ByteStream>();

  function answer(head: string): string {
    const [line = "", ...lines] = head.split("\r\n");
    const request = /^(GET|HEAD) (\/[^\s?]*)(?:\?\S*)? HTTP\/1\.[01]$/.exec(line);
    const field = (name: string): string | null =>
      lines
        .find((one) => one.toLowerCase().startsWith(`${name}:`))
        ?.slice(name.length + 1)
        .trim() ?? null;
    if (request === null) return response("405 Method Not Allowed", "text/plain", "expected GET\n");
    const refusal = guard.check({ header: field, url: request[2] as string });
    if (refusal !== undefined) return response("403 Forbidden", "text/plain", `${refusal.message}\n`);
    const now = time.now();
    const whole =
      request[2] === "/"
        ? response("200 OK", "text/html; charset=utf-8", infraPage(infra, now))
        : request[2] === "/status"
          ? response("200 OK", "application/json", `${JSON.stringify(infraStatus(infra, now))}\n`)
          : request[2] === "/metrics"
            ? response("200 OK", "text/plain; version=0.0.4; charset=utf-8", infraMetrics(infra, now))
            : response("404 Not Found", "text/plain", "expected /, /status or /metrics\n");
    return request[1] === "HEAD" ? whole.slice(0, whole.indexOf("\r\n\r\n") + 4) : whole;
  }

  const listener = await world.listenTcp({
    local,
    accept(stream) {
      if (open.size >= CONNECTIONS_MAX) return stream.abort();
      open.add(stream);
      const timer = time.after(TIMEOUT_MS, () => stream.abort(), { background: true });
      let head = "";
      let isAnswered = false;
      stream.attach({
        data(bytes) {
          if (isAnswered) return;
          head += Buffer.from(bytes).toString("latin1");
          const end = head.indexOf("\r\n\r\n");
          if (end < 0 && head.length <= HEAD_MAX_LENGTH) return;
          isAnswered = true;
          stream.write(
            Buffer.from(
              end < 0
                ? response("431 Request Header Fields Too Large", "text/plain", "the head is too long\n")
                : answer(head.slice(0, end)),
            ),
          );
          stream.end();
        },
        drain() {},
        end: () => stream.end(),
        close() {
          timer.cancel();
          open.delete(stream);
        },
      });
    },
  });
  return {
    local: listener.local,
    close() {
      listener.close();
      for (const stream of open) stream.abort();
    },
  };
}

function response(status: string, type: string, body: string): string {
  return [
    `HTTP/1.1 ${status}`,
    `content-type: ${type}`,
    `content-length: ${Buffer.byteLength(body)}`,
    "cache-control: no-store",
    "connection: close",
    "",
    body,
  ].join("\r\n");
}
