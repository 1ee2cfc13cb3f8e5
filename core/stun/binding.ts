/**
 * The Binding request: asks a server which address it sees (RFC 8489 section 3), with the questions of RFC 5780
 * about other addresses. Reads the answer of servers from RFC 3489 to RFC 8489 alike and makes errors of error
 * responses. What the answers say of a NAT is judged elsewhere.
 */
import { type ErrorCode, P2pdError } from "../errors.ts";
import { type Endpoint, familyOf, formatEndpoint, sameEndpoint, scopeOf } from "../ip.ts";
import * as kinds from "../wire/stun-attributes.ts";
import { readAttribute, type StunMessage } from "../wire/stun.ts";
import type { StunResponse, StunTransport } from "./exchange.ts";

export interface BindingOptions {
  /** Asks the server to answer from its other address, its other port, or both (RFC 5780 section 7.2). */
  readonly changeIp?: boolean;
  readonly changePort?: boolean;
  /** Where an answer to the above must come from; absent, it may be one that differs as asked. */
  readonly changedTo?: Endpoint;
  /** RTO in milliseconds; 500 unless given. */
  readonly rtoMs?: number;
  /** Milliseconds until it gives up; 39,500 unless given. */
  readonly timeoutMs?: number;
  /** Sends no magic cookie: for servers that know RFC 3489 only and dislike one. */
  readonly classic?: boolean;
  /** How many times a 300 (Try Alternate) is followed; 1 unless given. */
  readonly maxRedirects?: number;
  readonly signal?: AbortSignal;
}

export interface BindingResult {
  /** The address the server sees. */
  readonly mapped: Endpoint;
  /** Where the answer came from. */
  readonly from: Endpoint;
  /**
   * Whether the answer came from where it was asked to. False only after CHANGE-REQUEST, from a server that
   * ignored it or answered from elsewhere: such an answer says nothing about filtering.
   */
  readonly honoured: boolean;
  /** The server's second address (OTHER-ADDRESS, or CHANGED-ADDRESS of RFC 3489). */
  readonly otherAddress?: Endpoint;
  /** Where the server says it answered from (RESPONSE-ORIGIN, or SOURCE-ADDRESS of RFC 3489). */
  readonly responseOrigin?: Endpoint;
  readonly software?: string;
  /** Milliseconds; with `sent` above 1 an upper bound. */
  readonly rttMs: number;
  readonly sent: number;
}

/**
 * Asks `server` over `transport`. Over TCP `server` is the stream's other end, and nothing can be changed. Rejects
 * as `StunTransport.request` does, and for error responses: `unsupported` for 420 with `detail.unknownAttributes`,
 * `unauthorized` for 401, 403 and 438, `unavailable` for 300 that is not followed and for 5xx, `protocol` for
 * others and for answers without an address or with port 0; `detail.stunCode` has the number.
 */
export async function bindingRequest(
  transport: StunTransport,
  server: Endpoint,
  options: BindingOptions = {},
): Promise<BindingResult> {
  const { changeIp = false, changePort = false } = options;
  const changing = changeIp || changePort;
  if (changing && transport.reliable) {
    throw new P2pdError(
      "bad-argument",
      "a server cannot answer over TCP from another address; use UDP for CHANGE-REQUEST",
    );
  }
  const asked = new Set<string>();
  let to = server;
  for (let redirects = options.maxRedirects ?? 1; ; redirects--) {
    asked.add(formatEndpoint(to));
    const response = await transport.request({
      to,
      attributes: changing ? [kinds.attribute(kinds.CHANGE_REQUEST, { changeIp, changePort })] : [],
      fromAnyone: changing,
      ...pick(options, "rtoMs", "timeoutMs", "classic", "signal"),
    });
    if (response.message.class === "success") return readBinding(response, to, options);
    const alternate = readAttribute(response.message, kinds.ALTERNATE_SERVER);
    const error = errorOf(response.message, response.from, alternate);
    const follow =
      error.detail["stunCode"] === 300 && redirects > 0 && !transport.reliable && alternate !== undefined;
    if (!follow || asked.has(formatEndpoint(alternate)) || !mayFollow(to, alternate)) throw error;
    to = alternate;
  }
}

