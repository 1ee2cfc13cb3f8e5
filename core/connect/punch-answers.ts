/**
 * The other end of the punch strategy: a peer's offer is answered with our side of its pairs, and our part of the plans
 * begins at once. Bounded, so that nobody can use us to knock at doors of others: few at a time for each peer and in
 * all, only addresses of the peer's own address line, so many datagrams and so long.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { randomWord } from "../net/random-word.ts";
import type { Address } from "../wire/address.ts";
import { PUNCH_BUDGET, type PunchBudget, smallerBudget } from "../nat/punch-budget.ts";
import { probeKey } from "../wire/punch-probe.ts";
import type { AnswerBody, OfferBody } from "../wire/signal-message.ts";
import type { SignalPunch } from "../wire/signal-punch.ts";
import { budgetLeft, noCost, type PunchCost } from "./punch-cost.ts";
import { MAX_AT_ONCE, MAX_OF_PEER } from "./punch-limits.ts";
import { placeFor, type PunchPlace, refuseTarget, withinSockets } from "./punch-pairs.ts";
import {
  gatherPair,
  type PairOfSides,
  type PunchedPath,
  type PunchSetting,
  runPlans,
  sidesOf,
  type Transport,
} from "./punch-sides.ts";
import type { Note } from "./race.ts";

export interface PunchAnswersOptions extends PunchSetting {
  readonly places: () => Promise<readonly PunchPlace[]>;
  /** Our own address line, as it is now. */
  readonly address: () => string;
  readonly signal: AbortSignal;
}

export interface AnswerOptions {
  readonly from: string;
  readonly peerKey: Uint8Array;
  readonly offer: OfferBody & { readonly punch: SignalPunch };
  /** The address in the offer. */
  readonly peer: Address;
  readonly note: Note;
  /** Sends our answer; resolves when it is on its way, or cannot be. */
  readonly reply: (answer: Omit<AnswerBody, "type" | "request">) => Promise<void>;
  /**
   * A path on which the peer has proved its key, and what we have sent for this open, which still counts. Resolves when
   * the peer has greeted on it, rejects when it leaves.
   */
  readonly accepted: (path: PunchedPath, cost: PunchCost) => Promise<void>;
}

/** What a peer's open, of which there may be several punches, has taken of us. */
interface Open {
  readonly beganMs: number;
  readonly cost: PunchCost;
  /** What both sides allowed when it began. */
  readonly budget: PunchBudget;
}

/** Opens that are remembered. */
const MAX_OPENS = 256;

interface UnderWay {
  readonly from: string;
  readonly stopping: AbortController;
}

export class PunchAnswers {
  readonly #options: PunchAnswersOptions;
  /** By request. */
  readonly #underWay = new Map<string, UnderWay>();
  /** By peer and open, the oldest first. */
  readonly #opens = new Map<string, Open>();

  constructor(options: PunchAnswersOptions) {
    this.#options = options;
  }

