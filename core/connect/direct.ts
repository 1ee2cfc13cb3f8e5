/**
 * The direct strategy: knocks at the endpoints where the peer listens, TLS on TCP or QUIC on UDP, and demands that
 * whoever answers proves the key that was asked for. Which endpoints, and in which order, is decided in `plan.ts`.
 */
import { formatEndpoint } from "../ip.ts";
import type { Credentials, World } from "../net/world.ts";
import { explainFailure } from "./explain-failure.ts";
import type { DirectCandidate } from "./plan.ts";
import type { Attempt, AttemptContext, Path, Strategy } from "./race.ts";

/** One endpoint does not use up the time of all. */
const ATTEMPT_TIMEOUT_MS = 8000;

export interface DirectOptions {
  /** What these attempts are called: connecting back is `reverse`. */
  readonly strategy: Strategy;
  readonly credentials: Credentials;
  /** Compressed key that the peer must prove. */
  readonly expectedKey: Uint8Array;
}

/** The candidates as one lane of a race. */
export function directLane(
  world: World,
  candidates: readonly DirectCandidate[],
  options: DirectOptions,
): readonly Attempt[] {
  return candidates.map((candidate) => ({
    strategy: options.strategy,
    candidate: `${formatEndpoint(candidate.endpoint)}/${candidate.transport}`,
    leadMs: candidate.leadMs,
    run: (context) => knock(world, candidate, options, context),
  }));
}

async function knock(
  world: World,
  { endpoint, transport, kind }: DirectCandidate,
  { strategy, credentials, expectedKey }: DirectOptions,
  { signal, leftMs, note }: AttemptContext,
): Promise<Path> {
  const began = world.time.now();
  const timeoutMs = Math.min(ATTEMPT_TIMEOUT_MS, leftMs());
  note("connecting", kind);
  try {
    const raw = await world.connectTcp({ remote: endpoint, timeoutMs, signal });
    const rttMs = world.time.now() - began;
    note("connected", `TCP in ${rttMs.toFixed(1)} ms`);
    const rest = { timeoutMs: Math.max(1, timeoutMs - rttMs), signal };
    const stream = await world.secure(raw, { role: "client", credentials, expectedKey, ...rest });
    note("authenticated", stream.cipher);
    return { strategy, transport, candidate: formatEndpoint(endpoint), stream, rttMs };
  } catch (thrown) {
    throw explainFailure(thrown, transport, timeoutMs);
  }
}