/** Whether to go where a stranger points: not to this machine, this network, or everyone. */
export function mayFollow(from: Endpoint, alternate: Endpoint): boolean {
  const scope = scopeOf(alternate.ip);
  const sameKind = scope === "public" || scope === scopeOf(from.ip);
  return (
    sameKind && alternate.port !== 0 && scope !== "multicast" && familyOf(alternate.ip) === familyOf(from.ip)
  );
}

function readBinding(
  { message, from, rttMs, sent }: StunResponse,
  to: Endpoint,
  options: BindingOptions,
): BindingResult {
  const mapped =
    readAttribute(message, kinds.XOR_MAPPED_ADDRESS) ??
    readAttribute(message, kinds.OLD_XOR_MAPPED_ADDRESS) ??
    readAttribute(message, kinds.MAPPED_ADDRESS);
  if (mapped === undefined) {
    throw new P2pdError(
      "protocol",
      `${formatEndpoint(from)} answered a Binding request without a mapped address`,
    );
  }
  if (mapped.port === 0) {
    const text = `${formatEndpoint(from)} sees ${formatEndpoint(mapped)}: nobody sends from port 0`;
    throw new P2pdError("protocol", text);
  }
  return {
    mapped,
    from,
    honoured: isHonoured(from, to, options),
    rttMs,
    sent,
    ...present(
      "otherAddress",
      readAttribute(message, kinds.OTHER_ADDRESS) ?? readAttribute(message, kinds.CHANGED_ADDRESS),
    ),
    ...present(
      "responseOrigin",
      readAttribute(message, kinds.RESPONSE_ORIGIN) ?? readAttribute(message, kinds.SOURCE_ADDRESS),
    ),
    ...present("software", readAttribute(message, kinds.SOFTWARE)),
  };
}

function isHonoured(
  from: Endpoint,
  to: Endpoint,
  { changeIp = false, changePort = false, changedTo }: BindingOptions,
): boolean {
  if (!changeIp && !changePort) return true; // the exchange takes no answer from elsewhere
  if (changedTo !== undefined) return sameEndpoint(from, changedTo);
  return (from.ip !== to.ip) === changeIp && (from.port !== to.port) === changePort;
}

function errorOf(message: StunMessage, from: Endpoint, alternate: Endpoint | undefined): P2pdError {
  const error = readAttribute(message, kinds.ERROR_CODE);
  const who = formatEndpoint(from);
  if (error === undefined) return new P2pdError("protocol", `${who} answered with an error that has no code`);
  const { code: stunCode, reason } = error;
  const detail = {
    stunCode,
    reason,
    ...present("alternate", alternate),
    ...present("unknownAttributes", readAttribute(message, kinds.UNKNOWN_ATTRIBUTES)),
  };
  // Quoted and cut, for it is a stranger's text that ends in logs and answers.
  const text = `${who} answered with error ${stunCode} ${JSON.stringify(reason.slice(0, 120))}`;
  return new P2pdError(errorCode(stunCode), text, detail);
}

function errorCode(stunCode: number): ErrorCode {
  if (stunCode === 420) return "unsupported";
  if (stunCode === 401 || stunCode === 403 || stunCode === 438) return "unauthorized";
  return stunCode < 400 || stunCode >= 500 ? "unavailable" : "protocol";
}

function present<K extends string, T>(key: K, value: T | undefined): { [P in K]?: T } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]?: T });
}

function pick<T extends object, K extends keyof T>(from: T, ...keys: readonly K[]): Pick<T, K> {
  return Object.fromEntries(
    keys.filter((key) => from[key] !== undefined).map((key) => [key, from[key]]),
  ) as Pick<T, K>;
}
