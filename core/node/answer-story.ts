/** Our part in what a peer asked for by signal, as the beginning of the timeline of the connection that comes of it. */
import type { Note, Strategy } from "../connect/race.ts";
import type { Time } from "../net/world.ts";
import type { TimelineEntry } from "./node-api.ts";

/** Of one answer. */
const MAX_NOTES = 64;

export interface AnswerStory {
  /** When the peer asked, as `Time.now()` told it. */
  readonly beganAt: number;
  /** Grows. */
  readonly timeline: readonly TimelineEntry[];
  readonly note: Note;
}

/** `log` is told each note, those included that the timeline has no room for. */
export function answerStory(time: Time, strategy: Strategy, log: Note): AnswerStory {
  const beganAt = time.now();
  const timeline: TimelineEntry[] = [];
  return {
    beganAt,
    timeline,
    note(event, detail) {
      const ms = Math.round((time.now() - beganAt) * 10) / 10;
      if (timeline.length < MAX_NOTES) timeline.push({ ms, strategy, candidate: "by signal", event, detail });
      log(event, detail);
    },
  };
}
