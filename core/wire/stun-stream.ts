/**
 * Finds the messages in a byte stream: STUN over TCP or TLS (RFC 8489 section 6.2.2), and between them the
 * ChannelData of TURN (RFC 8656 section 12.5), told apart by the first two bits. Holds at most one incomplete
 * message, of bounded size; takes nothing apart.
 */
import { MAGIC_COOKIE, STUN_HEADER_OCTETS } from "./stun.ts";

/** Why a stream cannot go on: nobody can tell where the next message would begin. */
export type FramingFault = "not-stun" | "too-large";

export interface StunFrames {
  /** A whole STUN message. The view is valid during the call only. */
  stun(bytes: Uint8Array): void;
  /** One ChannelData message with its 4-octet header, without padding. Absent: ChannelData is a fault. */
  channelData?(bytes: Uint8Array): void;
}

export interface StunFrameReader {
  /**
   * Takes the next piece of the stream and calls `frames` for each message that is complete. Returns the fault
   * that ended the stream, then and ever after; undefined while it is sound.
   */
  push(bytes: Uint8Array): FramingFault | undefined;
  /** Octets held of an incomplete message. */
  readonly heldBytes: number;
}

/** Makes a reader that refuses messages of more than `maxBytes` octets. */
export function createStunFrameReader(frames: StunFrames, maxBytes = 65_552): StunFrameReader {
  let held = new Uint8Array(0);
  let heldBytes = 0;
  let fault: FramingFault | undefined;

  /** Size of the message at `at` with its padding, 0 if that is not known yet, or the fault. */
  function frameSize(bytes: Uint8Array, at: number, end: number): number | FramingFault {
    if (at === end) return 0;
    const first = bytes[at] as number;
    const channel = first >= 0x40 && first < 0x80 && frames.channelData !== undefined;
    if (first >= 0x40 && !channel) return "not-stun";
    if (end - at < 4) return 0;
    const length = ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number);
    if (!channel) {
      if ((length & 3) !== 0) return "not-stun";
      for (let i = 4; i < 8 && at + i < end; i++) {
        if (bytes[at + i] !== ((MAGIC_COOKIE >>> (8 * (7 - i))) & 255)) return "not-stun";
      }
    }
    const size = channel ? 4 + ((length + 3) & ~3) : STUN_HEADER_OCTETS + length;
    return size > maxBytes ? "too-large" : size;
  }

  function emit(bytes: Uint8Array, at: number, size: number): void {
    if ((bytes[at] as number) < 0x40) return frames.stun(bytes.subarray(at, at + size));
    const length = ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number);
    frames.channelData?.(bytes.subarray(at, at + 4 + length));
  }

  /** Emits what is whole in `bytes`; returns where the incomplete rest begins. */
  function drain(bytes: Uint8Array, end: number): number {
    let at = 0;
    for (;;) {
      const size = frameSize(bytes, at, end);
      if (typeof size === "string") {
        fault = size;
        return end;
      }
      if (size === 0 || at + size > end) return at;
      emit(bytes, at, size);
      at += size;
    }
  }

  function hold(bytes: Uint8Array): void {
    if (heldBytes + bytes.length > held.length) {
      const grown = new Uint8Array(Math.max(256, 2 * (heldBytes + bytes.length)));
      grown.set(held.subarray(0, heldBytes));
      held = grown;
    }
    held.set(bytes, heldBytes);
    heldBytes += bytes.length;
  }

  return {
    push(bytes) {
      let rest = bytes;
      // What is held is completed with no more octets than it lacks, so that it never outgrows one message.
      while (fault === undefined && heldBytes > 0 && rest.length > 0) {
        const size = frameSize(held, 0, heldBytes);
        const lacking =
          typeof size === "string" || size === 0 ? Math.max(1, 4 - heldBytes) : size - heldBytes;
        hold(rest.subarray(0, lacking));
        rest = rest.subarray(Math.min(lacking, rest.length));
        if (drain(held, heldBytes) > 0) {
          heldBytes = 0;
          held = new Uint8Array(0);
        }
      }
      if (fault === undefined && rest.length > 0) {
        const at = drain(rest, rest.length);
        if (at < rest.length) hold(rest.subarray(at));
      }
      if (fault !== undefined) {
        held = new Uint8Array(0);
        heldBytes = 0;
      }
      return fault;
    },
    get heldBytes() {
      return heldBytes;
    },
  };
}
