/**
 * Whether a path still carries. Anything heard is a sign of life. While the peer owes an answer (to DATA, FIN or PING), and
 * once where its DATA falls silent, 0.3 s without a sign are worth a PING, 0.4 s more a doubt (or two and three round trips),
 * and four seconds are the end. A path with nothing to do is asked every 15 s, unless it has signs of life of its own. Pure:
 * says what is due, and when to look again, so that one lazy timer serves.
 */

/** So long, or so many round trips where that is more, nothing is heard before PING; and then until there is doubt. */
const ASK_AFTER_MS = 300;
const ASK_ROUND_TRIPS = 2;
const DOUBT_AFTER_MS = 400;
const DOUBT_ROUND_TRIPS = 3;
const DEAD_AFTER_MS = 4000;
export const IDLE_MS = 15_000;
/** Where there is reason for doubt. */
const PROBE_DEAD_AFTER_MS = 1500;

export interface Due {
  readonly act: "ping" | "doubt" | "dead" | "nothing";
  /** When to look again; infinite: when something has happened. */
  readonly nextAt: number;
}

export class PathWatch {
  #heardAt: number;
  readonly #idleMs: number;
  #rttMs: number;
  /** Since when the peer owes an answer. */
  #owedSince: number | undefined;
  #pingedAt: number | undefined;
  /** DATA came, and since then no silence that was asked about. */
  #isFlowing = false;
  #isDoubted = false;
  #patienceMs = DEAD_AFTER_MS;
  #rttFrom: number | undefined;

  /**
   * @param idleMs silence after which a path with nothing to do is asked; infinite: never
   * @param rttMs of the handshake
   */
  constructor(now: number, idleMs: number, rttMs: number) {
    this.#heardAt = now;
    this.#idleMs = idleMs;
    this.#rttMs = rttMs;
  }

  /** The last measured round trip, in milliseconds. */
  get rttMs(): number {
    return this.#rttMs;
  }

  get heardAt(): number {
    return this.#heardAt;
  }

  measured(rttMs: number): void {
    this.#rttMs = rttMs;
  }

  heard(now: number): void {
    this.#heardAt = now;
    // What an answer took that came after a silence is no round trip.
    if (this.#isDoubted) this.#rttFrom = undefined;
    this.#pingedAt = undefined;
    this.#isDoubted = false;
    this.#patienceMs = DEAD_AFTER_MS;
  }

  /** DATA came. Returns when to look, if that is news. */
  received(now: number): number | undefined {
    // An answer behind DATA has waited for it.
    this.#rttFrom = undefined;
    if (this.#isFlowing) return undefined;
    this.#isFlowing = true;
    return now + this.#askMs;
  }

  /** PONG came. */
  ponged(now: number): void {
    if (this.#rttFrom !== undefined) this.#rttMs = now - this.#rttFrom;
    this.#rttFrom = undefined;
  }

  /** Whether something was sent that is not acknowledged. Returns when to look, if that is news. */
  owe(isOwed: boolean, now: number): number | undefined {
    if (!isOwed) this.#owedSince = undefined;
    if (!isOwed || this.#owedSince !== undefined) return undefined;
    this.#owedSince = now;
    return now + this.#askMs;
  }

  /** There is reason for doubt: asks now, with less patience. */
  probe(now: number): Due {
    this.#patienceMs = PROBE_DEAD_AFTER_MS;
    this.#isDoubted = false;
    return this.#ping(now, now + PROBE_DEAD_AFTER_MS);
  }

  check(now: number): Due {
    const waitsSince = this.#pingedAt ?? this.#owedSince;
    if (waitsSince === undefined) {
      const askAt = this.#heardAt + (this.#isFlowing ? this.#askMs : this.#idleMs);
      return now < askAt ? { act: "nothing", nextAt: askAt } : this.#ping(now, now + DEAD_AFTER_MS);
    }
    const silentSince = Math.max(this.#heardAt, this.#owedSince ?? waitsSince);
    const isProbed = this.#patienceMs === PROBE_DEAD_AFTER_MS;
    const deadAt = (isProbed ? (this.#pingedAt ?? now) : silentSince) + this.#patienceMs;
    if (now >= deadAt) return { act: "dead", nextAt: Number.POSITIVE_INFINITY };
    if (this.#pingedAt === undefined) {
      const askAt = silentSince + this.#askMs;
      return now < askAt ? { act: "nothing", nextAt: askAt } : this.#ping(now, deadAt);
    }
    const doubtAt = this.#pingedAt + this.#doubtMs;
    if (this.#isDoubted || doubtAt >= deadAt) return { act: "nothing", nextAt: deadAt };
    if (now < doubtAt) return { act: "nothing", nextAt: doubtAt };
    this.#isDoubted = true;
    return { act: "doubt", nextAt: deadAt };
  }

  get #askMs(): number {
    return Math.max(ASK_AFTER_MS, ASK_ROUND_TRIPS * this.#rttMs);
  }

  get #doubtMs(): number {
    return Math.max(DOUBT_AFTER_MS, DOUBT_ROUND_TRIPS * this.#rttMs);
  }

  #ping(now: number, deadAt: number): Due {
    this.#pingedAt = now;
    this.#isFlowing = false;
    // Behind DATA of ours the question waits, and that is no round trip either.
    if (this.#owedSince === undefined) this.#rttFrom ??= now;
    return { act: "ping", nextAt: Math.min(deadAt, now + this.#doubtMs) };
  }
}
