/**
 * An HTTP/1.1 answer (RFC 9112) as it comes in, read to its end: by Content-Length, by chunks, or by the close of the
 * connection. Bounded, for answers of devices that nobody trusts.
 */

export interface HttpAnswer {
  readonly status: number;
  readonly body: Uint8Array;
}

const MAX_HEAD_OCTETS = 8192;
const MAX_BODY_OCTETS = 131_072;

/**
 * Reads what has come so far. `ended`: nothing more will come. Undefined while more is needed; a text that says what
 * is wrong with it.
 */
export function decodeHttpAnswer(bytes: Uint8Array, ended: boolean): HttpAnswer | string | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = buffer.indexOf("\r\n\r\n");
  if (end < 0 || end > MAX_HEAD_OCTETS) {
    if (buffer.length > MAX_HEAD_OCTETS) return `its head has more than ${MAX_HEAD_OCTETS} octets`;
    return ended ? "it ended within its head" : undefined;
  }
  const [first = "", ...lines] = buffer.toString("latin1", 0, end).split("\r\n");
  const status = /^HTTP\/1\.[01] ([1-5][0-9]{2})( |$)/.exec(first)?.[1];
  if (status === undefined) return "it is no HTTP";
  const rest = buffer.subarray(end + 4);
  if (status.startsWith("1")) return decodeHttpAnswer(rest, ended);
  const body = readBody(lines, rest, ended);
  if (body === undefined || typeof body === "string") return body;
  return { status: Number(status), body };
}

function readBody(
  lines: readonly string[],
  rest: Uint8Array,
  ended: boolean,
): Uint8Array | string | undefined {
  const field = (name: string): string | undefined =>
    lines
      .find((line) => line.slice(0, line.indexOf(":")).toLowerCase() === name)
      ?.replace(/^[^:]*:/, "")
      .trim();
  if (/\bchunked\b/i.test(field("transfer-encoding") ?? "")) return readChunks(rest, ended);
  const length = field("content-length");
  const wanted = length === undefined ? undefined : /^[0-9]{1,9}$/.test(length) ? Number(length) : Number.NaN;
  if (Number.isNaN(wanted)) return "its Content-Length is no number";
  if ((wanted ?? rest.length) > MAX_BODY_OCTETS) return `its body has more than ${MAX_BODY_OCTETS} octets`;
  if (wanted !== undefined && rest.length >= wanted) return rest.slice(0, wanted);
  if (!ended) return undefined;
  // Some routers count wrongly; what is missing then shows in the document.
  return rest.slice();
}

function readChunks(bytes: Uint8Array, ended: boolean): Uint8Array | string | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const pieces: Uint8Array[] = [];
  let total = 0;
  for (let at = 0; ; ) {
    const lineEnd = buffer.indexOf("\r\n", at);
    if (lineEnd < 0) {
      if (buffer.length - at > 64) return "the length of a chunk never ends";
      return ended ? "it ended within its chunks" : undefined;
    }
    const size = /^([0-9a-fA-F]{1,6})\s*(;|$)/.exec(buffer.toString("latin1", at, lineEnd))?.[1];
    if (size === undefined) return "the length of a chunk is no number";
    const length = Number.parseInt(size, 16);
    if (length === 0) return new Uint8Array(Buffer.concat(pieces));
    total += length;
    if (total > MAX_BODY_OCTETS) return `its body has more than ${MAX_BODY_OCTETS} octets`;
    if (buffer.length < lineEnd + 2 + length + 2) return ended ? "it ended within its chunks" : undefined;
    pieces.push(buffer.subarray(lineEnd + 2, lineEnd + 2 + length));
    at = lineEnd + 2 + length + 2;
  }
}
