/**
 * One `open`, from the target's address to a session that stands: the strategies that this node has, the timeline
 * of every step, and in the end either a session or why each attempt failed.
 */
import { directLane } from "../connect/direct.ts";
import { pause } from "../connect/pause.ts";
import { type DirectCandidate, planDirect } from "../connect/plan.ts";
import { noCost, type PunchCost } from "../connect/punch-cost.ts";
import {
  type Attempt,
  type FailedAttempt,
  type NoteAttempt,
  type Path,
  race,
  type Reserve,
  type Strategy,
} from "../connect/race.ts";
import { ERROR_CODES, P2pdError, toP2pdError } from "../errors.ts";
import { randomWord } from "../net/random-word.ts";
import type { QuicEndpoint, World } from "../net/world.ts";
import type { Address, AddressNic } from "../wire/address.ts";
import type { Reason } from "../wire/session-frame.ts";
import type { Channel } from "./channel.ts";
import { channelOf, type Mode } from "./datagram-channel.ts";
import { type Identity, keyOfId } from "./identity.ts";
import type { OpenOptions, RelayPolicy, TimelineEntry } from "./node-api.ts";
import { Session } from "./session.ts";
import type { Signals } from "./signals.ts";

export interface DialledSession {
  readonly session: Session;
  /** What its messages go by. */
  readonly channel: Channel;
  /** Of a relayed path: see `Reached`. */
  readonly later: Promise<Path> | undefined;
  readonly timeline: TimelineEntry[];
  /** When it was asked for, as `Time.now()` told it. */
  readonly beganAt: number;
  /** Of its punches. */
  readonly cost: PunchCost;
}

export interface DialContext {
  readonly world: World;
  readonly identity: Identity;
  readonly signal: AbortSignal;
  /** Those that the configuration allows. */
  readonly strategies: readonly Strategy[];
  /** When a relay may begin, where `OpenOptions` do not say it. */
  readonly relay: RelayPolicy;
  readonly relayAfterMs: number;
  /** Our external addresses, as far as they are known. */
  readonly externals: readonly string[];
  /** Our QUIC. */
  readonly quic?: QuicEndpoint | undefined;
  /** How often direct paths over QUIC show a sign of life, in milliseconds. */
  readonly keepAliveMs: number;
  readonly signals: Signals;
  /** Adds what punches of this open send. */
  readonly cost: PunchCost;
}

/** Whom to connect to: a node, and its address where that is known. */
export interface Target {
  readonly id: string;
  readonly address?: Address;
}

const OPEN_TIMEOUT_MS = 15_000;
const LOOK_UP_TIMEOUT_MS = 3000;
/** How long direct attempts near us have the field before signals are sent. */
const NEAR_DELAY_MS = 300;
/** How long an address line is taken for good before it is compared with the peer's record. */
const LOOK_UP_DELAY_MS = 200;

/** A path to the peer on which nothing has been said yet. */
export interface Reached {
  readonly path: Path;
  /** Of a relayed path: the first direct one, if there will be one. Whoever takes it greets on it or closes it. */
  readonly later?: Promise<Path>;
  /** Ends the search for a later path; what comes all the same is closed. */
  readonly stop: () => void;
  readonly timeline: TimelineEntry[];
  readonly beganAt: number;
  readonly note: NoteAttempt;
}

/**
 * Rejects with `connect-failed`, `no-such-peer` where nothing is known of it, or the code of the peer's refusal;
 * `detail` has `attempts` and `timeline`.
 */
