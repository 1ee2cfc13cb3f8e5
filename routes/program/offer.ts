/** `p2pd offer NAME IP:PORT`: offers a local TCP port to peers until the daemon ends; the counterpart of `forward`. */
import { createApiClient } from "./api-client.ts";
import type { Settings } from "./settings.ts";

/** @param allow ids that may use it; absent: every peer */
export async function runOffer(
  settings: Settings,
  name: string,
  to: string,
  allow: readonly string[] | undefined,
): Promise<number> {
  const body = { to, ...(allow === undefined ? {} : { allow }) };
  await createApiClient(settings).request(`/p2p/services/${encodeURIComponent(name)}`, "PUT", body);
  const who = allow === undefined ? "every peer" : allow.join(", ");
  settings.terminal.print(`${name}: ${to} is offered to ${who}`);
  return 0;
}
