/**
 * What STUN attributes hold: one `AttributeKind` per attribute, with its number, its size and its two
 * translations. A protocol that adds attributes (TURN, ICE) declares more kinds from the makers here; the
 * message around them is in `stun.ts`, keys and checksums in `stun-integrity.ts`.
 *
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |         Type                  |            Length             |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                         Value (variable)                ....
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 */
import { P2pdError } from "../errors.ts";
import { type Endpoint, formatIp, parseIp } from "../ip.ts";

/**
 * One attribute's translation. `header` is the message's first 20 octets, which XOR addresses are mixed with.
 * `read` gets octets from the network: it returns undefined for what the attribute's section forbids and
 * never throws. `size` and `write` get values of this program and throw `bad-argument`.
 */
export interface AttributeKind<T> {
  readonly type: number;
  readonly name: string;
  /** Octets of the value, padding not counted. */
  size(value: T): number;
  /** Fills `into`, which has exactly `size` octets, all zero. */
  write(value: T, into: Uint8Array, header: Uint8Array): void;
  read(bytes: Uint8Array, header: Uint8Array): T | undefined;
}

/** A kind with a value, ready to be encoded. */
export interface Attribute {
  readonly type: number;
  readonly size: number;
  write(into: Uint8Array, header: Uint8Array): void;
}

/** Pairs a kind with a value for `encodeStun`. Throws `bad-argument` for a value its section forbids. */
export function attribute<T>(kind: AttributeKind<T>, value: T): Attribute {
  return {
    type: kind.type,
    size: kind.size(value),
    write: (into, header) => kind.write(value, into, header),
  };
}

/** RFC 8489 section 14.3: how many octets each text may have. */
const MAX_USERNAME = 508;
const MAX_TEXT = 763;

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const utf8Encoder = new TextEncoder();

/** A kind whose value is UTF-8 text of at most `maxBytes` octets. */
export function textKind(type: number, name: string, maxBytes = MAX_TEXT): AttributeKind<string> {
  return {
    type,
    name,
    size(value) {
      const size = Buffer.byteLength(value, "utf8");
      if (size > maxBytes) throw tooLong(name, size, maxBytes);
      return size;
    },
    write: (value, into) => void utf8Encoder.encodeInto(value, into),
    read: (bytes) => (bytes.length > maxBytes ? undefined : decodeUtf8(bytes)),
  };
}

/** A kind whose value is octets; `read` returns a view of the datagram. */
export function bytesKind(
  type: number,
  name: string,
  minBytes = 0,
  maxBytes = 65_532,
): AttributeKind<Uint8Array> {
  return {
    type,
    name,
    size(value) {
      if (value.length < minBytes || value.length > maxBytes) {
        throw new P2pdError(
          "bad-argument",
          `${name} has ${minBytes} to ${maxBytes} octets, not ${value.length}`,
        );
      }
      return value.length;
    },
    write: (value, into) => into.set(value),
    read: (bytes) => (bytes.length < minBytes || bytes.length > maxBytes ? undefined : bytes),
  };
}

/** A kind whose value is an unsigned number in the first `octets` octets of `size`, the rest being zero. */
export function numberKind(
  type: number,
  name: string,
  octets: 1 | 2 | 4,
  size: 4 | 1 | 2 = 4,
): AttributeKind<number> {
  return {
    type,
    name,
    size(value) {
      if (!Number.isInteger(value) || value < 0 || value >= 2 ** (8 * octets)) {
        throw new P2pdError("bad-argument", `${name} is a whole number of ${octets} octets, not ${value}`);
      }
      return size;
    },
    write(value, into) {
      for (let i = 0; i < octets; i++) into[i] = (value / 2 ** (8 * (octets - 1 - i))) & 255;
    },
    read(bytes) {
      if (bytes.length !== size) return undefined;
      let value = 0;
      for (let i = 0; i < octets; i++) value = value * 256 + (bytes[i] as number);
      return value;
    },
  };
}

/** A kind without a value: being there says it all. */
export function flagKind(type: number, name: string): AttributeKind<true> {
  return {
    type,
    name,
    size: () => 0,
    write: () => {},
    read: (bytes) => (bytes.length === 0 ? true : undefined),
  };
}

/**
 * A kind whose value is an address (RFC 8489 section 14.1), or, with `xor`, one mixed with the header's
 * cookie and transaction id so that routers which rewrite addresses in payloads leave it alone (section 14.2).
 *
 * |0 0 0 0 0 0 0 0|    Family     |           Port                |
 * |                 Address (32 or 128 bits)                     ...
 */