export async function dial(
  facts: Omit<DialContext, "cost">,
  target: Target,
  options: OpenOptions,
): Promise<DialledSession> {
  const context = { ...facts, cost: noCost() };
  const { path, later, stop, timeline, beganAt, note } = await reach(context, target, options);
  const { world, cost } = context;
  const id = randomWord(world);
  const mode = options.transport === "udp" ? "datagrams" : undefined;
  const session = new Session({ role: "dialer", time: world.time, id, path, mode });
  void session.closed.then(stop);
  const giveUp = (): void => session.abort(new P2pdError("aborted", "opening was given up"));
  context.signal.addEventListener("abort", giveUp, { once: true });
  try {
    if (context.signal.aborted) giveUp();
    const channel = await greet(session, options.service, mode, note);
    return { session, channel, later, timeline, beganAt, cost };
  } catch (thrown) {
    later?.then(
      ({ stream }) => stream.abort(),
      () => undefined,
    );
    const error = toP2pdError(thrown, "connect-failed");
    const detail = { ...error.detail, attempts: [], timeline };
    throw new P2pdError(error.code, failureText(error, []), detail, { cause: error });
  } finally {
    context.signal.removeEventListener("abort", giveUp);
  }
}

/** Runs the strategies until one has a path. Rejects like `dial`. */
export async function reach(context: DialContext, target: Target, options: OpenOptions): Promise<Reached> {
  const { time } = context.world;
  const beganAt = time.now();
  const deadline = beganAt + (options.timeoutMs ?? OPEN_TIMEOUT_MS);
  const timeline: TimelineEntry[] = [];
  const note: NoteAttempt = (strategy, candidate, event, detail) => {
    timeline.push({ ms: Math.round((time.now() - beganAt) * 10) / 10, strategy, candidate, event, detail });
  };
  const attempts: FailedAttempt[] = [];
  const searching = new AbortController();
  const stop = (): void => searching.abort();
  const ended = (): void => context.signal.removeEventListener("abort", stop);
  context.signal.addEventListener("abort", stop, { once: true });
  if (context.signal.aborted) stop();
  try {
    let peer = target.address ?? (await lookUp(context, target.id, deadline, note));
    const doubt = Promise.withResolvers<string>();
    const { lanes, skipped } = lanesOf(context, peer, options, doubt.resolve);
    const reserve = reserveOf(context, () => peer, options, doubt);
    const isSkipped = reserve !== undefined && "reason" in reserve;
    attempts.push(...skipped, ...(isSkipped ? [reserve] : []));
    const isFresh = target.address === undefined;
    const fresher = async (): Promise<readonly (readonly Attempt[])[]> => {
      const found = await fresherLanes(context, peer, options, deadline, note, doubt.resolve);
      if (found === undefined) return [];
      peer = found.peer;
      return found.lanes;
    };
    const { path, later } = await race(time, {
      lanes,
      more: isFresh ? [] : [fresher()],
      reserve: isSkipped ? undefined : reserve,
      timeoutMs: Math.max(1, deadline - time.now()),
      signal: searching.signal,
      note,
    });
    if (later === undefined) ended();
    else later.then(ended, ended);
    return { path, stop, timeline, beganAt, note, ...(later === undefined ? {} : { later }) };
  } catch (thrown) {
    ended();
    const error = toP2pdError(thrown, "connect-failed");
    const skipped = error.code === "connect-failed" ? attempts : [];
    for (const { strategy, reason } of skipped) note(strategy, "", "skipped", reason);
    attempts.unshift(...((error.detail["attempts"] as FailedAttempt[] | undefined) ?? []));
    const detail = { ...error.detail, attempts, timeline };
    throw new P2pdError(error.code, failureText(error, attempts), detail, { cause: error });
  }
}

async function lookUp(
  { world, signals, signal }: DialContext,
  id: string,
  deadline: number,
  note: NoteAttempt,
): Promise<Address> {
  if (signals.isOn) note("direct", "brokers", "looking up", "the peer's address record");
  const timeoutMs = Math.min(LOOK_UP_TIMEOUT_MS, Math.max(1, deadline - world.time.now()));
  const address = await signals.lookUp(id, [], timeoutMs, signal);
  note("direct", "brokers", "looked up", `${address.nics.length} endpoints`);
  return address;
}

