/**
 * The direct strategy: knocks at the endpoints where the peer listens, TLS on TCP or QUIC on UDP, and demands that
 * whoever answers proves the key that was asked for. Which endpoints, and in which order, is decided in `plan.ts`.
 */
import { P2pdError } from "../errors.ts";
import { type Endpoint, formatEndpoint } from "../ip.ts";
import type { Credentials, QuicEndpoint, SecureStream, World } from "../net/world.ts";
import { explainFailure } from "./explain-failure.ts";
import { pause } from "./pause.ts";
import type { DirectCandidate } from "./plan.ts";
import type { Attempt, AttemptContext, Note, Path, Strategy } from "./race.ts";

/** A host that refuses TCP hardly has a node on UDP; so much longer it is waited for. */
const REFUSED_GRACE_MS = 500;

export interface DirectOptions {
  /** What these attempts are called: connecting back is `reverse`. */
  readonly strategy: Strategy;
  readonly credentials: Credentials;
  /** Compressed key that the peer must prove. */
  readonly expectedKey: Uint8Array;
  /** Where QUIC leaves from; absent: candidates over UDP fail. */
  readonly quic?: QuicEndpoint | undefined;
  /** How often paths over QUIC show a sign of life, in milliseconds; that of `quic` unless given. */
  readonly keepAliveMs?: number | undefined;
}

/** The candidates as one lane of a race. */
export function directLane(
  world: World,
  candidates: readonly DirectCandidate[],
  options: DirectOptions,
): readonly Attempt[] {
  const closed = new Map<string, AbortController>();
  for (const { endpoint } of candidates) closed.set(formatEndpoint(endpoint), new AbortController());
  let beganAt: number | undefined;
  return candidates.map((candidate) => ({
    strategy: options.strategy,
    candidate: labelOf(candidate),
    leadMs: candidate.leadMs,
    run: async (context) => {
      beganAt ??= world.time.now();
      await pause(world, Math.max(0, beganAt + candidate.afterMs - world.time.now()), context.signal);
      const door = closed.get(formatEndpoint(candidate.endpoint)) as AbortController;
      return knock(world, candidate, options, context, door);
    },
  }));
}

/** @param door fires when the endpoint is known to be closed for either transport */
async function knock(
  world: World,
  candidate: DirectCandidate,
  options: DirectOptions,
  { signal, leftMs, note }: AttemptContext,
  door: AbortController,
): Promise<Path> {
  const { endpoint, transport, kind, patienceMs } = candidate;
  const timeoutMs = Math.min(patienceMs, leftMs());
  note("connecting", kind);
  try {
    const { stream, rttMs } = await (transport === "tcp"
      ? knockTcp(world, endpoint, options, { timeoutMs, signal }, note)
      : knockUdp(world, endpoint, options, { timeoutMs, signal: AbortSignal.any([signal, door.signal]) }));
    note("authenticated", stream.cipher);
    return { strategy: options.strategy, transport, candidate: labelOf(candidate), stream, rttMs };
  } catch (thrown) {
    const error = explainFailure(thrown, transport, timeoutMs);
    if (error.code === "refused" && transport === "tcp") {
      world.time.after(REFUSED_GRACE_MS, () => door.abort(), { background: true });
    }
    if (error.code !== "aborted" || signal.aborted) throw error;
    throw new P2pdError(
      "refused",
      "no answer over UDP, and the host refuses TCP on this port",
      {},
      { cause: error },
    );
  }
}

interface Limits {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

interface Authenticated {
  readonly stream: SecureStream;
  readonly rttMs: number;
}

async function knockTcp(
  world: World,
  remote: Endpoint,
  { credentials, expectedKey }: DirectOptions,
  { timeoutMs, signal }: Limits,
  note: Note,
): Promise<Authenticated> {
  const began = world.time.now();
  const raw = await world.connectTcp({ remote, timeoutMs, signal });
  const rttMs = world.time.now() - began;
  note("connected", `TCP in ${rttMs.toFixed(1)} ms`);
  const leftMs = Math.max(1, timeoutMs - rttMs);
  const stream = await world.secure(raw, {
    role: "client",
    credentials,
    expectedKey,
    timeoutMs: leftMs,
    signal,
  });
  return { stream, rttMs };
}

async function knockUdp(
  { time }: World,
  remote: Endpoint,
  { quic, expectedKey, keepAliveMs }: DirectOptions,
  limits: Limits,
): Promise<Authenticated> {
  if (quic === undefined) throw new P2pdError("unsupported", "this node has no QUIC");
  const began = time.now();
  const stream = await quic.connect({ remote, expectedKey, keepAliveMs, ...limits });
  return { stream, rttMs: time.now() - began };
}

function labelOf({ endpoint, transport }: DirectCandidate): string {
  return `${formatEndpoint(endpoint)}/${transport}`;
}
