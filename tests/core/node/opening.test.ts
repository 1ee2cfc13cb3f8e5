import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { toP2pdError } from "../../../core/errors.ts";
import { readOpening } from "../../../core/node/opening.ts";
import { encodeAnswer, encodeFin, encodeHello } from "../../../core/wire/session-frame.ts";
import { encodeAck, encodeResume } from "../../../core/wire/session-positions.ts";
import { EventTime, settle } from "./event-time.ts";
import { frailPath } from "./frail-path.ts";
import { SESSION_ID, text } from "./session-pair.ts";

const HELLO = encodeHello({ version: 1, capabilities: [], session: SESSION_ID });
const RESUME = encodeResume({ session: SESSION_ID, epoch: 3, received: 4, limit: 5 });

describe("a first frame is read for what it is", () => {
  const cases = {
    HELLO: [HELLO, { type: "hello", hello: { version: 1, capabilities: [], session: SESSION_ID } }],
    ANSWER: [
      encodeAnswer({ version: 1, token: "t".repeat(22) }),
      { type: "answer", answer: { version: 1, token: "t".repeat(22) } },
    ],
    RESUME: [RESUME, { type: "resume", resume: { session: SESSION_ID, epoch: 3, received: 4, limit: 5 } }],
  } as const;
  for (const [name, [frame, expected]] of Object.entries(cases)) {
    test(`${name}, however it is cut`, async () => {
      for (const pieceOctets of [1, 7, 1000]) {
        const { time, near, opened } = begin({ pieceOctets });
        near.write(frame);
        await time.run(100);
        expect((await opened).opening as unknown).toEqual(expected);
      }
    });
  }
});

test("what follows the first frame, the end and the close wait for the next receiver", async () => {
  const { time, near, opened } = begin();
  near.write(new Uint8Array([...HELLO, ...text("right behind")]));
  near.write(text(" and later"));
  near.end();
  await time.run(100);
  const { stream } = await opened;
  const log: string[] = [];
  stream.attach({
    data: (bytes) => log.push(new TextDecoder().decode(bytes)),
    drain: () => undefined,
    end: () => log.push("end"),
    close: (error) => log.push(`close ${error?.code}`),
  });
  await time.run(100);
  expect(log.slice(0, -1).join("")).toBe("right behind and later");
  expect(log.at(-1)).toBe("end");
  stream.end();
  await time.run(100);
  expect(log.at(-1)).toBe("close undefined");
});

test("a path that closes before its next receiver is there is not lost sight of", async () => {
  const { time, near, opened, path } = begin();
  near.write(HELLO);
  await time.run(100);
  const { stream } = await opened;
  path.cut();
  await settle();
  const closed = new Promise((resolve) => {
    stream.attach({ data: () => undefined, drain: () => undefined, end: () => undefined, close: resolve });
  });
  expect(await closed).toMatchObject({ code: "closed" });
});

describe("a path is let go with a word", () => {
  const cases: Readonly<Record<string, readonly [Uint8Array, string]>> = {
    "when DATA comes first": [Uint8Array.of(3, 0, 0, 1, 65), "protocol"],
    "when another frame comes first": [encodeFin(), "protocol"],
    "when an ACK comes first": [encodeAck({ received: 0, limit: 0 }), "protocol"],
    "when HELLO is no JSON": [Uint8Array.of(1, 0, 0, 1, 65), "protocol"],
    "when RESUME is too short": [Uint8Array.of(10, 0, 0, 1, 65), "protocol"],
    "when nothing comes for ten seconds": [HELLO.subarray(0, 9), "timeout"],
  };
  for (const [name, [octets, code]] of Object.entries(cases)) {
    test(name, async () => {
      const { time, near, opened } = begin();
      const heard: number[] = [];
      const failed = opened.catch((error: unknown) => error);
      near.attach({
        data: (bytes) => heard.push(...bytes),
        drain: () => undefined,
        end: () => near.end(),
        close: () => undefined,
      });
      near.write(octets);
      await time.run(10_100);
      expect(await failed).toMatchObject({ code });
      expect(heard[0]).toBe(5);
      expect(new TextDecoder().decode(Uint8Array.from(heard.slice(4)))).toContain(code);
      await time.run(2000);
      expect(time.pending).toBe(0);
    });
  }

  test("when the peer leaves before it has said anything", async () => {
    for (const how of ["end", "abort"] as const) {
      const { time, near, opened } = begin();
      const failed = opened.catch((error: unknown) => error);
      near[how]();
      await time.run(2000);
      expect(await failed).toMatchObject({ code: "closed" });
    }
  });
});

test("random octets are an opening, or end the path, and never throw elsewhere", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 80 }), async (octets) => {
      const { time, near, opened } = begin();
      const ended = opened.then(
        ({ opening }): string => opening.type,
        (thrown: unknown) => toP2pdError(thrown).code,
      );
      near.write(octets);
      await time.run(12_000);
      expect(["hello", "answer", "resume", "protocol", "timeout"]).toContain(await ended);
    }),
    { numRuns: 50 },
  );
});

function begin(options: { readonly pieceOctets?: number } = {}) {
  const time = new EventTime();
  const path = frailPath(time, options);
  const [near, far] = path.ends;
  return { time, path, near: near.stream, opened: readOpening(far.stream, time) };
}
