/**
 * `p2pd open NAME ADDR`: lets the daemon open a connection, which stays open under its name, and shows how it came
 * about, or what was tried.
 */
import { P2pdError } from "../../core/errors.ts";
import type { TimelineEntry } from "../../core/node/node-api.ts";
import { createApiClient } from "./api-client.ts";
import type { Settings } from "./settings.ts";

export async function runOpen(
  settings: Settings,
  name: string,
  address: string,
  service?: string,
): Promise<number> {
  const { terminal } = settings;
  const showTimeline = (facts: Readonly<Record<string, unknown>>): void => {
    for (const line of timelineOf(facts)) terminal.print(line);
  };
  let answer: Record<string, unknown>;
  try {
    answer = await createApiClient(settings).request(openPath(name, address, service));
  } catch (thrown) {
    if (thrown instanceof P2pdError) showTimeline(thrown.detail);
    throw thrown;
  }
  const [ip, port] = answer["raddr"] as [string, number];
  const peer = ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
  terminal.print(`${name}: ${String(answer["path"])} to ${peer}, ${String(answer["cipher"])}`);
  showTimeline(answer);
  return 0;
}

/** One step a line: when, by which strategy, where, what happened. */
function timelineOf(facts: Readonly<Record<string, unknown>>): readonly string[] {
  const timeline = Array.isArray(facts["timeline"]) ? (facts["timeline"] as readonly TimelineEntry[]) : [];
  const width = Math.max(0, ...timeline.map(({ candidate }) => candidate.length));
  return timeline.map(({ ms, strategy, candidate, event, detail }) => {
    const when = ms.toFixed(1).padStart(8);
    return `${when} ms  ${strategy.padEnd(7)}  ${candidate.padEnd(width)}  ${event}${detail === "" ? "" : `: ${detail}`}`;
  });
}

/** The request that opens a connection. */
export function openPath(name: string, address: string, service?: string): string {
  const query = service === undefined ? "" : `?service=${encodeURIComponent(service)}`;
  return `/p2p/open/${encodeURIComponent(name)}/${encodeURIComponent(address)}${query}`;
}
