import { expect, test } from "bun:test";
import { createDelayQueue } from "./delay-queue.ts";

test("packets leave when due, in order of time, and of arrival where times are the same", () => {
  const queue = createDelayQueue();
  const times = [5, 3, 9, 3, 1, 7, 3, 5];
  times.forEach((at, i) => queue.add(at, new Uint8Array([at, i]), undefined));
  expect(queue.nextAt).toBe(1);
  expect(queue.takeDue(0)).toBeUndefined();
  const left: number[][] = [];
  for (let due = queue.takeDue(5); due !== undefined; due = queue.takeDue(5)) left.push([...due.packet]);
  expect(left).toEqual([
    [1, 4],
    [3, 1],
    [3, 3],
    [3, 6],
    [5, 0],
    [5, 7],
  ]);
  expect([queue.size, queue.nextAt]).toEqual([2, 7]);
});

test("a packet is kept as it was, whatever becomes of its buffer", () => {
  const queue = createDelayQueue();
  const buffer = new Uint8Array([1, 2, 3]);
  queue.add(1, buffer, buffer.subarray(0, 1));
  buffer.fill(9);
  expect(queue.takeDue(1)).toMatchObject({ packet: new Uint8Array([1, 2, 3]), offload: new Uint8Array([1]) });
});

test("more than the limit is refused and counted, and room comes back", () => {
  const queue = createDelayQueue(1000);
  for (let i = 0; i < 5; i++) queue.add(i, new Uint8Array(100), undefined);
  expect([queue.size, queue.overflowed]).toEqual([2, 3]);
  queue.takeDue(10);
  queue.add(9, new Uint8Array(100), undefined);
  expect(queue.size).toBe(2);
});
