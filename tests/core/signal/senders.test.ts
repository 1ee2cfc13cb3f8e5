import { expect, test } from "bun:test";
import { createSenders, MESSAGE_IDS_MAX, SENDERS_MAX } from "../../../core/signal/senders.ts";

test("senders are bounded; one whose ids are all old makes room, no other does", () => {
  const senders = createSenders();
  for (let i = 0; i < SENDERS_MAX; i++) {
    expect(senders.admit(`s${i}`, 0)).toBe("ok");
    expect(senders.once(`s${i}`, "id", 0, 1000)).toBe("ok");
  }
  expect(senders.admit("late", 500)).toBe("full");
  expect(senders.once("late", "id", 500, 1000)).toBe("full");
  expect(senders.once("s0", "id", 500, 1000)).toBe("replayed");
  expect(senders.admit("late", 1001)).toBe("ok");
  expect(senders.size).toBe(1);
});

test("message ids are bounded in all, and are forgotten when they are old", () => {
  const senders = createSenders();
  senders.admit("a", 0);
  for (let i = 0; i < MESSAGE_IDS_MAX; i++) expect(senders.once("a", `${i}`, 0, 1000)).toBe("ok");
  expect(senders.once("a", "more", 10, 1000)).toBe("full");
  expect(senders.messageIds).toBe(MESSAGE_IDS_MAX);
  expect(senders.once("a", "0", 2000, 1000)).toBe("ok");
  expect(senders.messageIds).toBe(1);
});

test("a clock measured over a shorter round trip is believed; a worse one only if it contradicts or is newer", () => {
  const senders = createSenders();
  const sample = (offsetMs: number, rttMs: number, measuredAt: number): number | undefined => {
    senders.measure("a", { offsetMs, rttMs, measuredAt });
    return senders.clock("a", measuredAt)?.offsetMs;
  };
  expect(senders.clock("a", 0)).toBeUndefined();
  expect(sample(10, 50, 0)).toBe(10);
  expect(sample(12, 20, 1)).toBe(12);
  expect(sample(15, 90, 2)).toBe(12);
  expect(sample(500, 90, 3)).toBe(500);
  expect(sample(480, 200, 70_000)).toBe(480);
  expect(senders.clock("a", 70_000 + 3_600_000)).toBeUndefined();
  for (let i = 0; i < SENDERS_MAX; i++)
    senders.measure(`${i}`, { offsetMs: 0, rttMs: 1, measuredAt: 70_000 });
  expect(senders.clock("a", 70_000)).toBeUndefined();
});

test("a sender is told that its clock is wrong three times, then once in two seconds", () => {
  const senders = createSenders();
  expect(senders.mayTellTime("a", 0)).toBe(false);
  senders.admit("a", 0);
  expect([1, 2, 3, 4].map(() => senders.mayTellTime("a", 0))).toEqual([true, true, true, false]);
  expect(senders.mayTellTime("a", 2000)).toBe(true);
  expect(senders.mayTellTime("a", 2000)).toBe(false);
});
