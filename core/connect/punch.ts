/**
 * The punch strategy of who opens: one offer with our side of each pair of NIC addresses, one answer with the peer's,
 * and both start, without a time to meet. The first path that proves the peer's key wins. When none stands, it is
 * tried again with fresh samples, as counters of routers are advanced by others too.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { PUNCH_BUDGET, type PunchBudget, smallerBudget } from "../nat/punch-budget.ts";
import { randomWord } from "../net/random-word.ts";
import { probeKey } from "../wire/punch-probe.ts";
import type { AnswerBody } from "../wire/signal-message.ts";
import { type Address, decodeAddress } from "../wire/address.ts";
import type { Signaling } from "../signal/signaling.ts";
import { pause } from "./pause.ts";
import { budgetLeft, type PunchCost } from "./punch-cost.ts";
import { LEAST_PACKETS, MAX_ROUNDS } from "./punch-limits.ts";
import { choosePairs, type PunchPlace, refuseTarget, withinSockets } from "./punch-pairs.ts";
import {
  type GatheredPair,
  gatherPair,
  type GatherPairOptions,
  type PairOfSides,
  type PunchedPath,
  type PunchSetting,
  runPlans,
  sidesOf,
  type Transport,
} from "./punch-sides.ts";
import type { Attempt, AttemptContext, Path } from "./race.ts";

export interface PunchOptions extends PunchSetting {
  readonly signaling: Pick<Signaling, "request" | "send">;
  readonly peer: Address;
  readonly peerKey: Uint8Array;
  /** Where we may punch from, as far as their NATs are known. */
  readonly places: () => Promise<readonly PunchPlace[]>;
  /** Our own address line, as it is now. */
  readonly address: () => string;
  readonly transports: readonly Transport[];
  /** So long direct attempts have the field: where they are near, signals are not worth their cost. */
  readonly delayMs: number;
  /** Adds what is sent. */
  readonly cost: PunchCost;
  /** Whether the peer punches towards us as well since then, as `Time.now()` tells it, and goes first. */
  readonly yields: (sinceMs: number) => boolean;
  /** Told why holes have little chance or take a long search, as soon as that is known. */
  readonly doubted: (why: string) => void;
}

/** A round that begins later than this before the end of the race would not come to anything. */
const MIN_ROUND_MS = 1000;
/**
 * Two that open each other at once take each other's ports where counters are foreseen, in every round, as they fail
 * together: one of them leaves the field to the other for so long. The other may have begun so much earlier.
 */
const YIELD_MS = 800;
const BEGUN_EARLIER_MS = 3000;
/** Of a path without a search. */
const FAIR_CHANCE = 0.5;

/** What the punches of one open have in common. */
interface Open {
  readonly word: string;
  readonly beganMs: number;
  /** What both sides allow for all of it, once the peer has answered. */
  agreed?: PunchBudget;
}

export function punchAttempt(options: PunchOptions): Attempt {
  return {
    strategy: "punch",
    candidate: "by signal",
    leadMs: 0,
    run: async (context) => {
      const { world, delayMs, cost } = options;
      await pause(world, delayMs, context.signal);
      const open: Open = { word: randomWord(options.world), beganMs: world.time.now() };
      for (let round = 1; ; round++) {
        // A server's answer over TCP comes a round trip later: no punch over UDP waits for it.
        const isTcpWorthIt = round > 1 || (await isUdpHopeless(options));
        try {
          return await punchOnce(options, { isTcpWorthIt, isWarmWelcome: round === 1 }, open, context);
        } catch (thrown) {
          const error = toP2pdError(thrown, "connect-failed");
          options.doubted(error.message);
          const more = !isTcpWorthIt && options.transports.includes("tcp") && error.code === "unavailable";
          const left = budgetLeft(open.agreed ?? options.budget, cost, world.time.now() - open.beganMs);
          const isTime = Math.min(left.ms, context.leftMs()) > MIN_ROUND_MS && left.packets >= LEAST_PACKETS;
          const again = (more || error.code === "connect-failed") && isTime;
          if (!again || round >= MAX_ROUNDS || context.signal.aborted) throw error;
          context.note("again", `${error.message}; with fresh samples`);
          if (!more && options.yields(open.beganMs - BEGUN_EARLIER_MS))
            await pause(world, YIELD_MS, context.signal);
        }
      }
    },
  };
}

async function isUdpHopeless({ transports, places, peer }: PunchOptions): Promise<boolean> {
  if (!transports.includes("udp") || peer.nics.some(({ nat }) => nat === "blocked")) return true;
  return (await places()).some(({ profile }) => profile?.udp.type === "blocked");
}

