/** Things in the order of their time, those of one time in the order they came: a binary heap. */

export interface Timed {
  readonly at: number;
}

export interface TimeHeap<T extends Timed> {
  readonly size: number;
  /** The earliest. */
  readonly first: T | undefined;
  push(item: T): void;
  /** Takes the earliest away. */
  pop(): T | undefined;
}

interface Node<T> {
  readonly item: T;
  readonly order: number;
}

export function createTimeHeap<T extends Timed>(): TimeHeap<T> {
  const heap: Node<T>[] = [];
  let order = 0;
  const before = (a: Node<T>, b: Node<T>): boolean =>
    a.item.at < b.item.at || (a.item.at === b.item.at && a.order < b.order);

  return {
    get size() {
      return heap.length;
    },
    get first() {
      return heap[0]?.item;
    },
    push(item) {
      const node = { item, order: order++ };
      let at = heap.length;
      heap.push(node);
      while (at > 0) {
        const parent = (at - 1) >> 1;
        if (!before(node, heap[parent] as Node<T>)) break;
        heap[at] = heap[parent] as Node<T>;
        at = parent;
      }
      heap[at] = node;
    },
    pop() {
      const first = heap[0]?.item;
      const last = heap.pop();
      if (last === undefined || heap.length === 0) return first;
      let at = 0;
      for (;;) {
        let child = 2 * at + 1;
        if (child >= heap.length) break;
        if (child + 1 < heap.length && before(heap[child + 1] as Node<T>, heap[child] as Node<T>)) child++;
        if (!before(heap[child] as Node<T>, last)) break;
        heap[at] = heap[child] as Node<T>;
        at = child;
      }
      heap[at] = last;
      return first;
    },
  };
}
