import { expect, test } from "bun:test";
import { ReceiveWindow } from "../../../core/node/receive-window.ts";
import { INITIAL_WINDOW } from "../../../core/wire/session-positions.ts";

const KIB = 1024;

test("a quarter of the window is worth telling at once, less waits", () => {
  const window = new ReceiveWindow();
  expect(window.news).toBe("none");
  pass(window, 64 * KIB - 1);
  expect(window.news).toBe("some");
  pass(window, 1);
  expect(window.news).toBe("much");
  expect(window.credit).toEqual({ received: 64 * KIB, limit: INITIAL_WINDOW + 64 * KIB });
  window.told(window.credit);
  expect(window.news).toBe("none");
});

test("the window doubles with each windowful that never had to wait, up to 8 MiB", () => {
  const window = new ReceiveWindow();
  const sizes = new Set<number>();
  for (let passed = 0; passed < 64 * KIB * KIB; passed += 64 * KIB) {
    pass(window, 64 * KIB);
    window.told(window.credit);
    sizes.add(window.credit.limit - window.credit.received);
  }
  expect([...sizes].map((size) => size / KIB)).toEqual([256, 512, 1024, 2048, 4096, 8192]);
});

test("a reader that is behind keeps the window small", () => {
  const window = new ReceiveWindow();
  for (let i = 0; i < 100; i++) {
    window.receive(128 * KIB);
    window.hold();
    window.deliver(128 * KIB);
    window.told(window.credit);
  }
  expect(window.credit.limit - window.credit.received).toBe(INITIAL_WINDOW);
});

test("what is received and not taken gives no credit, and no more than that may come", () => {
  const window = new ReceiveWindow();
  window.receive(INITIAL_WINDOW);
  expect(window.credit).toEqual({ received: INITIAL_WINDOW, limit: INITIAL_WINDOW });
  expect(() => window.receive(1)).toThrow("was allowed");
});

test("credit that was not told counts for nothing", () => {
  const window = new ReceiveWindow();
  pass(window, INITIAL_WINDOW);
  expect(() => window.receive(1)).toThrow("was allowed");
});

test("on another path what came before is left out, FIN included", () => {
  const window = new ReceiveWindow();
  pass(window, 100);
  expect(window.receiveFin()).toBe(false);
  window.resume(60);
  expect([window.receive(30), window.receive(10), window.receiveFin()]).toEqual([30, 10, true]);
  expect(window.received).toBe(101);
});

test("a piece that begins with what came before is cut there", () => {
  const window = new ReceiveWindow();
  pass(window, 100);
  window.resume(90);
  expect([window.receive(50), window.received]).toEqual([10, 140]);
});

test("another path must not leave a gap", () => {
  const window = new ReceiveWindow();
  pass(window, 100);
  expect(() => window.resume(101)).toThrow("100 is due");
});

test("what comes twice is news all the same: who sends it waits for an answer", () => {
  const window = new ReceiveWindow();
  pass(window, 100);
  window.told(window.credit);
  window.resume(0);
  expect(window.news).toBe("none");
  window.receive(100);
  expect(window.news).toBe("some");
});

function pass(window: ReceiveWindow, octets: number): void {
  window.receive(octets);
  window.deliver(octets);
}
