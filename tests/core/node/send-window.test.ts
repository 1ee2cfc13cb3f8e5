import { expect, test } from "bun:test";
import fc from "fast-check";
import { SendWindow } from "../../../core/node/send-window.ts";
import {
  FRAME_HEADER_LENGTH,
  FrameDecoder,
  MAX_DATA_LENGTH,
  WHOLE_DATA_LENGTH,
} from "../../../core/wire/session-frame.ts";
import { INITIAL_WINDOW } from "../../../core/wire/session-positions.ts";

test("what is within the credit goes out, and the rest once there is more", () => {
  const window = new SendWindow();
  window.push(new Uint8Array(INITIAL_WINDOW));
  window.push(new Uint8Array(10));
  expect(sentBy(window)).toEqual([INITIAL_WINDOW]);
  expect([window.unsent, window.isOwed]).toEqual([10, true]);
  window.acknowledge({ received: INITIAL_WINDOW, limit: INITIAL_WINDOW + 9 });
  expect(sentBy(window)).toEqual([]);
  window.acknowledge({ received: INITIAL_WINDOW, limit: INITIAL_WINDOW + 10 });
  expect(sentBy(window)).toEqual([10]);
  expect([window.unsent, window.kept]).toEqual([0, 10]);
});

test("a long piece is cut at the credit, but not into crumbs", () => {
  const window = new SendWindow();
  window.push(new Uint8Array(INITIAL_WINDOW + 100_000));
  expect(sentBy(window)).toEqual([MAX_DATA_LENGTH]);
  window.acknowledge({ received: 0, limit: INITIAL_WINDOW + WHOLE_DATA_LENGTH - 1 });
  expect(sentBy(window)).toEqual([]);
  window.acknowledge({ received: 0, limit: INITIAL_WINDOW + WHOLE_DATA_LENGTH });
  expect(sentBy(window)).toEqual([WHOLE_DATA_LENGTH]);
});

test("FIN comes last, takes a position, and needs no credit", () => {
  const window = new SendWindow();
  window.push(new Uint8Array(INITIAL_WINDOW));
  window.finish();
  expect(sentBy(window)).toEqual([INITIAL_WINDOW, "fin"]);
  expect(window.isDone).toBe(false);
  window.acknowledge({ received: INITIAL_WINDOW, limit: INITIAL_WINDOW });
  expect(window.isDone).toBe(false);
  window.acknowledge({ received: INITIAL_WINDOW + 1, limit: INITIAL_WINDOW });
  expect([window.isDone, window.isOwed, window.kept]).toEqual([true, false, 0]);
});

test("a path that is full ends a pump, and the next one goes on behind", () => {
  const window = new SendWindow();
  for (let i = 0; i < 3; i++) window.push(new Uint8Array(1000));
  expect(sentBy(window, 1)).toEqual([1000]);
  expect(sentBy(window)).toEqual([1000, 1000]);
});

test("after a loss short messages are sent whole again, a long one from the octet that is missing", () => {
  const window = new SendWindow();
  window.push(new Uint8Array(100));
  window.push(new Uint8Array(20_000));
  window.push(new Uint8Array(7));
  sentBy(window);
  window.rewind();
  expect(window.unsent).toBe(20_107);
  expect(sentBy(window)).toEqual([100, 20_000, 7]);
  expect(window.resume({ received: 5100, limit: INITIAL_WINDOW })).toBe(5100);
  expect(sentBy(window)).toEqual([15_000, 7]);
});

test("on another path nothing is skipped that the other side counts on, even if it has it by now", () => {
  const window = new SendWindow();
  window.push(new Uint8Array(100));
  window.push(new Uint8Array(50));
  sentBy(window);
  expect(window.resume({ received: 0, limit: INITIAL_WINDOW })).toBe(0);
  window.acknowledge({ received: 150, limit: INITIAL_WINDOW });
  expect(sentBy(window)).toEqual([100, 50]);
});