  /** Why a peer's offer is not taken up now; undefined: it is. */
  refusal(from: string, request: string): string | undefined {
    const ofPeer = [...this.#underWay.values()].filter((one) => one.from === from).length;
    if (this.#underWay.has(request) || ofPeer >= MAX_OF_PEER || this.#underWay.size >= MAX_AT_ONCE)
      return "too many punches are under way";
    return undefined;
  }

  /** Whether a peer has begun an open since then, as `Time.now()` tells it. */
  hasBegun(from: string, sinceMs: number): boolean {
    return [...this.#opens].some(([name, { beganMs }]) => name.startsWith(`${from} `) && beganMs >= sinceMs);
  }

  /** The peer needs it no more. */
  stop(request: string, from: string): void {
    const found = this.#underWay.get(request);
    if (found?.from === from) found.stopping.abort();
  }

  /** Answers an offer and does our part; resolves when that is over, whatever came of it. */
  async answer(options: AnswerOptions): Promise<void> {
    const { from, offer, note } = options;
    const stopping = new AbortController();
    const stop = (): void => stopping.abort();
    this.#options.signal.addEventListener("abort", stop, { once: true });
    this.#underWay.set(offer.request, { from, stopping });
    try {
      await this.#punch(options, stopping);
    } catch (thrown) {
      note("failed", toP2pdError(thrown).message);
    } finally {
      this.#underWay.delete(offer.request);
      this.#options.signal.removeEventListener("abort", stop);
      stop();
    }
  }

  #openOf(from: string, word: string, theirs: PunchBudget): Open {
    const name = `${from} ${word}`;
    const { world, budget } = this.#options;
    const began = { beganMs: world.time.now(), cost: noCost(), budget: smallerBudget(budget, theirs) };
    const open = this.#opens.get(name) ?? began;
    if (this.#opens.size >= MAX_OPENS && !this.#opens.has(name))
      this.#opens.delete(this.#opens.keys().next().value as string);
    this.#opens.set(name, open);
    return open;
  }

  async #punch(options: AnswerOptions, stopping: AbortController): Promise<void> {
    const { from, offer, peerKey, reply } = options;
    const { world } = this.#options;
    const reasons: string[] = [];
    const note: Note = (event, detail) => {
      if (event === "left out" || event === "not gathered") reasons.push(detail);
      options.note(event, detail);
    };
    const { signal } = stopping;
    const { secret, pairs: offered, budget: theirs = PUNCH_BUDGET } = offer.punch;
    const { cost, beganMs, budget } = this.#openOf(from, offer.punch.open ?? offer.request, theirs);
    const allowed = budgetLeft(budget, cost, world.time.now() - beganMs);
    if (allowed.packets === 0 || allowed.ms === 0) {
      await reply({ accepted: false, code: "unavailable", text: "what one open may cost is spent" });
      return;
    }
    const transports: readonly Transport[] =
      offer.transport === undefined ? ["udp", "tcp"] : [offer.transport];
    const places = await this.#options.places();
    const meant = offered.map((pair) => {
      const place = placeFor(places, pair);
      const near = pair.near === true;
      const ips = [pair.udp?.ip, pair.tcp?.ip].filter((ip) => ip !== undefined);
      if (place === undefined || ips.length === 0) return undefined;
      const [refusal] = ips.flatMap((ip) => refuseTarget(ip, near, place, options.peer) ?? []);
      if (refusal === undefined) return { pair, place, near };
      note("left out", refusal);
      return undefined;
    });
    const own = await Promise.all(
      withinSockets(meant, budget.sockets).map(async (one): Promise<PairOfSides | undefined> => {
        if (one === undefined) return undefined;
        const { pair, place, near } = one;
        const wanted = transports.filter((transport) => pair[transport] !== undefined);
        const isTcpWorthIt = pair.udp === undefined || place.profile?.udp.type === "blocked";
        const terms = { isTcpWorthIt, isWarmWelcome: true, cost, signal, note };
        const gathering = { place, near, transports: wanted, ...terms };
        return { own: await gatherPair(this.#options, gathering), theirs: pair };
      }),
    );
    const ownSecret = randomWord(world);
    // With no plan the caller still gets our side: it tells the same reason from it.
    const sides = own.map((pair) => (pair === undefined ? {} : sidesOf(pair.own)));
    const hasSide = sides.some(({ udp, tcp }) => (udp ?? tcp) !== undefined);
    if (!hasSide) {
      const none = places.length === 0 ? "it has no network" : "it has no address of the families offered";
      const text = reasons.length === 0 ? none : reasons.join("; ").slice(0, 500);
      await reply({ accepted: false, code: "unavailable", text });
      return;
    }
    // The caller's packets come a round trip later at the earliest, so that ours still go first, though opening a QUIC
    // endpoint takes this machine some milliseconds, which the answer does not wait for.
    const left = budgetLeft(budget, cost, world.time.now() - beganMs);
    await reply({
      accepted: true,
      address: this.#options.address(),
      punch: { secret: ownSecret, budget: left, pairs: sides },
    });
    const { running, impossible } = runPlans(
      this.#options,
      own.filter((pair) => pair !== undefined),
      {
        role: "called",
        peerKey,
        key: probeKey(offer.request, secret, ownSecret),
        budget: smallerBudget(left, theirs),
        cost,
        signal,
        note,
        accepted: (path) => {
          note("accepted", path.candidate);
          options.accepted(path, cost).then(
            () => stopping.abort(),
            (thrown: unknown) => note("lost", toP2pdError(thrown).message),
          );
        },
      },
    );
    if (running.length === 0) throw new P2pdError("unavailable", impossible.join("; "));
    await Promise.allSettled(running);
  }
}
