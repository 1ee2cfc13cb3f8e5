/**
 * A connection that asked for a pipe becomes one, in the form that it asked for: at once and without a word
 * (plain GET, as in P2PD), after `101 Switching Protocols` (`Upgrade: p2pd`), or as a WebSocket. Errors are
 * ordinary HTTP answers, as long as nothing of the pipe has been said.
 */
import { createHash } from "node:crypto";
import { P2pdError, toP2pdError } from "../core/errors.ts";
import type { ByteStream, World } from "../core/net/world.ts";
import type { NodeApi } from "../core/node/node-api.ts";
import { badArgument } from "./errors.ts";
import { corsHeaders, type Guard } from "./guard.ts";
import { withEarly } from "./early-stream.ts";
import { refuseConnection } from "./raw-answer.ts";
import type { PipeRequest } from "./request-head.ts";
import { createWebSocketStream } from "../core/net/web-socket-stream.ts";

/** RFC 6455, section 1.3. */
const WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/** Joins the connection with the pipe it asks for, or answers why not. `early` came behind the request's head. */
export function openPipeConnection(
  world: World,
  node: NodeApi,
  guard: Guard,
  request: PipeRequest,
  client: ByteStream,
  early: Uint8Array,
): void {
  let started = false;
  const fail = (thrown: unknown): void => {
    const error = toP2pdError(thrown);
    if (started) client.abort(error);
    else if (error.code === "protocol")
      refuseConnection(world.time, client, error, 426, { "sec-websocket-version": "13" });
    else refuseConnection(world.time, client, error);
  };
  try {
    const { headers } = request;
    const origin = headers.get("origin") ?? null;
    const refusal = guard.check({ header: (name) => headers.get(name) ?? null, url: request.target });
    if (refusal !== undefined) throw refusal;
    if (request.form === "plain" && headers.has("sec-fetch-mode")) {
      throw new P2pdError(
        "bad-argument",
        "a browser cannot read a plain pipe; open a WebSocket on the same path",
      );
    }
    const { pipe } = node.connection(nameOf(request));
    const greeting = greetingFor(request, origin);
    const stream = withEarly(client, early, greeting, () => (started = true));
    pipe.join(request.form === "websocket" ? createWebSocketStream(world.time, stream) : stream).catch(fail);
  } catch (thrown) {
    fail(thrown);
  }
}

function nameOf(request: PipeRequest): string {
  if (request.name === "") throw badArgument("the name", "", "the name of a connection behind /p2p/pipe/");
  try {
    return decodeURIComponent(request.name);
  } catch {
    throw badArgument("the name", request.name, "percent-encoded UTF-8");
  }
}

/** What is sent before the pipe's own octets. */
function greetingFor({ form, headers }: PipeRequest, origin: string | null): Uint8Array | undefined {
  if (form === "plain") return undefined;
  const lines = ["HTTP/1.1 101 Switching Protocols", "connection: Upgrade"];
  if (form === "p2pd") lines.push("upgrade: p2pd");
  else lines.push("upgrade: websocket", ...acceptWebSocket(headers));
  if (origin !== null)
    lines.push(...Object.entries(corsHeaders(origin)).map(([name, value]) => `${name}: ${value}`));
  return Buffer.from(`${lines.join("\r\n")}\r\n\r\n`);
}

/** RFC 6455, section 4.2.2. */
function acceptWebSocket(headers: PipeRequest["headers"]): string[] {
  const version = headers.get("sec-websocket-version") ?? "";
  if (version !== "13") throw new P2pdError("protocol", `Sec-WebSocket-Version is "${version}"; expected 13`);
  const key = headers.get("sec-websocket-key") ?? "";
  if (!/^[0-9A-Za-z+/]{22}==$/.test(key)) throw badArgument("Sec-WebSocket-Key", key, "16 octets in base64");
  const lines = [
    `sec-websocket-accept: ${createHash("sha1")
      .update(key + WEBSOCKET_GUID)
      .digest("base64")}`,
  ];
  // A browser that offers protocols gives up unless one is chosen; octets fit all of them.
  const offered = headers.get("sec-websocket-protocol")?.split(",")[0]?.trim();
  if (offered !== undefined && /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(offered))
    lines.push(`sec-websocket-protocol: ${offered}`);
  return lines;
}