test("what was said to be there is where a new path begins, if RESUME is older than that", () => {
  const window = new SendWindow();
  window.push(new Uint8Array(150));
  sentBy(window);
  window.acknowledge({ received: 120, limit: INITIAL_WINDOW });
  expect(window.resume({ received: 100, limit: 0 })).toBe(120);
});

test("having what was never sent is no position", () => {
  const window = new SendWindow();
  window.push(new Uint8Array(10));
  expect(() => window.acknowledge({ received: 1, limit: 0 })).toThrow("1 of the 0 octets");
  sentBy(window);
  expect(() => window.resume({ received: 11, limit: 0 })).toThrow("11 of the 10 octets");
});

test("nothing of what is acknowledged stays in memory", () => {
  const window = new SendWindow();
  for (let i = 0; i < 500; i++) {
    window.push(new Uint8Array(100_000));
    sentBy(window);
    const received = (i + 1) * 100_000 - 10;
    window.acknowledge({ received, limit: received + INITIAL_WINDOW });
    expect(window.heldBytes).toBe(100_000);
  }
});

test("pieces are kept as they are, and only so many however short they are", () => {
  const window = new SendWindow();
  const long = new Uint8Array(100_000);
  window.push(long);
  const written: Uint8Array[] = [];
  window.pump((octets) => written.push(octets) > 0);
  expect(written.at(-1)?.buffer).toBe(long.buffer);
  for (let i = 0; i < 40_000; i++) window.push(Uint8Array.of(1));
  expect(sentBy(window)).toHaveLength(32_767);
  window.acknowledge({ received: 132_767, limit: INITIAL_WINDOW });
  expect(sentBy(window)).toHaveLength(40_000 - 32_767);
});

test("whatever is acknowledged, lost and sent again, each octet comes once where it belongs", () => {
  const step = fc.oneof(
    fc.record({ push: fc.oneof(fc.nat(50), fc.constantFrom(WHOLE_DATA_LENGTH, 17_000, 300_000)) }),
    fc.record({ take: fc.nat(1_000_000), limit: fc.nat(400_000) }),
    fc.constant({ lose: true }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const window = new SendWindow();
      let pushed = 0;
      let received = 0;
      let inFlight: number[] = [];
      const collect = (): void => window.pump(decoded((bytes) => inFlight.push(...bytes)));
      for (const one of steps) {
        if ("push" in one) {
          const size = one.push;
          window.push(Uint8Array.from({ length: size }, (_, i) => (pushed + i) % 251));
          pushed += size;
        } else if ("take" in one) {
          const taken = inFlight.splice(0, one.take);
          for (const octet of taken) if (octet !== received++ % 251) throw new Error("octets out of place");
          window.acknowledge({ received, limit: received + one.limit });
        } else {
          inFlight = [];
          expect(window.resume({ received, limit: received + INITIAL_WINDOW })).toBe(received);
        }
        collect();
        expect(window.kept).toBe(pushed - received);
      }
    }),
    { numRuns: 60 },
  );
});

/** The lengths of the frames that the window sends, FIN as such. */
function sentBy(window: SendWindow, most = Number.POSITIVE_INFINITY): (number | "fin")[] {
  const frames: (number | "fin")[] = [];
  let left = most;
  /** Octets of the last frame that are still to come. */
  let due = 0;
  window.pump((octets) => {
    if (due === 0) {
      const length = ((octets[1] as number) << 16) | ((octets[2] as number) << 8) | (octets[3] as number);
      frames.push(octets[0] === 4 ? "fin" : length);
      due = FRAME_HEADER_LENGTH + length;
    }
    due -= octets.length;
    return due > 0 || --left > 0;
  });
  return frames;
}

function decoded(data: (bytes: Uint8Array) => void): (octets: Uint8Array) => boolean {
  const decoder = new FrameDecoder({ control: () => undefined, data });
  return (octets) => decoder.push(octets).length === 0;
}
