/**
 * Answers STUN's Binding requests (RFC 8489, RFC 5780 section 6, and RFC 3489 for those who still speak it): says where a
 * request came from, and where there are two addresses, answers from the one that was asked for. Pure: a request in, the
 * answer and its way out.
 */
import type { Endpoint } from "../ip.ts";
import * as kinds from "../wire/stun-attributes.ts";
import {
  BINDING,
  encodeStun,
  hasAttribute,
  readAttribute,
  type StunMessage,
  unknownRequired,
} from "../wire/stun.ts";

/** A UDP port on which the server hears, one of one or of four (two addresses, two ports each). */
export interface StunListener {
  /** Its address as clients know it. */
  readonly shown: Endpoint;
  /** Those with the other address, the other port and both changed; absent where there is one address. */
  readonly others?: {
    readonly ip: StunListener;
    readonly port: StunListener;
    readonly both: StunListener;
  };
}

export interface BindingAnswer<Listener> {
  readonly bytes: Uint8Array;
  readonly to: Endpoint;
  /** What it is sent from. */
  readonly from: Listener;
}

const KNOWN: ReadonlySet<number> = new Set(
  [
    kinds.CHANGE_REQUEST,
    kinds.PADDING,
    kinds.RESPONSE_PORT,
    kinds.MESSAGE_INTEGRITY,
    kinds.MESSAGE_INTEGRITY_SHA256,
    kinds.USERNAME,
    kinds.REALM,
    kinds.NONCE,
    kinds.USERHASH,
    kinds.PASSWORD_ALGORITHM,
  ].map(({ type }) => type),
);

/**
 * The answer to a Binding request that came from `from`. `listener` is undefined over TCP and TLS, where there is no
 * other address to answer from; `other` is then where the server listens as well, with both address and port different.
 */
export function answerBinding<Listener extends StunListener>(
  request: StunMessage,
  from: Endpoint,
  shown: Endpoint,
  listener: Listener | undefined,
  other?: Endpoint,
): BindingAnswer<Listener | undefined> {
  const fingerprint = hasAttribute(request, kinds.FINGERPRINT);
  const { transactionId, classic } = request;
  const base = { method: BINDING, transactionId, fingerprint } as const;
  const refuse = (code: number, reason: string, ...more: kinds.Attribute[]) => ({
    bytes: encodeStun({
      ...base,
      class: "error",
      attributes: [kinds.attribute(kinds.ERROR_CODE, { code, reason }), ...more],
    }),
    to: from,
    from: listener,
  });

  const unknown = unknownRequired(request, KNOWN);
  // RFC 3489 knew attributes that RFC 8489 does not; they may be ignored.
  if (unknown.length > 0 && !classic) {
    return refuse(420, "Unknown Attribute", kinds.attribute(kinds.UNKNOWN_ATTRIBUTES, unknown));
  }
  const change = readAttribute(request, kinds.CHANGE_REQUEST);
  const others = listener?.others;
  const wantsChange = change !== undefined && (change.changeIp || change.changePort);
  if (wantsChange && others === undefined) {
    // RFC 5780 section 6.1: a server without a second address knows no such attribute.
    const unsupported = kinds.attribute(kinds.UNKNOWN_ATTRIBUTES, [kinds.CHANGE_REQUEST.type]);
    return refuse(420, "Unknown Attribute", unsupported);
  }
  const responsePort = readAttribute(request, kinds.RESPONSE_PORT);
  const hasPadding = hasAttribute(request, kinds.PADDING);
  // RFC 5780 section 6.1: padding towards another port would be a weapon.
  if (responsePort === 0 || (responsePort !== undefined && (hasPadding || listener === undefined)))
    return refuse(400, "Bad Request");

  const via =
    listener === undefined || others === undefined || !wantsChange
      ? listener
      : ((change.changeIp ? (change.changePort ? others.both : others.ip) : others.port) as Listener);
  const origin = via?.shown ?? shown;
  const attributes = classic
    ? [kinds.attribute(kinds.MAPPED_ADDRESS, from), kinds.attribute(kinds.SOURCE_ADDRESS, origin)]
    : [kinds.attribute(kinds.XOR_MAPPED_ADDRESS, from), kinds.attribute(kinds.RESPONSE_ORIGIN, origin)];
  const elsewhere = others?.both.shown ?? other;
  if (elsewhere !== undefined) {
    const kind = classic ? kinds.CHANGED_ADDRESS : kinds.OTHER_ADDRESS;
    attributes.push(kinds.attribute(kind, elsewhere));
  }
  // As much as came, never more.
  if (hasPadding) attributes.push(kinds.attribute(kinds.PADDING, paddingOf(request)));
  return {
    bytes: encodeStun({ ...base, class: "success", attributes }),
    to: responsePort === undefined ? from : { ip: from.ip, port: responsePort },
    from: via,
  };
}

function paddingOf(request: StunMessage): Uint8Array {
  return new Uint8Array(readAttribute(request, kinds.PADDING)?.length ?? 0);
}