export function addressKind(type: number, name: string, xor: boolean): AttributeKind<Endpoint> {
  return {
    type,
    name,
    size: ({ ip, port }) => 4 + addressOctets(name, ip, port).length,
    write({ ip, port }, into, header) {
      const octets = addressOctets(name, ip, port);
      into[1] = octets.length === 4 ? 1 : 2;
      into[2] = (port >> 8) ^ (xor ? (header[4] as number) : 0);
      into[3] = (port & 255) ^ (xor ? (header[5] as number) : 0);
      for (let i = 0; i < octets.length; i++) {
        into[4 + i] = (octets[i] as number) ^ (xor ? (header[4 + i] as number) : 0);
      }
    },
    read(bytes, header) {
      const octets = bytes[1] === 1 ? 4 : bytes[1] === 2 ? 16 : 0;
      if (octets === 0 || bytes.length !== 4 + octets) return undefined;
      let port = ((bytes[2] as number) << 8) | (bytes[3] as number);
      if (!xor) return { ip: formatIp(bytes.subarray(4)), port };
      port ^= ((header[4] as number) << 8) | (header[5] as number);
      const plain = new Uint8Array(octets);
      for (let i = 0; i < octets; i++) plain[i] = (bytes[4 + i] as number) ^ (header[4 + i] as number);
      return { ip: formatIp(plain), port };
    },
  };
}

function addressOctets(name: string, ip: string, port: number): Uint8Array {
  const octets = parseIp(ip);
  if (octets === undefined) throw new P2pdError("bad-argument", `${name} needs an IP address, not "${ip}"`);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new P2pdError("bad-argument", `${name} needs a port from 0 to 65535, not ${port}`);
  }
  return octets;
}

function tooLong(name: string, size: number, maxBytes: number): P2pdError {
  return new P2pdError("bad-argument", `${name} has at most ${maxBytes} octets, not ${size}`);
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
}

// RFC 8489 section 14.

export const MAPPED_ADDRESS = addressKind(0x0001, "MAPPED-ADDRESS", false);
export const XOR_MAPPED_ADDRESS = addressKind(0x0020, "XOR-MAPPED-ADDRESS", true);
/** What servers written between RFC 3489 and RFC 5389 send in place of XOR-MAPPED-ADDRESS. */
export const OLD_XOR_MAPPED_ADDRESS = addressKind(0x8020, "XOR-MAPPED-ADDRESS (old)", true);
export const USERNAME = textKind(0x0006, "USERNAME", MAX_USERNAME);
export const USERHASH = bytesKind(0x001e, "USERHASH", 32, 32);
export const REALM = textKind(0x0014, "REALM");
export const SOFTWARE = textKind(0x8022, "SOFTWARE");
export const ALTERNATE_SERVER = addressKind(0x8023, "ALTERNATE-SERVER", false);
export const ALTERNATE_DOMAIN = textKind(0x8003, "ALTERNATE-DOMAIN", 255);
/** Read by `verifyIntegrity`; written by `encodeStun` from its `integrity`. */
export const MESSAGE_INTEGRITY = bytesKind(0x0008, "MESSAGE-INTEGRITY", 20, 20);
export const MESSAGE_INTEGRITY_SHA256 = bytesKind(0x001c, "MESSAGE-INTEGRITY-SHA256", 16, 32);
/** Checked by `decodeStun`; written by `encodeStun` when asked for `fingerprint`. */
export const FINGERPRINT = numberKind(0x8028, "FINGERPRINT", 4);

/** One character per octet, so that whatever a server calls a nonce is given back to it unchanged. */
export const NONCE: AttributeKind<string> = {
  type: 0x0015,
  name: "NONCE",
  size(value) {
    if (value.length > MAX_TEXT) throw tooLong("NONCE", value.length, MAX_TEXT);
    if (/[^\0-\u00ff]/.test(value)) {
      throw new P2pdError("bad-argument", "NONCE has characters above U+00FF; expected one per octet");
    }
    return value.length;
  },
  write(value, into) {
    for (let i = 0; i < value.length; i++) into[i] = value.charCodeAt(i);
  },
  read: (bytes) => (bytes.length > MAX_TEXT ? undefined : String.fromCharCode(...bytes)),
};

/** `code` is 300 to 699. */
export interface StunErrorCode {
  readonly code: number;
  readonly reason: string;
}

/** RFC 8489 section 14.8: the hundreds digit and the rest apart, then the reason in UTF-8. */
export const ERROR_CODE: AttributeKind<StunErrorCode> = {
  type: 0x0009,
  name: "ERROR-CODE",
  size({ code, reason }) {
    if (!Number.isInteger(code) || code < 300 || code > 699) {
      throw new P2pdError("bad-argument", `ERROR-CODE is a number from 300 to 699, not ${code}`);
    }
    const size = Buffer.byteLength(reason, "utf8");
    if (size > MAX_TEXT) throw tooLong("ERROR-CODE's reason", size, MAX_TEXT);
    return 4 + size;
  },
  write({ code, reason }, into) {
    into[2] = Math.floor(code / 100);
    into[3] = code % 100;
    utf8Encoder.encodeInto(reason, into.subarray(4));
  },
  read(bytes) {
    if (bytes.length < 4 || bytes.length > 4 + MAX_TEXT) return undefined;
    const hundreds = (bytes[2] as number) & 7;
    const rest = bytes[3] as number;
    if (hundreds < 3 || hundreds > 6 || rest > 99) return undefined;
    // The reason is for people only: one in another charset takes nothing from the code.
    return { code: hundreds * 100 + rest, reason: decodeUtf8(bytes.subarray(4)) ?? "" };
  },
};

