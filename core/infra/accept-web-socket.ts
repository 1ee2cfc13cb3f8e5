/**
 * The server's side of a WebSocket handshake for MQTT (RFC 6455 section 4.2, MQTT 5 section 6): reads one bounded request
 * head, answers it, and gives the stream of what the messages carry.
 */
import { createHash } from "node:crypto";
import { P2pdError } from "../errors.ts";
import { resumeStream } from "../net/resume-stream.ts";
import { createWebSocketStream } from "../net/web-socket-stream.ts";
import type { ByteStream, World } from "../net/world.ts";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const HEAD_MAX_LENGTH = 8192;
const HEAD_TIMEOUT_MS = 10_000;
/** How long a client that was refused may take to end its half of the connection. */
const LINGER_MS = 1000;

/** Rejects with `protocol`, `closed` or `timeout`; the stream is then answered and closed. */
export function acceptWebSocket(time: World["time"], stream: ByteStream): Promise<ByteStream> {
  const { promise, resolve, reject } = Promise.withResolvers<ByteStream>();
  let head = Buffer.alloc(0);
  let isDone = false;
  const fail = (error: P2pdError, status?: string): void => {
    if (isDone) return;
    isDone = true;
    timer.cancel();
    if (status !== undefined) {
      stream.write(Buffer.from(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`));
      stream.end();
      time.after(LINGER_MS, () => stream.abort(), { background: true });
    } else stream.abort(error);
    reject(error);
  };
  const timer = time.after(
    HEAD_TIMEOUT_MS,
    () => fail(new P2pdError("timeout", "no request head within 10 s"), "408 Request Timeout"),
    { background: true },
  );
  stream.attach({
    data(bytes) {
      if (isDone) return;
      head = Buffer.concat([head, bytes]);
      const end = head.indexOf("\r\n\r\n");
      if (end < 0) {
        if (head.length > HEAD_MAX_LENGTH) {
          fail(
            new P2pdError("protocol", "the request head is too long"),
            "431 Request Header Fields Too Large",
          );
        }
        return;
      }
      const answer = answerTo(head.toString("latin1", 0, end));
      if ("wrong" in answer) return fail(new P2pdError("protocol", answer.wrong), "426 Upgrade Required");
      isDone = true;
      timer.cancel();
      stream.write(Buffer.from(answer.head));
      // Until somebody listens to the messages, nothing more is read.
      stream.pause();
      resolve(createWebSocketStream(time, resumeStream(stream, new Uint8Array(head.subarray(end + 4)))));
    },
    drain() {},
    end: () => fail(new P2pdError("closed", "the client closed during the WebSocket handshake")),
    close: (error) =>
      fail(error ?? new P2pdError("closed", "the client closed during the WebSocket handshake")),
  });
  return promise;
}

function answerTo(head: string): { readonly head: string } | { readonly wrong: string } {
  const [request = "", ...lines] = head.split("\r\n");
  if (!/^GET \S+ HTTP\/1\.1$/.test(request)) return { wrong: "no GET request of HTTP/1.1" };
  const fields = new Map(
    lines.map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  const tokens = (name: string): string[] => (fields.get(name) ?? "").split(",").map((token) => token.trim());
  if (!tokens("upgrade").some((token) => token.toLowerCase() === "websocket")) {
    return { wrong: "no upgrade to a WebSocket was asked for" };
  }
  if (fields.get("sec-websocket-version") !== "13") return { wrong: "Sec-WebSocket-Version is not 13" };
  const key = fields.get("sec-websocket-key") ?? "";
  if (!/^[0-9A-Za-z+/]{22}==$/.test(key)) return { wrong: "Sec-WebSocket-Key is not 16 octets in base64" };
  const protocol = tokens("sec-websocket-protocol").find((token) => token === "mqtt" || token === "mqttv3.1");
  if (protocol === undefined) return { wrong: 'the protocol "mqtt" was not offered' };
  const accept = createHash("sha1")
    .update(key + GUID)
    .digest("base64");
  return {
    head:
      "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n" +
      `sec-websocket-accept: ${accept}\r\nsec-websocket-protocol: ${protocol}\r\n\r\n`,
  };
}
