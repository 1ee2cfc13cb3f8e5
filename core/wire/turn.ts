/**
 * What TURN adds to STUN: its methods and attributes (RFC 8656 sections 17 and 18, RFC 6062 section 6), and the
 * ChannelData message. What the values mean to an allocation is left to `core/infra/` and `core/turn/`; finding
 * messages in a byte stream to `stun-stream.ts`.
 */
import { P2pdError } from "../errors.ts";
import { addressKind, type AttributeKind, bytesKind, flagKind, numberKind } from "./stun-attributes.ts";

export const ALLOCATE = 0x003;
export const REFRESH = 0x004;
export const SEND = 0x006;
export const DATA_METHOD = 0x007;
export const CREATE_PERMISSION = 0x008;
export const CHANNEL_BIND = 0x009;
/** RFC 6062. */
export const CONNECT = 0x00a;
export const CONNECTION_BIND = 0x00b;
export const CONNECTION_ATTEMPT = 0x00c;

/** REQUESTED-TRANSPORT's values: IANA's protocol numbers. */
export const TRANSPORT_TCP = 6;
export const TRANSPORT_UDP = 17;
/** REQUESTED-ADDRESS-FAMILY's values. */
export const FAMILY_IP4 = 1;
export const FAMILY_IP6 = 2;

/** RFC 8656 section 12 leaves the numbers up to 0x4fff in use; clients of RFC 5766 choose from all of these. */
export const CHANNEL_FIRST = 0x4000;
export const CHANNEL_LAST = 0x7fff;

export const CHANNEL_NUMBER = numberKind(0x000c, "CHANNEL-NUMBER", 2);
/** Seconds. */
export const LIFETIME = numberKind(0x000d, "LIFETIME", 4);
export const XOR_PEER_ADDRESS = addressKind(0x0012, "XOR-PEER-ADDRESS", true);
export const DATA = bytesKind(0x0013, "DATA");
export const XOR_RELAYED_ADDRESS = addressKind(0x0016, "XOR-RELAYED-ADDRESS", true);
export const REQUESTED_ADDRESS_FAMILY = numberKind(0x0017, "REQUESTED-ADDRESS-FAMILY", 1);
export const REQUESTED_TRANSPORT = numberKind(0x0019, "REQUESTED-TRANSPORT", 1);
export const DONT_FRAGMENT = flagKind(0x001a, "DONT-FRAGMENT");
export const RESERVATION_TOKEN = bytesKind(0x0022, "RESERVATION-TOKEN", 8, 8);
export const CONNECTION_ID = numberKind(0x002a, "CONNECTION-ID", 4);
export const ADDITIONAL_ADDRESS_FAMILY = numberKind(0x8000, "ADDITIONAL-ADDRESS-FAMILY", 1);

/** RFC 8656 section 18.6: whether the next higher port shall be kept too. The seven other bits are ignored. */
export const EVEN_PORT: AttributeKind<boolean> = {
  type: 0x0018,
  name: "EVEN-PORT",
  size: () => 1,
  write(reserveNext, into) {
    into[0] = reserveNext ? 0x80 : 0;
  },
  read: (bytes) => (bytes.length === 1 ? ((bytes[0] as number) & 0x80) !== 0 : undefined),
};

export interface AddressError {
  /** `FAMILY_IP4` or `FAMILY_IP6`: the family of which there is no relayed address. */
  readonly family: number;
  readonly code: number;
  readonly reason: string;
}

/** RFC 8656 section 18.12: why one of two families is missing in a success. */
export const ADDRESS_ERROR_CODE: AttributeKind<AddressError> = {
  type: 0x8001,
  name: "ADDRESS-ERROR-CODE",
  size({ code, reason }) {
    if (!Number.isInteger(code) || code < 300 || code > 699) {
      throw new P2pdError("bad-argument", `ADDRESS-ERROR-CODE is a number from 300 to 699, not ${code}`);
    }
    const size = Buffer.byteLength(reason, "utf8");
    if (size > 763) throw new P2pdError("bad-argument", `a reason has at most 763 octets, not ${size}`);
    return 4 + size;
  },
  write({ family, code, reason }, into) {
    into[0] = family;
    into[2] = Math.floor(code / 100);
    into[3] = code % 100;
    into.set(Buffer.from(reason, "utf8"), 4);
  },
  read(bytes) {
    if (bytes.length < 4 || bytes.length > 767) return undefined;
    const [family, hundreds, rest] = [bytes[0] as number, (bytes[2] as number) & 7, bytes[3] as number];
    if ((family !== FAMILY_IP4 && family !== FAMILY_IP6) || hundreds < 3 || hundreds > 6 || rest > 99) {
      return undefined;
    }
    return { family, code: hundreds * 100 + rest, reason: Buffer.from(bytes.subarray(4)).toString("utf8") };
  },
};

export const CHANNEL_HEADER_OCTETS = 4;

/**
 * The ChannelData message (RFC 8656 section 12.4): its channel and where its data stand in `bytes`. Over UDP there may
 * be padding behind the data. Undefined for what is none.
 *
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |         Channel Number        |            Length             |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                       Application Data                       ...
 */
export function decodeChannelData(
  bytes: Uint8Array,
): { readonly channel: number; readonly data: Uint8Array } | undefined {
  if (bytes.length < CHANNEL_HEADER_OCTETS) return undefined;
  const channel = ((bytes[0] as number) << 8) | (bytes[1] as number);
  const length = ((bytes[2] as number) << 8) | (bytes[3] as number);
  if (channel < CHANNEL_FIRST || channel > CHANNEL_LAST) return undefined;
  if (length > bytes.length - CHANNEL_HEADER_OCTETS) return undefined;
  return { channel, data: bytes.subarray(CHANNEL_HEADER_OCTETS, CHANNEL_HEADER_OCTETS + length) };
}

/** How long the message with so many octets of data is; `padded` as over TCP and TLS (section 12.5). */
export function channelDataOctets(length: number, padded: boolean): number {
  return CHANNEL_HEADER_OCTETS + (padded ? (length + 3) & ~3 : length);
}

/**
 * Writes a ChannelData message to the start of `into` and returns that part of it; its padding is zero. Throws
 * `bad-argument` for a channel that is none, and data that do not fit.
 */
export function encodeChannelData(
  channel: number,
  data: Uint8Array,
  padded: boolean,
  into = new Uint8Array(channelDataOctets(data.length, padded)),
): Uint8Array {
  if (!(channel >= CHANNEL_FIRST && channel <= CHANNEL_LAST)) {
    throw new P2pdError("bad-argument", `a channel is a number from 0x4000 to 0x7fff, not ${channel}`);
  }
  const size = channelDataOctets(data.length, padded);
  if (data.length > 0xffff || size > into.length) {
    throw new P2pdError("bad-argument", `a ChannelData message cannot hold ${data.length} octets here`);
  }
  into[0] = channel >> 8;
  into[1] = channel & 255;
  into[2] = data.length >> 8;
  into[3] = data.length & 255;
  into.set(data, CHANNEL_HEADER_OCTETS);
  for (let i = CHANNEL_HEADER_OCTETS + data.length; i < size; i++) into[i] = 0;
  return into.subarray(0, size);
}
