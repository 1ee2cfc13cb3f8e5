/** Records of the simulated TLS: type, version and length as RFC 8446 section 5.1 has them, then a payload. */

export const HANDSHAKE = 22;
export const APPLICATION_DATA = 23;
const HEAD = 5;
/** Payload octets of one record, with what sealing adds. */
const LARGEST = (1 << 14) + 256;

export function encodeRecord(type: number, payload: Uint8Array): Uint8Array {
  const record = new Uint8Array(HEAD + payload.length);
  record.set([type, 3, 3, payload.length >> 8, payload.length & 255]);
  record.set(payload, HEAD);
  return record;
}

export interface RecordReader {
  /** Takes octets as they come; false once they are no records. */
  push(bytes: Uint8Array): boolean;
}

export function createRecordReader(record: (type: number, payload: Uint8Array) => void): RecordReader {
  let rest = new Uint8Array(0);
  return {
    push(bytes) {
      let all = bytes;
      if (rest.length > 0) {
        all = new Uint8Array(rest.length + bytes.length);
        all.set(rest);
        all.set(bytes, rest.length);
      }
      let at = 0;
      while (all.length - at >= HEAD) {
        const [type, major, minor] = [all[at], all[at + 1], all[at + 2]];
        const length = ((all[at + 3] as number) << 8) | (all[at + 4] as number);
        const isKnown = type === HANDSHAKE || type === APPLICATION_DATA;
        if (!isKnown || major !== 3 || minor !== 3 || length > LARGEST) return false;
        if (all.length - at - HEAD < length) break;
        record(type, all.subarray(at + HEAD, at + HEAD + length));
        at += HEAD + length;
      }
      rest = all.slice(at);
      return true;
    },
  };
}