/** RFC 8489 section 14.9. RFC 3489 repeated the last number to fill four octets; that is harmless. */
export const UNKNOWN_ATTRIBUTES: AttributeKind<readonly number[]> = {
  type: 0x000a,
  name: "UNKNOWN-ATTRIBUTES",
  size: (types) => 2 * types.length,
  write(types, into) {
    types.forEach((type, i) => {
      into[2 * i] = type >> 8;
      into[2 * i + 1] = type & 255;
    });
  },
  read(bytes) {
    if (bytes.length % 2 !== 0 || bytes.length > 128) return undefined;
    return Array.from({ length: bytes.length / 2 }, (_, i) => readU16(bytes, 2 * i));
  },
};

/** IANA's "STUN Password Algorithms". */
export const PASSWORD_MD5 = 1;
export const PASSWORD_SHA256 = 2;

export interface PasswordAlgorithm {
  readonly algorithm: number;
  readonly parameters: Uint8Array;
}

/** RFC 8489 section 14.12. */
export const PASSWORD_ALGORITHM: AttributeKind<PasswordAlgorithm> = {
  type: 0x001d,
  name: "PASSWORD-ALGORITHM",
  size: algorithmSize,
  write: writeAlgorithm,
  read(bytes) {
    const read = readAlgorithm(bytes, 0);
    return read === undefined || algorithmSize(read) !== bytes.length ? undefined : read;
  },
};

/** RFC 8489 section 14.11, in the server's order of preference. */
export const PASSWORD_ALGORITHMS: AttributeKind<readonly PasswordAlgorithm[]> = {
  type: 0x8002,
  name: "PASSWORD-ALGORITHMS",
  size: (list) => list.reduce((sum, one) => sum + algorithmSize(one), 0),
  write(list, into) {
    let at = 0;
    for (const one of list) {
      writeAlgorithm(one, into.subarray(at));
      at += algorithmSize(one);
    }
  },
  read(bytes) {
    const list: PasswordAlgorithm[] = [];
    for (let at = 0; at < bytes.length; ) {
      const one = readAlgorithm(bytes, at);
      if (one === undefined || list.length === 16) return undefined;
      list.push(one);
      at += algorithmSize(one);
    }
    return list;
  },
};

function algorithmSize({ parameters }: PasswordAlgorithm): number {
  return 4 + Math.ceil(parameters.length / 4) * 4;
}

function writeAlgorithm({ algorithm, parameters }: PasswordAlgorithm, into: Uint8Array): void {
  into[0] = algorithm >> 8;
  into[1] = algorithm & 255;
  into[2] = parameters.length >> 8;
  into[3] = parameters.length & 255;
  into.set(parameters, 4);
}

function readAlgorithm(bytes: Uint8Array, at: number): PasswordAlgorithm | undefined {
  if (at + 4 > bytes.length) return undefined;
  const length = readU16(bytes, at + 2);
  if (at + 4 + Math.ceil(length / 4) * 4 > bytes.length) return undefined;
  return { algorithm: readU16(bytes, at), parameters: bytes.subarray(at + 4, at + 4 + length) };
}

function readU16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

// RFC 5780 section 7: NAT behaviour discovery.

export interface ChangeRequest {
  readonly changeIp: boolean;
  readonly changePort: boolean;
}

export const CHANGE_REQUEST: AttributeKind<ChangeRequest> = {
  type: 0x0003,
  name: "CHANGE-REQUEST",
  size: () => 4,
  write({ changeIp, changePort }, into) {
    into[3] = (changeIp ? 4 : 0) | (changePort ? 2 : 0);
  },
  read(bytes) {
    if (bytes.length !== 4) return undefined;
    const flags = bytes[3] as number;
    return { changeIp: (flags & 4) !== 0, changePort: (flags & 2) !== 0 };
  },
};
export const PADDING = bytesKind(0x0026, "PADDING");
export const RESPONSE_PORT = numberKind(0x0027, "RESPONSE-PORT", 2);
export const RESPONSE_ORIGIN = addressKind(0x802b, "RESPONSE-ORIGIN", false);
export const OTHER_ADDRESS = addressKind(0x802c, "OTHER-ADDRESS", false);

// RFC 3489 section 11.2: what servers of that age send for the two above.

export const SOURCE_ADDRESS = addressKind(0x0004, "SOURCE-ADDRESS", false);
export const CHANGED_ADDRESS = addressKind(0x0005, "CHANGED-ADDRESS", false);
export const REFLECTED_FROM = addressKind(0x000b, "REFLECTED-FROM", false);
