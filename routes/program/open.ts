/**
 * `p2pd open NAME ADDR`: lets the daemon open a connection, which stays open under its name, and shows how it came
 * about, or what was tried.
 */
import { P2pdError } from "../../core/errors.ts";
import type { TimelineEntry } from "../../core/node/node-api.ts";
import { createApiClient } from "./api-client.ts";
import type { Settings } from "./settings.ts";
import { timelineLines } from "./timeline-lines.ts";

export async function runOpen(
  settings: Settings,
  name: string,
  address: string,
  service?: string,
): Promise<number> {
  const { terminal } = settings;
  const showTimeline = (facts: Readonly<Record<string, unknown>>): void => {
    const { timeline } = facts;
    if (!Array.isArray(timeline)) return;
    for (const line of timelineLines(timeline as TimelineEntry[])) terminal.print(line);
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

/** The request that opens a connection. */
export function openPath(name: string, address: string, service?: string): string {
  const query = service === undefined ? "" : `?service=${encodeURIComponent(service)}`;
  return `/p2p/open/${encodeURIComponent(name)}/${encodeURIComponent(address)}${query}`;
}
