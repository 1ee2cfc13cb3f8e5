/**
 * One `open`, from the target's address to a session that stands: the strategies that this node has, the timeline
 * of every step, and in the end either a session or why each attempt failed.
 */
import { directLane } from "../connect/direct.ts";
import { planDirect } from "../connect/plan.ts";
import { type Attempt, type FailedAttempt, type Path, race, type Strategy } from "../connect/race.ts";
import { ERROR_CODES, P2pdError, toP2pdError } from "../errors.ts";
import type { World } from "../net/world.ts";
import type { Address } from "../wire/address.ts";
import type { Reason } from "../wire/session-frame.ts";
import { type Identity, keyOfId } from "./identity.ts";
import type { OpenOptions, TimelineEntry } from "./node-api.ts";
import { Session } from "./session.ts";

export interface DialledSession {
  readonly session: Session;
  readonly path: Path;
  readonly timeline: readonly TimelineEntry[];
  /** When it was asked for, as `Time.now()` told it. */
  readonly beganAt: number;
}

export interface DialContext {
  readonly world: World;
  readonly identity: Identity;
  readonly signal: AbortSignal;
  /** Those that the configuration allows. */
  readonly strategies: readonly Strategy[];
  /** Our external addresses, as far as they are known. */
  readonly externals: readonly string[];
}

const OPEN_TIMEOUT_MS = 15_000;
/** Strategies that begin with a message to the peer over a broker. */
const SIGNALLED: readonly Strategy[] = ["reverse", "punch", "relay"];

/** Rejects with `connect-failed`, or the code of the peer's refusal; `detail` has `attempts` and `timeline`. */
export async function dial(
  context: DialContext,
  peer: Address,
  options: OpenOptions,
): Promise<DialledSession> {
  const { time } = context.world;
  const beganAt = time.now();
  const timeline: TimelineEntry[] = [];
  const note = (strategy: Strategy, candidate: string, event: string, detail: string): void => {
    timeline.push({ ms: Math.round((time.now() - beganAt) * 10) / 10, strategy, candidate, event, detail });
  };
  const attempts: FailedAttempt[] = [];
  try {
    const { lanes, skipped } = lanesOf(context, peer, options);
    attempts.push(...skipped);
    const timeoutMs = options.timeoutMs ?? OPEN_TIMEOUT_MS;
    const path = await race(time, { lanes, timeoutMs, signal: context.signal, note });
    const session = new Session(path.stream, { role: "dialer", time });
    session.greet(options.service);
    note(path.strategy, path.candidate, "greeted", options.service ?? "");
    if (options.service !== undefined) {
      const { refusal } = await session.welcomed;
      note(
        path.strategy,
        path.candidate,
        refusal === undefined ? "welcomed" : "refused",
        refusal?.text ?? "",
      );
      if (refusal !== undefined) throw refusalError(refusal);
    }
    return { session, path, timeline, beganAt };
  } catch (thrown) {
    const error = toP2pdError(thrown, "connect-failed");
    for (const { strategy, reason } of attempts) note(strategy, "", "skipped", reason);
    attempts.unshift(...((error.detail["attempts"] as FailedAttempt[] | undefined) ?? []));
    const detail = { ...error.detail, attempts, timeline };
    throw new P2pdError(error.code, failureText(error, attempts), detail, { cause: error });
  }
}

/** What may be tried, and for each strategy that may not, why. */
function lanesOf(
  { world, identity, strategies, externals }: DialContext,
  peer: Address,
  options: OpenOptions,
): { readonly lanes: readonly (readonly Attempt[])[]; readonly skipped: readonly FailedAttempt[] } {
  const skipped: FailedAttempt[] = [];
  const lanes: (readonly Attempt[])[] = [];
  const skip = (strategy: Strategy, reason: string): void => {
    skipped.push({ strategy, candidate: "", reason });
  };
  const allowed = options.strategies ?? strategies;
  const expectedKey = keyOfId(peer.id);
  const own = { machine: identity.machineId, nics: world.nics(), externals };
  const candidates = planDirect(peer, own, ["tcp"]);
  if (!allowed.includes("direct")) skip("direct", "the strategy direct is not allowed here");
  else if (options.transport === "udp")
    skip("direct", "direct connects go by TCP, and transport=udp was asked for");
  else if (expectedKey === undefined) skip("direct", "the peer's id carries no key");
  else if (candidates.length === 0)
    skip("direct", "no endpoint of the address can be reached from the networks of this machine");
  else {
    const { credentials } = identity;
    lanes.push(directLane(world, candidates, { strategy: "direct", credentials, expectedKey }));
  }
  for (const strategy of SIGNALLED.filter((other) => allowed.includes(other)))
    skip(strategy, "needs a message to the peer, and this node has no signaling: no broker is in use");
  return { lanes, skipped };
}

function refusalError({ code, text }: Reason): P2pdError {
  const known = ERROR_CODES.find((candidate) => candidate === code) ?? "connect-failed";
  return new P2pdError(known, `the peer refused: ${text}`);
}

function failureText(error: P2pdError, attempts: readonly FailedAttempt[]): string {
  if (error.code !== "connect-failed") return error.message;
  const reasons = attempts.map(({ strategy, candidate, reason }) => {
    return `${strategy}${candidate === "" ? "" : ` ${candidate}`}: ${reason}`;
  });
  return `no strategy reached the peer: ${reasons.join("; ")}`;
}
