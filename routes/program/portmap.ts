/** `p2pd portmap`: what routers forward to the daemon, in words. */
import { createApiClient } from "./api-client.ts";
import type { Settings } from "./settings.ts";

/** @param refresh ask the routers anew first */
export async function runPortmap(settings: Settings, refresh: boolean, json: boolean): Promise<number> {
  const client = createApiClient(settings);
  const answer = refresh
    ? await client.request("/p2p/portmap/refresh", "POST")
    : await client.request("/p2p/portmap");
  const { terminal } = settings;
  if (json) {
    terminal.print(JSON.stringify(answer, null, 2));
    return 0;
  }
  for (const line of answer["summary"] as string[]) terminal.print(line);
  const places = answer["places"] as { nic: string; family: number; outcomes: Record<string, string> }[];
  for (const { nic, family, outcomes } of places) {
    for (const [protocol, outcome] of Object.entries(outcomes))
      terminal.print(`  ${nic} IPv${family} ${protocol}: ${outcome}`);
  }
  return 0;
}
