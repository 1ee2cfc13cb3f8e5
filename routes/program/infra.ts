/**
 * `p2pd infra`: runs the servers that nodes need, prints what clients are to be told, and ends on SIGINT, SIGTERM or
 * SIGHUP with everything closed.
 */
import { startInfra } from "../../core/infra/infra.ts";
import { formatEndpoint } from "../../core/ip.ts";
import { serveInfraStatus } from "../infra-status.ts";
import type { Settings } from "./settings.ts";

export async function runInfra({ world, config, log, terminal }: Settings): Promise<number> {
  const signals = terminal.signals();
  try {
    const infra = await startInfra(world, config, log);
    try {
      const local = { ip: config.infraStatusHost, port: config.infraStatusPort };
      const status = await serveInfraStatus(world, infra, local);
      for (const { server, endpoint } of infra.listening) {
        terminal.print(`${server}: ${formatEndpoint(endpoint)}`);
      }
      terminal.print(`status: http://${formatEndpoint(status.local)}/`);
      terminal.print("Clients use these servers so:");
      terminal.print(infra.clientLine);
      log.debug("asked to end", { signal: await signals.received });
      status.close();
    } finally {
      await infra.close();
    }
  } finally {
    signals.stop();
  }
  return 0;
}
