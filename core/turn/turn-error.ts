/** What a TURN server's refusals mean to whoever asked (RFC 8656 section 19, RFC 6062 section 6.3). */
import { type ErrorCode, P2pdError } from "../errors.ts";
import { type Endpoint, formatEndpoint } from "../ip.ts";
import { ALTERNATE_SERVER, ERROR_CODE } from "../wire/stun-attributes.ts";
import { readAttribute, type StunMessage } from "../wire/stun.ts";

const MEANINGS: Readonly<Record<number, readonly [code: ErrorCode, words: string]>> = {
  300: ["unavailable", "sends us to another server"],
  400: ["protocol", "does not understand our request"],
  401: ["unauthorized", "does not accept the user or the password"],
  403: ["refused", "does not relay to that peer"],
  420: ["unsupported", "does not know an attribute that we need"],
  437: ["closed", "knows no allocation of ours"],
  438: ["unauthorized", "calls every nonce stale"],
  440: ["unsupported", "has no addresses of that family"],
  441: ["unauthorized", "says that the allocation is another user's"],
  442: ["unsupported", "does not relay over that transport"],
  443: ["bad-argument", "has no relayed address of the peer's family for us"],
  446: ["name-taken", "has that connection already"],
  447: ["unreachable", "could not connect to the peer"],
  486: ["unavailable", "gives this user no more allocations"],
  508: ["unavailable", "has no capacity left"],
};

/** The error that an error response is; `detail` has `turnCode`, and `alternate` where it names another server. */
export function turnError(message: StunMessage, server: Endpoint): P2pdError {
  const error = readAttribute(message, ERROR_CODE);
  const where = `the TURN server ${formatEndpoint(server)}`;
  if (error === undefined) return new P2pdError("protocol", `${where} refuses without a code`);
  const [code, words] = MEANINGS[error.code] ?? ["unavailable", "refuses"];
  const alternate = error.code === 300 ? readAttribute(message, ALTERNATE_SERVER) : undefined;
  return new P2pdError(code, `${where} ${words} (${error.code} ${error.reason})`, {
    turnCode: error.code,
    ...(alternate === undefined ? {} : { alternate }),
  });
}

/** The number of the error response behind an error; undefined where there was none. */
export function turnCodeOf(error: unknown): number | undefined {
  const code = error instanceof P2pdError ? error.detail["turnCode"] : undefined;
  return typeof code === "number" ? code : undefined;
}
