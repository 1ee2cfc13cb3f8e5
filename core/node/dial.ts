/**
 * One `open`, from the target's address to a session that stands: the strategies that this node has, the timeline
 * of every step, and in the end either a session or why each attempt failed.
 */
import { connectDirect, type DirectPath } from "../connect/direct.ts";
import { directCandidates } from "../connect/direct-candidates.ts";
import { ERROR_CODES, P2pdError, toP2pdError } from "../errors.ts";
import type { World } from "../net/world.ts";
import type { Address } from "../wire/address.ts";
import type { Reason } from "../wire/session-frame.ts";
import { type Identity, keyOfId } from "./identity.ts";
import type { OpenOptions, Strategy, TimelineEntry } from "./node-api.ts";
import { Session } from "./session.ts";

export interface FailedStrategy {
  readonly strategy: Strategy;
  readonly candidate: string;
  readonly reason: string;
}

export interface DialledSession {
  readonly session: Session;
  readonly path: DirectPath;
  readonly timeline: readonly TimelineEntry[];
}

export interface DialContext {
  readonly world: World;
  readonly identity: Identity;
  readonly signal: AbortSignal;
  /** Those that the configuration allows. */
  readonly strategies: readonly Strategy[];
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
  const began = time.now();
  const timeline: TimelineEntry[] = [];
  const note = (strategy: Strategy) => (candidate: string, event: string, detail: string) => {
    timeline.push({ ms: Math.round((time.now() - began) * 10) / 10, strategy, candidate, event, detail });
  };
  const attempts: FailedStrategy[] = [];
  const asked = options.strategies ?? context.strategies;
  try {
    const path = await direct(context, peer, options, attempts, note("direct"));
    const session = new Session(path.stream, { role: "dialer", time });
    session.greet(options.service);
    note("direct")(
      path.candidate,
      "greeted",
      options.service === undefined ? "" : `service ${options.service}`,
    );
    if (options.service !== undefined) await admitted(session, path, note("direct"));
    return { session, path, timeline };
  } catch (thrown) {
    const error = toP2pdError(thrown, "connect-failed");
    if (error.code === "connect-failed") {
      for (const strategy of SIGNALLED.filter((other) => asked.includes(other))) {
        const reason = "needs a message to the peer, and this node has no signaling: no broker is in use";
        attempts.push({ strategy, candidate: "", reason });
        note(strategy)("", "failed", reason);
      }
    }
    throw new P2pdError(
      error.code,
      failureText(error, attempts),
      { ...error.detail, attempts, timeline },
      { cause: error },
    );
  }
}

async function direct(
  { world, identity, signal, strategies }: DialContext,
  peer: Address,
  options: OpenOptions,
  attempts: FailedStrategy[],
  report: (candidate: string, event: string, detail: string) => void,
): Promise<DirectPath> {
  const refuse = (reason: string): never => {
    attempts.push({ strategy: "direct", candidate: "", reason });
    throw new P2pdError("connect-failed", reason);
  };
  if (!(options.strategies ?? strategies).includes("direct"))
    refuse("the strategy direct is not allowed here");
  if (options.transport === "udp") refuse("direct connects go by TCP, and transport=udp was asked for");
  const candidates = directCandidates(peer, { machine: identity.machineId, nics: world.nics() });
  if (candidates.length === 0)
    refuse("no endpoint of the address can be reached from the networks of this machine");
  const expectedKey = keyOfId(peer.id) ?? refuse("the peer's id carries no key");
  try {
    return await connectDirect(world, {
      candidates,
      credentials: identity.credentials,
      expectedKey,
      timeoutMs: options.timeoutMs ?? OPEN_TIMEOUT_MS,
      signal,
      report,
    });
  } catch (thrown) {
    const error = toP2pdError(thrown, "connect-failed");
    attempts.push(...((error.detail["attempts"] as FailedStrategy[] | undefined) ?? []));
    throw error;
  }
}

/** Waits for the peer's word on a named service, so that a refusal is an error of the open. */
async function admitted(
  session: Session,
  path: DirectPath,
  note: (candidate: string, event: string, detail: string) => void,
): Promise<void> {
  const { refusal } = await session.welcomed;
  if (refusal === undefined) {
    note(path.candidate, "welcomed", "");
    return;
  }
  note(path.candidate, "refused", refusal.text);
  throw refusalError(refusal);
}

function refusalError({ code, text }: Reason): P2pdError {
  const known = ERROR_CODES.find((candidate) => candidate === code) ?? "connect-failed";
  return new P2pdError(known, `the peer refused: ${text}`);
}

function failureText(error: P2pdError, attempts: readonly FailedStrategy[]): string {
  if (error.code !== "connect-failed") return error.message;
  const reasons = attempts.map(({ strategy, candidate, reason }) => {
    return `${strategy}${candidate === "" ? "" : ` ${candidate}`}: ${reason}`;
  });
  return `no strategy reached the peer: ${reasons.join("; ")}`;
}
