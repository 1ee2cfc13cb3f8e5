/**
 * Packets on their way: each leaves when its time has come, those of one time in the order they came. A
 * heap, since jitter lets later packets leave earlier.
 */
import { createTimeHeap } from "../nat/time-heap.ts";

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
}

/** Octets on their way; more are dropped, as a full router's buffer drops them. */
const LIMIT = 128 * 1024 * 1024;
/** What a packet costs besides its octets. */
const OVERHEAD = 256;

export function createDelayQueue(limit = LIMIT): DelayQueue {
  const heap = createTimeHeap<Waiting>();
  let overflowed = 0;
  let held = 0;

  return {
    get size() {
      return heap.size;
    },
    get nextAt() {
      return heap.first?.at ?? Number.POSITIVE_INFINITY;
    },
    get overflowed() {
      return overflowed;
    },
    add(at, packet, offload) {
      if (held + packet.length + OVERHEAD > limit) {
        overflowed++;
        return;
      }
      held += packet.length + OVERHEAD;
      heap.push({ at, packet: packet.slice(), offload: offload?.slice() });
    },
    takeDue(now) {
      const { first } = heap;
      if (first === undefined || first.at > now) return undefined;
      held -= first.packet.length + OVERHEAD;
      return heap.pop();
    },
  };
}
