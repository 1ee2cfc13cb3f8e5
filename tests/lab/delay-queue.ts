/**
 * Packets on their way: each leaves when its time has come, those of one time in the order they came. A binary
 * heap, since jitter lets later packets leave earlier.
 */

export interface DelayQueue {
  readonly size: number;
  /** When the next packet is due; Infinity if there is none. */
  readonly nextAt: number;
  /** Packets refused because too many were on their way. */
  readonly overflowed: number;
  /** Keeps a copy of the packet, and of what came with it, until `at`. */
  add(at: number, packet: Uint8Array, offload: Uint8Array | undefined): void;
  /** The next packet whose time has come by `now`. */
  takeDue(now: number): Due | undefined;
}

export interface Due {
  readonly packet: Uint8Array;
  readonly offload: Uint8Array | undefined;
}

interface Waiting extends Due {
  readonly at: number;
  readonly order: number;
}

/** Octets on their way; more are dropped, as a full router's buffer drops them. */
const LIMIT = 128 * 1024 * 1024;
/** What a packet costs besides its octets. */
const OVERHEAD = 256;

export function createDelayQueue(limit = LIMIT): DelayQueue {
  const heap: Waiting[] = [];
  let order = 0;
  let overflowed = 0;
  let held = 0;
  const before = (a: Waiting, b: Waiting): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);

  function up(index: number, item: Waiting): void {
    let at = index;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(item, heap[parent] as Waiting)) break;
      heap[at] = heap[parent] as Waiting;
      at = parent;
    }
    heap[at] = item;
  }

  function down(item: Waiting): void {
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Waiting, heap[child] as Waiting)) child++;
      if (!before(heap[child] as Waiting, item)) break;
      heap[at] = heap[child] as Waiting;
      at = child;
    }
    heap[at] = item;
  }

  return {
    get size() {
      return heap.length;
    },
    get nextAt() {
      return heap[0]?.at ?? Number.POSITIVE_INFINITY;
    },
    get overflowed() {
      return overflowed;
    },
    add(at, packet, offload) {
      if (held + packet.length + OVERHEAD > limit) {
        overflowed++;
        return;
      }
      const item = { at, order: order++, packet: packet.slice(), offload: offload?.slice() };
      held += packet.length + OVERHEAD;
      heap.push(item);
      up(heap.length - 1, item);
    },
    takeDue(now) {
      const first = heap[0];
      if (first === undefined || first.at > now) return undefined;
      held -= first.packet.length + OVERHEAD;
      const last = heap.pop() as Waiting;
      if (heap.length > 0) down(last);
      return first;
    },
  };
}
