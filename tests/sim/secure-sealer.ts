/**
 * Makes data unreadable and tampering visible in the simulated TLS, quickly and without any secrecy: a stream of
 * pseudo-random words over it and a checksum behind it, both begun from the nonces of the handshake.
 */
import { APPLICATION_DATA, encodeRecord } from "./secure-records.ts";

export interface Sealer {
  /** Records for `bytes`. */
  seal(bytes: Uint8Array): readonly Uint8Array[];
  /** The octets of the peer's next record; undefined if it is not that. */
  open(payload: Uint8Array): Uint8Array | undefined;
}

/** As `Sealer`, for packets that may be lost or overtake each other. */
export interface PacketSealer {
  seal(bytes: Uint8Array): Uint8Array;
  open(packet: Uint8Array): Uint8Array | undefined;
}

const LARGEST = 1 << 14;
const CHECKSUM = 16;

export function createSealer(clientNonce: Uint8Array, serverNonce: Uint8Array, isClient: boolean): Sealer {
  const shared = Bun.hash.wyhash(serverNonce, Bun.hash.wyhash(clientNonce));
  const directions = [
    { secret: shared, count: 0n },
    { secret: shared ^ 0x5bd1e995n, count: 0n },
  ] as const;
  const [sending, receiving] = isClient ? directions : [directions[1], directions[0]];

  const next = (direction: { readonly secret: bigint; count: bigint }): bigint =>
    Bun.hash.wyhash(`${direction.secret} ${direction.count++}`);

  return {
    seal(bytes) {
      const records: Uint8Array[] = [];
      for (let at = 0; at < bytes.length; at += LARGEST) {
        const plain = bytes.subarray(at, at + LARGEST);
        const secret = next(sending);
        const payload = new Uint8Array(plain.length + CHECKSUM);
        payload.set(plain);
        mask(payload.subarray(0, plain.length), secret);
        new DataView(payload.buffer).setBigUint64(plain.length, Bun.hash.wyhash(plain, secret));
        records.push(encodeRecord(APPLICATION_DATA, payload));
      }
      return records;
    },
    open(payload) {
      const length = payload.length - CHECKSUM;
      if (length < 0) return undefined;
      const secret = next(receiving);
      const plain = payload.slice(0, length);
      mask(plain, secret);
      const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
      return view.getBigUint64(length) === Bun.hash.wyhash(plain, secret) ? plain : undefined;
    },
  };
}

export function createPacketSealer(
  clientNonce: Uint8Array,
  serverNonce: Uint8Array,
  isClient: boolean,
): PacketSealer {
  const shared = Bun.hash.wyhash(serverNonce, Bun.hash.wyhash(clientNonce));
  const secrets = [shared ^ 0x9e3779b9n, shared ^ 0x85ebca6bn] as const;
  const [sending, receiving] = isClient ? secrets : [secrets[1], secrets[0]];
  let sent = 0;
  return {
    seal(bytes) {
      const number = sent++;
      const secret = Bun.hash.wyhash(`${sending} ${number}`);
      const packet = new Uint8Array(4 + bytes.length + CHECKSUM);
      const view = new DataView(packet.buffer);
      view.setUint32(0, number);
      packet.set(bytes, 4);
      mask(packet.subarray(4, 4 + bytes.length), secret);
      view.setBigUint64(4 + bytes.length, Bun.hash.wyhash(bytes, secret));
      return packet;
    },
    open(packet) {
      const length = packet.length - 4 - CHECKSUM;
      if (length < 0) return undefined;
      const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
      const secret = Bun.hash.wyhash(`${receiving} ${view.getUint32(0)}`);
      const plain = packet.slice(4, 4 + length);
      mask(plain, secret);
      return view.getBigUint64(4 + length) === Bun.hash.wyhash(plain, secret) ? plain : undefined;
    },
  };
}

/** Adds a stream of pseudo-random octets; twice is nothing. */
function mask(bytes: Uint8Array, secret: bigint): void {
  let state = Number(secret & 0xffff_ffffn) | 1;
  for (let i = 0; i < bytes.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = (bytes[i] as number) ^ (state & 255);
  }
}