/** What the peer's record on the brokers knows beyond its address line: that may be old. */
async function fresherLanes(
  { signals, ...rest }: DialContext,
  peer: Address,
  options: OpenOptions,
  deadline: number,
  note: NoteAttempt,
  doubted: (why: string) => void,
): Promise<{ readonly peer: Address; readonly lanes: readonly (readonly Attempt[])[] } | undefined> {
  const context = { signals, ...rest };
  if (!signals.isOn || peer.id === rest.identity.id) return undefined;
  const near = candidatesOf(context, peer, options).some((candidate) => candidate.near);
  // Signals go first, too: what a broker sends meanwhile holds the answer back until it is acknowledged (RFC 896).
  await pause(rest.world, near ? NEAR_DELAY_MS : LOOK_UP_DELAY_MS, rest.signal);
  const timeoutMs = Math.min(LOOK_UP_TIMEOUT_MS, Math.max(1, deadline - rest.world.time.now()));
  const fresh = await signals.lookUp(peer.id, peer.brokers, timeoutMs, rest.signal);
  const isKnown = ({ address, external, port }: AddressNic): boolean =>
    peer.nics.some((old) => old.address === address && old.external === external && old.port === port);
  const nics = fresh.nics.filter((nic) => !isKnown(nic));
  const sameBrokers = JSON.stringify(fresh.brokers) === JSON.stringify(peer.brokers);
  if (nics.length === 0 && sameBrokers) return undefined;
  note("direct", "brokers", "looked up", "the peer's address has changed");
  const lanes = lanesOf(context, { ...fresh, nics }, options, doubted).lanes;
  return {
    peer: fresh,
    lanes: sameBrokers ? lanes.filter((lane) => lane[0]?.strategy === "direct") : lanes,
  };
}

function candidatesOf(
  { world, identity, externals, quic, signals }: DialContext,
  peer: Address,
  { transport }: OpenOptions,
): readonly DirectCandidate[] {
  const own = { machine: identity.machineId, nics: world.nics(), externals, chained: signals.quietMs > 0 };
  const candidates = planDirect(peer, own, transportsOf(transport, quic !== undefined));
  // A node that is busy is slow to answer itself; other addresses of its own would not be faster.
  return peer.id === identity.id ? candidates.slice(0, 1) : candidates;
}

/** What may be tried, and for each strategy that may not, why. */
function lanesOf(
  context: DialContext,
  peer: Address,
  options: OpenOptions,
  doubted: (why: string) => void,
): { readonly lanes: readonly (readonly Attempt[])[]; readonly skipped: readonly FailedAttempt[] } {
  const { world, identity, strategies, quic, keepAliveMs, signals, cost } = context;
  const skipped: FailedAttempt[] = [];
  const lanes: (readonly Attempt[])[] = [];
  const skip = (strategy: Strategy, reason: string): void => {
    skipped.push({ strategy, candidate: "", reason });
  };
  const allowed = options.strategies ?? strategies;
  const expectedKey = keyOfId(peer.id);
  if (expectedKey === undefined) throw new P2pdError("bad-argument", `the id ${peer.id} carries no key`);
  const candidates = candidatesOf(context, peer, options);
  if (!allowed.includes("direct")) skip("direct", "the strategy direct is not allowed here");
  else if (transportsOf(options.transport, quic !== undefined).length === 0)
    skip("direct", "transport=udp was asked for, and this node has no QUIC (see udp in /p2p/status)");
  else if (candidates.length === 0)
    skip("direct", "no endpoint of the address can be reached from the networks of this machine");
  else {
    const knocking = {
      strategy: "direct",
      credentials: identity.credentials,
      expectedKey,
      quic,
      keepAliveMs,
    } as const;
    lanes.push(directLane(world, candidates, knocking));
  }
  const punchLeadMs = allowed.includes("punch") ? signals.reverseDelayMs : 0;
  if (allowed.includes("reverse")) {
    const isNear = lanes.length > 0 && candidates[0]?.near === true;
    const reverse =
      peer.id === identity.id
        ? "a node does not ask itself to connect"
        : signals.reverse(peer, expectedKey, options.transport, isNear ? NEAR_DELAY_MS : punchLeadMs);
    if (typeof reverse === "string") skip("reverse", reverse);
    else lanes.push([reverse]);
  }
  if (allowed.includes("punch")) {
    const isNear = lanes.length > 0 && candidates[0]?.near === true;
    const punch =
      peer.id === identity.id
        ? "a node needs no hole to reach itself"
        : signals.punch(peer, expectedKey, options.transport, isNear ? NEAR_DELAY_MS : 0, { cost, doubted });
    if (typeof punch === "string") skip("punch", punch);
    else lanes.push([punch]);
  }
  return { lanes, skipped };
}

