/** How a connection came about, for people: one step a line, with when, by which strategy, where and what happened. */
import type { TimelineEntry } from "../../core/node/node-api.ts";

export function timelineLines(timeline: readonly TimelineEntry[]): readonly string[] {
  const width = Math.max(0, ...timeline.map(({ candidate }) => candidate.length));
  return timeline.map(({ ms, strategy, candidate, event, detail }) => {
    const when = ms.toFixed(1).padStart(8);
    return `${when} ms  ${strategy.padEnd(7)}  ${candidate.padEnd(width)}  ${event}${detail === "" ? "" : `: ${detail}`}`;
  });
}
