/**
 * Reads the head of a connection's first request as far as the front door needs it (RFC 9112, sections 2 to 5):
 * where it ends, and whether it asks for a pipe. Pure: octets in, verdict out. Every head that is no pipe's is
 * passed on unchanged, so that nobody else's reading of it can differ from ours.
 */

/** A request for a pipe: the connection's remaining octets belong to the pipe. */
export interface PipeRequest {
  /** Still percent-encoded. */
  readonly name: string;
  /** Path and query as they were sent. */
  readonly target: string;
  readonly form: "plain" | "p2pd" | "websocket";
  /** By lower-case name. */
  readonly headers: ReadonlyMap<string, string>;
}

export type Verdict =
  | { readonly kind: "more" }
  /** For the HTTP server, from octet `start` on: empty lines ahead of a request are forgiven here, not there. */
  | { readonly kind: "pass"; readonly start: number }
  | { readonly kind: "pipe"; readonly request: PipeRequest; readonly end: number }
  | { readonly kind: "refuse"; readonly status: number; readonly reason: string };

const MORE: Verdict = { kind: "more" };
const METHODS: readonly string[] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
const CR = 13;
const LF = 10;
const REQUEST_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~\u0080-\u00ff]+) HTTP\/([0-9])\.([0-9])$/;
const PIPE_PATH = /^\/(?:p2p\/pipe|p2p\/tunnel|pipe|tunnel)\/([^/?#]*)(?:\?[^#]*)?$/;
const HEADER = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/;

/** One connection's head, given piece by piece. */
export function createHeadReader(maximumOctets: number): (soFar: Uint8Array) => Verdict {
  let scanned = 0;
  let lineStart = 0;
  let started = false;
  let start = 0;

  /** Takes all octets since the connection began; those of earlier calls are not looked at again. */
  return (soFar) => {
    const limit = Math.min(soFar.length, maximumOctets);
    for (; scanned < limit; scanned++) {
      if (soFar[scanned] !== LF) {
        const octet = soFar[scanned] as number;
        if (!started && octet !== CR) {
          if (octet <= 32 || octet >= 127) return refuse(400, describeFirst(soFar));
          started = true;
          start = scanned;
          lineStart = scanned;
        }
        continue;
      }
      if (scanned === 0 || soFar[scanned - 1] !== CR) {
        return refuse(400, "a line of the request head ends in LF alone; expected CR LF");
      }
      const isEmpty = scanned === lineStart + 1;
      lineStart = scanned + 1;
      // An empty line ahead of the request is forgiven (RFC 9112, section 2.2).
      if (isEmpty && started) return judge(latin1(soFar.subarray(start, scanned - 3)), start, scanned + 1);
    }
    if (limit < maximumOctets) return MORE;
    return refuse(431, `the request head is longer than ${maximumOctets} octets`);
  };
}

function judge(head: string, start: number, end: number): Verdict {
  const lines = head.split("\r\n");
  const line = lines[0] as string;
  const match = REQUEST_LINE.exec(line);
  if (match === null) return refuse(400, `the request line is ${quote(line)}; expected METHOD PATH HTTP/1.1`);
  const [, method, target, major, minor] = match as unknown as [string, string, string, string, string];
  if (major !== "1") return refuse(505, `the request line is ${quote(line)}; expected HTTP/1.1 or HTTP/1.0`);
  const path = target.startsWith("/") ? target : target.replace(/^https?:\/\/[^/?#]*/i, "");
  const pipe = method === "GET" ? PIPE_PATH.exec(path) : null;
  if (pipe === null) {
    // The HTTP server would close without a word, or with one that is not JSON.
    if (!METHODS.includes(method))
      return refuse(501, `the method is ${quote(method)}; expected one of ${METHODS.join(", ")}`);
    if (minor !== "0" && !/\r\nhost:/i.test(head))
      return refuse(400, "the request has no Host header; HTTP/1.1 demands one");
    return { kind: "pass", start };
  }
  const headers = new Map<string, string>();
  for (const text of lines.slice(1)) {
    const header = HEADER.exec(text);
    if (header === null)
      return refuse(400, `a header line is ${quote(text)}; expected NAME: VALUE on one line`);
    const name = (header[1] as string).toLowerCase();
    const value = header[2] as string;
    const before = headers.get(name);
    if (name === "host" && before !== undefined)
      return refuse(400, "the request has two Host headers; expected one");
    headers.set(name, before === undefined ? value : `${before}, ${value}`);
  }
  if (headers.has("transfer-encoding") || (headers.get("content-length") ?? "0") !== "0") {
    return refuse(400, "a request for a pipe has no body: send the data after the head, without a length");
  }
  return {
    kind: "pipe",
    request: { name: pipe[1] as string, target: path, form: formOf(headers), headers },
    end,
  };
}

/** An upgrade to anything else may be ignored (RFC 9110, section 7.8). */
function formOf(headers: ReadonlyMap<string, string>): PipeRequest["form"] {
  const offers = tokens(headers.get("upgrade"));
  if (!tokens(headers.get("connection")).includes("upgrade")) return "plain";
  return offers.includes("websocket") ? "websocket" : offers.includes("p2pd") ? "p2pd" : "plain";
}

function tokens(list: string | undefined): string[] {
  return (list ?? "").split(",").map((token) => token.trim().toLowerCase());
}

function describeFirst(octets: Uint8Array): string {
  const isTls = octets[0] === 0x16 && octets[1] === 3;
  return isTls
    ? "this is a TLS handshake; the API speaks plain HTTP, so use http:// instead of https://"
    : "this is no HTTP request; expected METHOD PATH HTTP/1.1";
}

function refuse(status: number, reason: string): Verdict {
  return { kind: "refuse", status, reason };
}

function latin1(octets: Uint8Array): string {
  return Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength).toString("latin1");
}

function quote(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
}