/** The relay and when it may begin; or why there is none, where it is among the strategies. */
function reserveOf(
  { identity, strategies, relay, relayAfterMs, signals }: DialContext,
  peer: () => Address,
  options: OpenOptions,
  doubt: PromiseWithResolvers<string>,
): Reserve | FailedAttempt | undefined {
  const skip = (reason: string): FailedAttempt => ({ strategy: "relay", candidate: "", reason });
  const policy = options.relay ?? relay;
  if (!(options.strategies ?? strategies).includes("relay")) return undefined;
  if (policy === "never") return skip("relay=never");
  if (peer().id === identity.id) return skip("a node needs no relay to reach itself");
  const expectedKey = keyOfId(peer().id);
  if (expectedKey === undefined) return skip("the id carries no key");
  const lane = signals.relay(peer, expectedKey, options.transport);
  if (typeof lane === "string") return skip(lane);
  if (policy === "first") return { lane, afterMs: 0, soon: doubt.promise };
  signals.doubt(peer()).then(
    (why) => {
      if (why !== undefined) doubt.resolve(why);
    },
    () => undefined,
  );
  return { lane, afterMs: Math.max(1, relayAfterMs), soon: doubt.promise };
}

/** Says HELLO; for a named service waits for the peer's word, so that a refusal is an error of the open. */
async function greet(
  session: Session,
  service: string | undefined,
  mode: Mode,
  note: NoteAttempt,
): Promise<Channel> {
  const { path } = session;
  session.greet({
    ...(service === undefined ? {} : { service }),
    ...(mode === undefined ? {} : { mode }),
  });
  const channel = channelOf(session, mode);
  if (channel === undefined) throw new P2pdError("unsupported", `${path.candidate} carries no datagrams`);
  note(path.strategy, path.candidate, "greeted", service ?? "");
  if (service === undefined) return channel;
  const { refusal } = await session.welcomed;
  note(path.strategy, path.candidate, refusal === undefined ? "welcomed" : "refused", refusal?.text ?? "");
  if (refusal !== undefined) throw refusalError(refusal);
  return channel;
}

/** A stream goes by either transport unless TCP is asked for; datagrams need UDP. */
function transportsOf(wanted: OpenOptions["transport"], hasQuic: boolean): readonly ("tcp" | "udp")[] {
  if (wanted === "tcp") return ["tcp"];
  if (wanted === "udp") return hasQuic ? ["udp"] : [];
  return hasQuic ? ["tcp", "udp"] : ["tcp"];
}

function refusalError({ code, text }: Reason): P2pdError {
  const known = ERROR_CODES.find((candidate) => candidate === code) ?? "connect-failed";
  return new P2pdError(known, `the peer refused: ${text}`);
}

function failureText(error: P2pdError, attempts: readonly FailedAttempt[]): string {
  if (error.code !== "connect-failed") return error.message;
  // The last resort comes last, however soon it failed.
  const isLast = ({ strategy }: FailedAttempt): number => (strategy === "relay" ? 1 : 0);
  const inOrder = attempts.toSorted((a, b) => isLast(a) - isLast(b));
  const reasons = inOrder.map(({ strategy, candidate, reason }) => {
    return `${strategy}${candidate === "" ? "" : ` ${candidate}`}: ${reason}`;
  });
  return `no strategy reached the peer: ${reasons.join("; ")}`;
}
