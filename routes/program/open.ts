/** `p2pd open NAME ADDR`: lets the daemon open a connection, which stays open under its name. */
import { createApiClient } from "./api-client.ts";
import type { Settings } from "./settings.ts";

export async function runOpen(
  settings: Settings,
  name: string,
  address: string,
  service?: string,
): Promise<number> {
  const answer = await createApiClient(settings).request(openPath(name, address, service));
  const [ip, port] = answer["raddr"] as [string, number];
  const peer = ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
  settings.terminal.print(`${name}: ${String(answer["path"])} to ${peer}, ${String(answer["cipher"])}`);
  return 0;
}

/** The request that opens a connection. */
export function openPath(name: string, address: string, service?: string): string {
  const query = service === undefined ? "" : `?service=${encodeURIComponent(service)}`;
  return `/p2p/open/${encodeURIComponent(name)}/${encodeURIComponent(address)}${query}`;
}
