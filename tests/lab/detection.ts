/**
 * Detection against real kernels: configurations with several seeds, asked for by the project's own code on a host
 * behind the router, and compared with what was configured. `lab.ts` prints it, `detection.test.ts` runs a part.
 */
import type { NatDetection } from "../../core/stun/detect-nat.ts";
import type { StunServer } from "../../core/stun/server-url.ts";
import { CONFIGURATIONS, type NatConfiguration } from "../nat/configurations.ts";
import { misjudgement, type Misjudgement } from "../nat/expected-kind.ts";
import { changeSettings } from "../nat/settings.ts";
import { parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { Lab } from "./laboratory.ts";
import { linesOf } from "./natbox-control.ts";

/** `good`: three honest servers, coturn among them. `bad`: one dead, one ignoring CHANGE-REQUEST, one lying. */
export type ServerMix = "good" | "bad";

export interface DetectionRun extends Misjudgement {
  readonly configuration: string;
  readonly seed: number;
  readonly elapsedMs: number;
}

export interface DetectionOptions {
  readonly servers: ServerMix;
  /** Share of packets lost at the router, each way. */
  readonly loss: number;
  readonly seeds: readonly number[];
  /** All 35 unless given. */
  readonly configurations?: readonly NatConfiguration[];
  readonly told?: (run: DetectionRun) => void;
}

const ONE_WAY_MS = 25;

/** Every configuration with every seed, one after the other in one laboratory. */
export async function runDetections(options: DetectionOptions): Promise<readonly DetectionRun[]> {
  const any = parseRouterKind("port-restricted");
  await using lab = await Lab.create(twoHosts(any, any));
  const servers = await startServers(lab, options.servers);
  const host = lab.host("alice").spawn([process.execPath, `${import.meta.dir}/detecting-host.ts`]);
  const lines = linesOf(host.stdout)[Symbol.asyncIterator]();
  const runs: DetectionRun[] = [];
  for (const { name, settings } of options.configurations ?? CONFIGURATIONS) {
    for (const seed of options.seeds) {
      const link = { delayMs: ONE_WAY_MS, loss: options.loss };
      const now = changeSettings(settings, { seed: settings.seed ^ seed, link });
      await lab.router("a").set(now);
      void host.stdin.write(`${JSON.stringify({ localIp: lab.host("alice").ip4, servers })}\n`);
      await host.stdin.flush();
      const { value = '{"failure":"it ended"}' } = await lines.next();
      const found = JSON.parse(value) as Partial<NatDetection> & { readonly failure?: string };
      const { ipv4 } = await lab.router("a").state();
      const { profile, elapsedMs = Number.NaN, failure } = found;
      const verdict = misjudgement(profile, now, ipv4);
      const wrong = failure === undefined ? verdict.wrong : [failure];
      const run = { ...verdict, configuration: name, seed, wrong, elapsedMs };
      runs.push(run);
      options.told?.(run);
    }
  }
  return runs;
}

async function startServers(lab: Lab, mix: ServerMix): Promise<readonly StunServer[]> {
  const { servers } = lab;
  if (mix === "good") {
    const all = [await servers.coturn(), await servers.stun("honest", 0), await servers.stun("honest", 1)];
    return all.map(addressOf);
  }
  const dead = await servers.stun("honest", 0);
  const all = [dead, await servers.stun("ignores-change-request", 1), await servers.stun("wrong-address", 2)];
  dead.freeze();
  return all.map(addressOf);
}

function addressOf({
  endpoint,
}: {
  readonly endpoint: { readonly ip: string; readonly port: number };
}): StunServer {
  return { host: endpoint.ip, port: endpoint.port };
}
