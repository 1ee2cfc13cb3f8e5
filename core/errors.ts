/**
 * The one error type of the project. Whoever catches a failure decides by `code`; the text is for
 * people and always names the input that was wrong and what was expected. `routes/` alone turns
 * codes into HTTP statuses and the API's error numbers.
 */

export const ERROR_CODES = [
  "bad-argument",
  "name-taken",
  "reserved-name",
  "connect-failed",
  "no-such-connection",
  "no-such-subscription",
  "no-such-service",
  "no-such-peer",
  "no-such-route",
  "receive-timeout",
  "nothing-received",
  "send-failed",
  "subscription-exists",
  "pipe-busy",
  "too-large",
  "foreign-request",
  "unauthorized",
  "timeout",
  "closed",
  "aborted",
  "protocol",
  "peer-key",
  "refused",
  "unreachable",
  "address-in-use",
  "unsupported",
  "unavailable",
  "corrupt-file",
  "configuration",
  "internal",
] as const;

/** The closed set of reasons anything in P2PD can fail for. */
export type ErrorCode = (typeof ERROR_CODES)[number];

/** Every failure that leaves a function of this project. `detail` carries machine-readable facts. */
export class P2pdError extends Error {
  override readonly name = "P2pdError";

  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly detail: Readonly<Record<string, unknown>> = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Makes a P2pdError of whatever was thrown; one that already is passes through unchanged. */
export function toP2pdError(thrown: unknown, code: ErrorCode = "internal", context = ""): P2pdError {
  if (thrown instanceof P2pdError) return thrown;
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  return new P2pdError(code, context === "" ? text : `${context}: ${text}`, {}, { cause: thrown });
}
