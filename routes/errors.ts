/**
 * The one table of the API's errors: which number and which HTTP status each code of `P2pdError` has, and the
 * JSON in which it is told. The numbers up to 10 are those that P2PD's users know. docs/api.md shows this table.
 */
import { type ErrorCode, P2pdError, toP2pdError } from "../core/errors.ts";

export interface ErrorKind {
  /** The value of `error` in the answer. */
  readonly number: number;
  readonly status: number;
  readonly meaning: string;
}

export const ERRORS: Readonly<Record<ErrorCode, ErrorKind>> = {
  "no-such-route": {
    number: 1,
    status: 404,
    meaning: "no such method: no request has this path (405 where it has the path, but not the verb)",
  },
  "name-taken": { number: 2, status: 409, meaning: "a connection of this name exists" },
  "connect-failed": {
    number: 3,
    status: 502,
    meaning: "no strategy reached the peer; `attempts` says why, one by one",
  },
  "no-such-connection": { number: 4, status: 404, meaning: "no connection has this name" },
  "receive-timeout": {
    number: 5,
    status: 504,
    meaning: "the timeout that was asked for passed, and nothing was received",
  },
  "nothing-received": { number: 6, status: 404, meaning: "nothing was received" },
  "send-failed": { number: 8, status: 502, meaning: "the connection did not take what was sent" },
  "subscription-exists": {
    number: 9,
    status: 409,
    meaning: "the connection has a subscription of this name",
  },
  "reserved-name": { number: 10, status: 409, meaning: "the program keeps this name for itself" },
  "bad-argument": {
    number: 11,
    status: 400,
    meaning: "a part of the request is malformed; `msg` names it, what it was and what was expected",
  },
  "no-such-subscription": {
    number: 12,
    status: 404,
    meaning: "the connection has no subscription of this name",
  },
  "no-such-service": { number: 13, status: 404, meaning: "no service has this name" },
  "no-such-peer": { number: 14, status: 404, meaning: "no peer is known by this name or id" },
  "pipe-busy": {
    number: 15,
    status: 409,
    meaning: "another client has turned this connection into its pipe",
  },
  "too-large": { number: 16, status: 413, meaning: "the request is longer than allowed (431 for its head)" },
  "foreign-request": {
    number: 17,
    status: 403,
    meaning: "Host is not a name of this machine, or Origin is a foreign site",
  },
  unauthorized: { number: 18, status: 401, meaning: "the API token is missing or wrong" },
  timeout: {
    number: 19,
    status: 504,
    meaning: "something did not answer in time (408 for a request that never ended)",
  },
  closed: { number: 20, status: 410, meaning: "the connection was closed meanwhile" },
  aborted: { number: 21, status: 499, meaning: "the request was given up by its client" },
  protocol: { number: 22, status: 502, meaning: "the other side broke the protocol" },
  "peer-key": {
    number: 23,
    status: 502,
    meaning: "whoever answered did not prove the key that the address names",
  },
  refused: { number: 24, status: 502, meaning: "the other side refused the connection" },
  unreachable: { number: 25, status: 502, meaning: "the host or network cannot be reached" },
  "address-in-use": { number: 26, status: 409, meaning: "another program has this port" },
  unsupported: { number: 27, status: 501, meaning: "this version or platform cannot do it" },
  unavailable: { number: 28, status: 503, meaning: "not possible at the moment; `GET /p2p/status` says why" },
  "corrupt-file": { number: 29, status: 500, meaning: "a file of the node is damaged; `msg` names it" },
  configuration: { number: 30, status: 500, meaning: "the configuration has a wrong value" },
  internal: { number: 31, status: 500, meaning: "a fault of the program" },
};

/** P2PD 3.x numbered an unknown name so in `/info/NAME`; 2.x, and every other request here, says 4. */
export const INFO_UNKNOWN_NUMBER = 7;

/** What is told of a failure: `error`, `code`, `msg`, and the facts that the error carries. */
export function errorBody(error: P2pdError): Record<string, unknown> {
  return { ...error.detail, error: ERRORS[error.code].number, code: error.code, msg: error.message };
}

/** An HTTP answer for whatever was thrown. `status` replaces the table's where HTTP has a closer one. */
export function errorResponse(
  thrown: unknown,
  status?: number,
  headers: Record<string, string> = {},
): Response {
  const error = toP2pdError(thrown);
  const body = errorBody(error);
  return new Response(stringify(body), {
    status: status ?? ERRORS[error.code].status,
    headers: { "content-type": "application/json", ...headers },
  });
}

function stringify(body: Record<string, unknown>): string {
  try {
    return JSON.stringify(body);
  } catch (thrown) {
    // A detail that JSON has no form for must not hide the error itself.
    const msg = `${String(body["msg"])} (its details cannot be shown: ${String(thrown)})`;
    return JSON.stringify({ error: body["error"], code: body["code"], msg });
  }
}

/** `bad-argument` that names what was wrong, what it was, and what was expected. */
export function badArgument(what: string, got: string, expected: string, field = what): P2pdError {
  const shown = got.length > 80 ? `${got.slice(0, 80)}… (${got.length} characters)` : got;
  return new P2pdError("bad-argument", `${what} is ${JSON.stringify(shown)}; expected ${expected}`, {
    field,
    expected,
  });
}
