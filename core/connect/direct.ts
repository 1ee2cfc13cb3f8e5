/**
 * The direct strategy: TCP to the endpoints where the peer listens, one after another in short steps and all at
 * once in the end, TLS on each that stands, and the first whose peer proves the key that was asked for wins. Which
 * endpoints are worth a try is decided in `direct-candidates.ts`.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, formatEndpoint } from "../ip.ts";
import type { Credentials, SecureStream, Time, World } from "../net/world.ts";

/** How long a candidate has the field to itself before the next one starts beside it (RFC 8305 section 5). */
const STAGGER_MS = 100;

export interface DirectCandidate {
  readonly endpoint: Endpoint;
  /** Why it is tried: "this machine", "same network", … */
  readonly kind: string;
}

/** One step of an attempt, for the connection's timeline. */
export type ReportStep = (candidate: string, event: string, detail: string) => void;

export interface DirectOptions {
  readonly candidates: readonly DirectCandidate[];
  readonly credentials: Credentials;
  /** Compressed key that the peer must prove. */
  readonly expectedKey: Uint8Array;
  /** For all of it. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  readonly report: ReportStep;
}

export interface DirectPath {
  readonly stream: SecureStream;
  readonly candidate: string;
  /** Of the TCP handshake, in milliseconds. */
  readonly rttMs: number;
}

export interface FailedAttempt {
  readonly strategy: "direct";
  readonly candidate: string;
  readonly reason: string;
}

/** Resolves with the first authenticated path; rejects `connect-failed` with `detail` {attempts}. */
export async function connectDirect(world: World, options: DirectOptions): Promise<DirectPath> {
  const race = new AbortController();
  const { signal } = options;
  const stop = (): void => race.abort();
  signal?.addEventListener("abort", stop, { once: true });
  if (signal?.aborted === true) stop();
  const deadline = world.time.now() + options.timeoutMs;
  const failed: FailedAttempt[] = [];
  const running: Promise<DirectPath>[] = [];
  try {
    for (const candidate of options.candidates) {
      const attempt = tryCandidate(world, options, candidate, deadline, race.signal);
      attempt.catch((error: P2pdError) => {
        failed.push({
          strategy: "direct",
          candidate: formatEndpoint(candidate.endpoint),
          reason: error.message,
        });
      });
      running.push(attempt);
      const turn = await nextTurn(world.time, attempt, running);
      if (turn === "over" || race.signal.aborted) break;
    }
    const winner = await Promise.any(running);
    race.abort();
    for (const loser of running) loser.then((path) => path !== winner && path.stream.abort(), isLost);
    return winner;
  } catch {
    throw new P2pdError("connect-failed", "no direct path: every endpoint of the peer failed", {
      attempts: failed,
    });
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

async function tryCandidate(
  world: World,
  options: DirectOptions,
  { endpoint, kind }: DirectCandidate,
  deadline: number,
  signal: AbortSignal,
): Promise<DirectPath> {
  const { credentials, expectedKey, report } = options;
  const candidate = formatEndpoint(endpoint);
  const began = world.time.now();
  const left = (): number => Math.max(1, deadline - world.time.now());
  report(candidate, "connecting", kind);
  try {
    const stream = await world.connectTcp({ remote: endpoint, timeoutMs: left(), signal });
    const rttMs = world.time.now() - began;
    report(candidate, "connected", `TCP in ${rttMs.toFixed(1)} ms`);
    const secured = await world.secure(stream, {
      role: "client",
      credentials,
      expectedKey,
      timeoutMs: left(),
      signal,
    });
    report(candidate, "authenticated", secured.cipher);
    return { stream: secured, candidate, rttMs };
  } catch (thrown) {
    const error = toP2pdError(thrown, "connect-failed");
    report(candidate, error.code === "aborted" ? "stopped" : "failed", error.message);
    throw error;
  }
}

/** When the next candidate may start: the current one failed, or had its time; "over": one of them has won. */
function nextTurn(
  time: Time,
  current: Promise<unknown>,
  running: readonly Promise<unknown>[],
): Promise<"next" | "over"> {
  return new Promise((resolve) => {
    const timer = time.after(STAGGER_MS, () => resolve("next"));
    const settle = (turn: "next" | "over"): void => {
      timer.cancel();
      resolve(turn);
    };
    for (const attempt of running) {
      attempt.then(
        () => settle("over"),
        () => attempt === current && settle("next"),
      );
    }
  });
}

const isLost = (): void => undefined;
