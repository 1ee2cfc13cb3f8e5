import { expect, test } from "bun:test";
import { answerStory } from "../../../core/node/answer-story.ts";
import { HandTime } from "./memory-stream.ts";

test("an answer's timeline counts from when the peer asked, to a tenth of a millisecond", () => {
  const time = new HandTime();
  time.advance(1000);
  const { beganAt, timeline, note } = answerStory(time, "punch", () => undefined);
  note("predicted", "one");
  time.advance(12.34);
  note("connecting", "two");
  expect(beganAt).toBe(1000);
  const common = { strategy: "punch", candidate: "by signal" } as const;
  expect(timeline).toEqual([
    { ...common, ms: 0, event: "predicted", detail: "one" },
    { ...common, ms: 12.3, event: "connecting", detail: "two" },
  ]);
});

test("a peer that makes much happen fills the timeline with 64 notes, while the log hears each", () => {
  const logged: string[] = [];
  const { timeline, note } = answerStory(new HandTime(), "relay", (_, detail) => logged.push(detail));
  for (let i = 0; i < 100; i++) note("not let in", String(i));
  expect(timeline.map(({ detail }) => detail)).toEqual(logged.slice(0, 64));
  expect(logged.length).toBe(100);
});
