/**
 * What one side of a session has sent and the other has not yet said to have, and what is still to be sent: positions,
 * the credit, and the pieces themselves, so that another path can go on where the last one broke. Pure: frames go out
 * by the function that is passed in. A piece up to 16 KiB is one frame, each time it is sent; a longer one is sent in
 * parts, from any octet. Pieces are kept as they were given, not copied, save that a short one is put behind its header.
 */
import { P2pdError } from "../errors.ts";
import {
  encodeFin,
  FRAME_HEADER_LENGTH,
  MAX_DATA_LENGTH,
  WHOLE_DATA_LENGTH,
  writeFrameHeader,
} from "../wire/session-frame.ts";
import { type Credit, INITIAL_WINDOW } from "../wire/session-positions.ts";

/** Pieces that may wait for their acknowledgement: however short they are, memory is bounded. */
const MAX_UNACKNOWLEDGED = 32_768;
/** So much of a long piece goes out with its header: a record of TLS, and a packet, for four octets would cost as much. */
const JOINED = 8192;
/** So many pieces are forgotten at a time. */
const FORGET_AT = 1024;

/** Something that was sent or is to be, from a position on. */
interface Piece {
  /** A frame with its header, or the bare octets of a long piece. */
  readonly bytes: Uint8Array;
  readonly isFrame: boolean;
  readonly start: number;
  /** How many positions it takes. */
  readonly length: number;
}

/** Stands where a piece was, so that its octets are not kept until the list is cut. */
const FORGOTTEN: Piece = { bytes: new Uint8Array(0), isFrame: true, start: 0, length: 0 };

/** Writes octets to the path, which takes them in any case; false: it is full, and the pump ends until it drains. */
export type WriteFrame = (octets: Uint8Array) => boolean;

export class SendWindow {
  #pieces: Piece[] = [];
  /** Index of the first piece that is not wholly acknowledged, and of the one that is to be sent next. */
  #first = 0;
  #next = 0;
  #acknowledged = 0;
  /** Everything before it was given to the current path; and to any path ever. */
  #sent = 0;
  #highest = 0;
  #end = 0;
  #limit = INITIAL_WINDOW;
  #finished = false;

  /** Octets, and FIN, that no path has taken, or that must be sent again. */
  get unsent(): number {
    return this.#end - this.#sent;
  }

  /** Whether anything was sent that the other side has not said to have. */
  get isOwed(): boolean {
    return this.#acknowledged < this.#highest;
  }

  get isFinished(): boolean {
    return this.#finished;
  }

  /** FIN was sent and the other side has everything. */
  get isDone(): boolean {
    return this.#finished && this.#acknowledged === this.#end;
  }

  /** Octets of memory that the pieces hold. */
  get heldBytes(): number {
    return this.#pieces.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
  }

  /** Octets that are kept, sent or not. */
  get kept(): number {
    return this.#end - this.#acknowledged;
  }

  /** More to send; it must not be changed afterwards. Not after `finish`. */
  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    let kept = bytes;
    const isFrame = bytes.length <= WHOLE_DATA_LENGTH;
    if (isFrame) {
      kept = new Uint8Array(FRAME_HEADER_LENGTH + bytes.length);
      writeFrameHeader(kept, "data", bytes.length);
      kept.set(bytes, FRAME_HEADER_LENGTH);
    }
    this.#add(kept, isFrame, bytes.length);
  }

  /** FIN follows what was pushed. */
  finish(): void {
    this.#finished = true;
    this.#add(encodeFin(), true, 1);
  }

  /** Writes frames as far as credit and path allow. */
  pump(write: WriteFrame): void {
    for (let more = true; more; ) {
      const piece = this.#pieces[this.#next];
      if (piece === undefined || this.#next - this.#first >= MAX_UNACKNOWLEDGED) return;
      const isFin = this.#finished && this.#sent === this.#end - 1;
      const room = isFin ? 1 : this.#limit - this.#sent;
      const offset = this.#sent - piece.start;
      const left = piece.length - offset;
      if (room < Math.min(left, WHOLE_DATA_LENGTH)) return;
      if (piece.isFrame && offset === 0) {
        more = write(piece.bytes);
        this.#sent += left;
      } else {
        const octets = piece.isFrame ? piece.bytes.subarray(FRAME_HEADER_LENGTH) : piece.bytes;
        const part = octets.subarray(offset, offset + Math.min(left, room, MAX_DATA_LENGTH));
        const start = part.subarray(0, JOINED);
        const head = new Uint8Array(FRAME_HEADER_LENGTH + start.length);
        writeFrameHeader(head, "data", part.length);
        head.set(start, FRAME_HEADER_LENGTH);
        more = write(head);
        if (part.length > JOINED) more = write(part.subarray(JOINED));
        this.#sent += part.length;
      }
      if (this.#sent === piece.start + piece.length) this.#next++;
      this.#highest = Math.max(this.#highest, this.#sent);
    }
  }

  /** The other side has said what it has and how much more it takes. Throws `protocol` for what cannot be. */
  acknowledge({ received, limit }: Credit): void {
    this.#check(received);
    this.#limit = Math.max(this.#limit, limit);
    // After a switch the other side may have more than this path has carried; it counts on getting that once more.
    this.#forget(Math.min(received, this.#sent));
  }

  /**
   * Another path: what follows what the other side has is to be sent, again where it was. Returns the position where
   * that begins, which is later than `received` where the other side had said to have more. Throws `protocol`.
   */
  resume({ received, limit }: Credit): number {
    this.#check(received);
    this.#limit = Math.max(this.#limit, limit);
    this.#forget(received);
    this.rewind();
    return this.#sent;
  }

  /** The path is lost: what is not acknowledged counts as unsent. */
  rewind(): void {
    this.#next = this.#first;
    this.#sent = this.#acknowledged;
  }

  /** Nothing will be sent any more. */
  clear(): void {
    this.#pieces = [];
    this.#first = this.#next = 0;
    this.#acknowledged = this.#sent = this.#highest = this.#end;
  }

  #check(received: number): void {
    if (received > this.#highest)
      throw new P2pdError(
        "protocol",
        `the peer says to have ${received} of the ${this.#highest} octets sent`,
      );
  }

  #forget(received: number): void {
    this.#acknowledged = Math.max(this.#acknowledged, received);
    const { length } = this.#pieces;
    while (this.#first < length && this.#endOf(this.#first) <= this.#acknowledged)
      this.#pieces[this.#first++] = FORGOTTEN;
    this.#next = Math.max(this.#next, this.#first);
    if (this.#first < FORGET_AT && this.#first < length) return;
    this.#pieces = this.#pieces.slice(this.#first);
    this.#next -= this.#first;
    this.#first = 0;
  }

  #add(bytes: Uint8Array, isFrame: boolean, length: number): void {
    this.#pieces.push({ bytes, isFrame, start: this.#end, length });
    this.#end += length;
  }

  #endOf(index: number): number {
    const { start, length } = this.#pieces[index] as Piece;
    return start + length;
  }
}