async function punchOnce(
  options: PunchOptions,
  wanted: Pick<GatherPairOptions, "isTcpWorthIt" | "isWarmWelcome">,
  open: Open,
  context: AttemptContext,
): Promise<Path> {
  const { world, peer, signaling, cost } = options;
  const { note, leftMs } = context;
  const request = randomWord(options.world);
  const secret = randomWord(options.world);
  const stopping = new AbortController();
  const stop = (): void => stopping.abort();
  context.signal.addEventListener("abort", stop, { once: true });
  if (context.signal.aborted) stop();
  const { signal } = stopping;
  let gathered: readonly GatheredPair[] = [];
  let isAsked = false;
  try {
    const all = choosePairs(await options.places(), peer);
    const chosen = withinSockets(all, (open.agreed ?? options.budget).sockets).filter(
      (pair) => pair !== undefined,
    );
    if (chosen.length === 0) throw new P2pdError("unavailable", whyNoPairs(peer));
    gathered = await Promise.all(
      chosen.map(({ place, near }) => {
        const { transports } = options;
        return gatherPair(options, { place, near, transports, ...wanted, cost, signal, note });
      }),
    );
    if (gathered.every(({ udp, tcp }) => (udp ?? tcp) === undefined))
      throw new P2pdError("unavailable", "there is no port to punch from (see the timeline)");
    isAsked = true;
    const began = world.time.now();
    const left = budgetLeft(open.agreed ?? options.budget, cost, began - open.beganMs);
    note("offering", `${gathered.length} pairs of addresses`);
    const reply = await signaling.request(
      peer.id,
      peer.brokers,
      {
        type: "offer",
        request,
        address: options.address(),
        strategies: ["punch"],
        ...(options.transports.length === 1 ? { transport: options.transports[0] as Transport } : {}),
        punch: {
          secret,
          open: open.word,
          budget: left,
          pairs: gathered.map((pair, i) => ({
            to: chosen[i]?.to as string,
            ...(pair.near ? { near: true } : {}),
            ...sidesOf(pair),
          })),
        },
      },
      { timeoutMs: leftMs(), signal },
    );
    const { punch, address } = readAnswer(reply as AnswerBody);
    const allowed = punch.budget ?? PUNCH_BUDGET;
    open.agreed ??= smallerBudget(options.budget, allowed);
    note("answered", `after ${(world.time.now() - began).toFixed(0)} ms`);
    const pairs = pairUp(gathered, punch.pairs, fresher(peer, address), note);
    const { running, impossible, chance } = runPlans(options, pairs, {
      role: "caller",
      peerKey: options.peerKey,
      key: probeKey(request, secret, punch.secret),
      budget: smallerBudget(left, allowed),
      cost,
      signal,
      note,
    });
    if (running.length === 0) throw new P2pdError("unavailable", whyNoPlan(impossible));
    if (chance < FAIR_CHANCE) options.doubted("the holes take a long search, or have little chance");
    const path = await firstOf(running);
    isAsked = false;
    note("authenticated", path.stream.cipher);
    return { strategy: "punch", ...path };
  } catch (thrown) {
    throw explain(toP2pdError(thrown, "connect-failed"));
  } finally {
    context.signal.removeEventListener("abort", stop);
    for (const pair of gathered) pair.close();
    stop();
    if (isAsked && context.signal.aborted) {
      const body = { type: "cancel", request, code: "aborted" } as const;
      signaling.send(peer.id, peer.brokers, body).catch(() => undefined);
    }
  }
}

/** The first that stands; what else comes is closed. Rejects with all reasons. */
async function firstOf(running: readonly Promise<PunchedPath>[]): Promise<PunchedPath> {
  try {
    const first = await Promise.any(running);
    for (const other of running) {
      other.then(
        (path) => {
          if (path !== first) path.stream.abort(new P2pdError("aborted", "another path was faster"));
        },
        () => undefined,
      );
    }
    return first;
  } catch (thrown) {
    const errors = (thrown as AggregateError).errors.map((error: unknown) => toP2pdError(error));
    const code = errors.every((error) => error.code === "aborted") ? "aborted" : "connect-failed";
    throw new P2pdError(code, [...new Set(errors.map(({ message }) => message))].join("; "));
  }
}

/** The address that the peer has now, where it is readable. */
function fresher(peer: Address, line: string): Address {
  try {
    const address = decodeAddress(line);
    return address.id === peer.id ? address : peer;
  } catch {
    // Remote input: the line that we opened by is as good.
    return peer;
  }
}

function readAnswer(reply: AnswerBody): Required<Pick<AnswerBody, "punch" | "address">> {
  const { accepted, punch, address = "", text, code } = reply;
  if (reply.type !== "answer" || !accepted)
    throw new P2pdError(
      "refused",
      `the peer takes no part in a punch: ${text ?? code ?? "it does not say why"}`,
    );
  if (punch === undefined) throw new P2pdError("protocol", "the peer's answer says nothing of its side");
  return { punch, address };
}

function pairUp(
  gathered: readonly GatheredPair[],
  theirs: Required<Pick<AnswerBody, "punch">>["punch"]["pairs"],
  peer: Address,
  note: AttemptContext["note"],
): readonly PairOfSides[] {
  return gathered.flatMap((own, i) => {
    const answer = theirs[i];
    const ips = [answer?.udp?.ip, answer?.tcp?.ip].filter((ip) => ip !== undefined);
    if (answer === undefined || ips.length === 0) return [];
    const [refusal] = ips.flatMap((ip) => refuseTarget(ip, own.near, own.place, peer) ?? []);
    if (refusal === undefined) return [{ own, theirs: answer }];
    note("left out", refusal);
    return [];
  });
}

function whyNoPairs(peer: Address): string {
  const families = [...new Set(peer.nics.map(({ family }) => `IPv${family}`))].join(" and ");
  return `nothing is known of a NAT of ours for ${families || "the peer's address, which names no NIC"} (see /p2p/nat: STUN servers may be unreachable)`;
}

function whyNoPlan(impossible: readonly string[]): string {
  if (impossible.length > 0) return [...new Set(impossible)].join("; ");
  return "the peer has no side for any of our addresses: UDP is blocked there, or it knows nothing of its NAT";
}

function explain(error: P2pdError): P2pdError {
  if (error.code !== "timeout") return error;
  const text = `the peer did not answer on any broker: it is off, or it listens on other brokers (${error.message})`;
  return new P2pdError("timeout", text, error.detail, { cause: error });
}
