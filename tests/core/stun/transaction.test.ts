/** The retransmission table of RFC 8489 section 6.2.1, played without a clock. */
import { expect, test } from "bun:test";
import {
  createTransaction,
  datagramTiming,
  reliableTiming,
  type TransactionTiming,
} from "../../../core/stun/transaction.ts";

test("over UDP it sends at 0, 500, 1500, 3500, 7500, 15500, 31500 ms and gives up at 39500", () => {
  expect(play(datagramTiming())).toEqual({
    sends: [0, 500, 1500, 3500, 7500, 15_500, 31_500],
    endMs: 39_500,
  });
});

test("over TCP it sends once and gives up at 39500 ms", () => {
  expect(play(reliableTiming())).toEqual({ sends: [0], endMs: 39_500 });
});

test("another RTO scales the table", () => {
  expect(play(datagramTiming(100))).toEqual({ sends: [0, 100, 300, 700, 1500, 3100, 6300], endMs: 7900 });
});

test("a timeout cuts the table short", () => {
  expect(play(datagramTiming(500, 2000))).toEqual({ sends: [0, 500, 1500], endMs: 2000 });
  expect(play(reliableTiming(300))).toEqual({ sends: [0], endMs: 300 });
});

test("who is called early waits, who comes late sends once", () => {
  const transaction = createTransaction(0, datagramTiming());
  expect(transaction.advance(0)).toEqual({ action: "send", wakeAtMs: 500 });
  expect(transaction.advance(499)).toEqual({ action: "wait", wakeAtMs: 500 });
  expect(transaction.advance(5000)).toEqual({ action: "send", wakeAtMs: 6000 });
  expect(transaction.sent).toBe(2);
});

function play(timing: TransactionTiming): { sends: number[]; endMs: number } {
  const startMs = 1000;
  const transaction = createTransaction(startMs, timing);
  const sends: number[] = [];
  for (let nowMs = startMs; ; ) {
    const step = transaction.advance(nowMs);
    if (step.action === "expired") return { sends, endMs: nowMs - startMs };
    if (step.action === "send") sends.push(nowMs - startMs);
    nowMs = step.wakeAtMs;
  }
}
