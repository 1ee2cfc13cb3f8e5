/**
 * `p2pd forward LOCALPORT PEER SERVICE`: every TCP connection to a port of this machine becomes a connection to a
 * peer's service, through the daemon. Ends on a signal.
 */
import { P2pdError, toP2pdError } from "../../core/errors.ts";
import { formatEndpoint } from "../../core/ip.ts";
import type { ByteStream } from "../../core/net/world.ts";
import { createApiClient } from "./api-client.ts";
import { openPath } from "./open.ts";
import { forget, joinOverHttp, randomName } from "./pipe-over-http.ts";
import type { Settings } from "./settings.ts";

export async function runForward(
  settings: Settings,
  localPort: string,
  peer: string,
  service: string,
): Promise<number> {
  const { world, terminal } = settings;
  const port = /^[0-9]{1,5}$/.test(localPort) ? Number(localPort) : Number.NaN;
  if (!(port <= 65_535))
    throw new P2pdError("configuration", `LOCALPORT is "${localPort}"; expected a port, 0 to 65535`);
  const client = createApiClient(settings);
  await client.request("/version");
  const open = new Set<ByteStream>();
  const carry = async (local: ByteStream): Promise<void> => {
    const name = `forward-${randomName(world)}`;
    open.add(local);
    try {
      await client.request(openPath(name, peer, service));
      await joinOverHttp(client, await client.connect(), name, local, () => {
        open.delete(local);
        void forget(settings, client, name);
      });
    } catch (thrown) {
      const error = toP2pdError(thrown);
      open.delete(local);
      local.abort(error);
      terminal.complain(`p2pd: ${service} of ${peer.slice(0, 60)}: ${error.message}`);
      await forget(settings, client, name);
    }
  };
  const listener = await world.listenTcp({
    local: { ip: "127.0.0.1", port },
    accept: (local) => void carry(local),
  });
  terminal.print(`${formatEndpoint(listener.local)} leads to ${service} of ${peer}`);
  const signals = terminal.signals();
  await signals.received;
  listener.close();
  for (const stream of open) stream.abort(new P2pdError("closed", "the forwarding was stopped"));
  return 0;
}
