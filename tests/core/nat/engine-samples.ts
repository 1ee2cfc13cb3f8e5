/** Samples as a detection takes them, straight from the NAT engine: runs of neighbouring local ports, with jumps. */
import type { MappingSample } from "../../../core/nat/observations.ts";
import type { NatEngine } from "../../nat/engine.ts";
import { createNatEngine } from "../../nat/engine.ts";
import type { NatSettings } from "../../nat/settings.ts";

const LOCAL_IP = "192.168.1.2";
const SERVER = { ip: "5.44.1.10", port: 3478 };
/** First ports of the runs. */
const RUNS = [14_900, 52_000, 3100, 61_000, 33_333];
const RUN_LENGTH = 6;

export interface SamplingOptions {
  /** Called before each mapping with its position. */
  readonly before?: (engine: NatEngine, position: number, nowMs: number) => void;
  /** First local ports of the runs. */
  readonly runs?: readonly number[];
}

/** All samples, each one of a fresh local port towards one server. */
export function engineSamples(
  settings: NatSettings,
  { before = () => undefined, runs = RUNS }: SamplingOptions = {},
): readonly MappingSample[] {
  const engine = createNatEngine(settings, "5.44.10.10");
  const locals = runs.flatMap((first) => Array.from({ length: RUN_LENGTH }, (_, i) => first + i));
  return locals.map((localPort, position) => {
    before(engine, position, position);
    return { position, localPort, externalPort: mapUdp(engine, LOCAL_IP, localPort, position) };
  });
}

/** The external port of a local one. */
export function mapUdp(engine: NatEngine, ip: string, port: number, nowMs: number): number {
  const verdict = engine.outbound(nowMs, { protocol: "udp", source: { ip, port }, destination: SERVER });
  if (verdict.action !== "forward") throw new Error(`the engine did not forward: ${verdict.action}`);
  return verdict.source.port;
}
