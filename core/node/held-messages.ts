/**
 * Messages that came before their receiver wants them, in order. Long ones are kept as they are; short ones, and views
 * of a much larger buffer, are copied into common blocks, so that whatever a peer sends costs little more than its
 * octets.
 */

/** From here on a piece is kept as it is, unless its buffer is much larger. */
const LONG = 4096;
const SMALLEST_BLOCK = 1024;
const LARGEST_BLOCK = 64 * 1024;
/** Of the length before each message in a block. */
const LENGTH_OCTETS = 2;

/** Short messages, one behind the other, each behind its length. */
interface Block {
  readonly view: DataView<ArrayBuffer>;
  readAt: number;
  writeAt: number;
}

export class HeldMessages {
  #entries: (Uint8Array | Block)[] = [];
  #first = 0;
  #octets = 0;
  #nextBlock = SMALLEST_BLOCK;

  get isEmpty(): boolean {
    return this.#octets === 0;
  }

  /** Octets of all messages together. */
  get octets(): number {
    return this.#octets;
  }

  /** Not empty. */
  push(message: Uint8Array): void {
    this.#octets += message.length;
    if (message.length < LONG) this.#pack(message);
    else {
      const isMost = message.length * 2 >= message.buffer.byteLength;
      this.#entries.push(isMost ? message : message.slice());
    }
  }

  /** The first message, which leaves; undefined where there is none. */
  shift(): Uint8Array | undefined {
    const entry = this.#entries[this.#first];
    if (entry === undefined) return undefined;
    if (entry instanceof Uint8Array) {
      this.#drop();
      this.#octets -= entry.length;
      return entry;
    }
    const { view, readAt } = entry;
    const length = view.getUint16(readAt);
    entry.readAt += LENGTH_OCTETS + length;
    if (entry.readAt === entry.writeAt) this.#drop();
    this.#octets -= length;
    return new Uint8Array(view.buffer, readAt + LENGTH_OCTETS, length);
  }

  clear(): void {
    this.#entries = [];
    this.#first = 0;
    this.#octets = 0;
    this.#nextBlock = SMALLEST_BLOCK;
  }

  #pack(message: Uint8Array): void {
    const needed = LENGTH_OCTETS + message.length;
    const last = this.#entries.at(-1);
    const hasRoom =
      last !== undefined && !(last instanceof Uint8Array) && last.view.byteLength - last.writeAt >= needed;
    const block = hasRoom ? last : this.#startBlock(needed);
    block.view.setUint16(block.writeAt, message.length);
    new Uint8Array(block.view.buffer).set(message, block.writeAt + LENGTH_OCTETS);
    block.writeAt += needed;
  }

  #startBlock(needed: number): Block {
    const size = Math.max(this.#nextBlock, needed);
    this.#nextBlock = Math.min(2 * this.#nextBlock, LARGEST_BLOCK);
    const block = { view: new DataView(new ArrayBuffer(size)), readAt: 0, writeAt: 0 };
    this.#entries.push(block);
    return block;
  }

  #drop(): void {
    this.#entries[this.#first] = new Uint8Array();
    if (++this.#first < this.#entries.length) {
      if (this.#first < 1024) return;
      this.#entries = this.#entries.slice(this.#first);
      this.#first = 0;
      return;
    }
    this.#entries = [];
    this.#first = 0;
    this.#nextBlock = SMALLEST_BLOCK;
  }
}
