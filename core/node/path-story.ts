/** What becomes of a connection's path, as lines of its timeline and as an event. */
import { pathName } from "../connect/race.ts";
import type { Time } from "../net/world.ts";
import type { NodeEvent, TimelineEntry } from "./node-api.ts";
import type { Session } from "./session.ts";
import type { PathTeller } from "./session-keeping.ts";

/** Of one connection, beside those of its opening; the oldest make room. */
const MAX_LINES = 128;

export interface StoryOptions {
  readonly time: Time;
  readonly name: string;
  readonly peerId: string;
  readonly session: Session;
  /** When opening it began, as `Time.now()` told it. */
  readonly beganAt: number;
  /** Grows. */
  readonly timeline: TimelineEntry[];
  readonly emit: (event: NodeEvent["event"], data: NodeEvent["data"]) => void;
}

export function tellPathStory(options: StoryOptions): PathTeller {
  const { time, name, peerId, session, beganAt, timeline, emit } = options;
  const opening = timeline.length;
  const note = (event: string, detail: string): void => {
    const { strategy, candidate } = session.path;
    if (timeline.length - opening >= MAX_LINES) timeline.splice(opening, 1);
    timeline.push({ ms: Math.round((time.now() - beganAt) * 10) / 10, strategy, candidate, event, detail });
  };
  return {
    interrupted: (why) => note("interrupted", why),
    restored: (interruptedMs) => note("restored", `after ${Math.round(interruptedMs)} ms`),
    moved(interruptedMs) {
      const ms = Math.round(interruptedMs);
      note("moved", ms === 0 ? "nothing was interrupted" : `after an interruption of ${ms} ms`);
      emit("moved", { name, peer: peerId, path: pathName(session.path), interruptedMs: ms });
    },
  };
}
