/**
 * The datagram by which two nodes feel for a hole: 24 octets, worth something only to whom has both secrets of the
 * signals. Its first octet is that of no STUN message (RFC 8489 section 5) and of no QUIC packet (RFC 9000 section
 * 17: bit 0x40), so that neither takes it for its own.
 *
 *      0        1        2        4                8                24
 *     +--------+--------+--------+----------------+----------------+
 *     | 0x81   | kind   | 0      | number         | HMAC-SHA256/16 |
 *     +--------+--------+--------+----------------+----------------+
 *
 * An answer is as long as what it answers, and the kind says who sent it: nothing is gained by sending a datagram back,
 * or elsewhere.
 */
import { createHmac, timingSafeEqual } from "node:crypto";

export const PROBE_LENGTH = 24;
const FORM = 0x81;
const TAG_AT = 8;
const KINDS = { callerProbe: 1, callerEcho: 2, calledProbe: 3, calledEcho: 4 } as const;
const NAMES = Object.keys(KINDS) as readonly (keyof typeof KINDS)[];

/** `echo` answers a datagram of the other side. */
export interface PunchProbe {
  readonly from: "caller" | "called";
  readonly kind: "probe" | "echo";
  /** Of the shot, 32 bits. */
  readonly number: number;
}

/** The key of all probes of one request, from the secrets that both signals carried. */
export function probeKey(request: string, callerSecret: string, calledSecret: string): Uint8Array {
  return createHmac("sha256", `${callerSecret}.${calledSecret}`)
    .update(`p2pd/1 punch probe\0${request}`)
    .digest();
}

export function encodeProbe({ from, kind, number }: PunchProbe, key: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(PROBE_LENGTH);
  const view = new DataView(bytes.buffer);
  bytes[0] = FORM;
  bytes[1] = KINDS[`${from}${kind === "probe" ? "Probe" : "Echo"}`];
  view.setUint32(4, number);
  bytes.set(tagOf(bytes, key), TAG_AT);
  return bytes;
}

/** Undefined for whatever is no probe made with this key. */
export function decodeProbe(bytes: Uint8Array, key: Uint8Array): PunchProbe | undefined {
  if (bytes.length !== PROBE_LENGTH || bytes[0] !== FORM || bytes[2] !== 0 || bytes[3] !== 0)
    return undefined;
  const name = NAMES.find((known) => KINDS[known] === bytes[1]);
  if (name === undefined || !timingSafeEqual(bytes.subarray(TAG_AT), tagOf(bytes, key))) return undefined;
  return {
    from: name.startsWith("caller") ? "caller" : "called",
    kind: name.endsWith("Probe") ? "probe" : "echo",
    number: new DataView(bytes.buffer, bytes.byteOffset).getUint32(4),
  };
}

function tagOf(bytes: Uint8Array, key: Uint8Array): Uint8Array {
  return createHmac("sha256", key).update(bytes.subarray(0, TAG_AT)).digest().subarray(0, 16);
}
