/**
 * Whether a path still carries. Anything heard is a sign of life. While the peer owes an answer (to DATA, FIN or PING)
 * a second of silence is worth a PING, and four are the end; a path with nothing to do is asked every 15 s, unless it has
 * signs of life of its own. Pure: says what is due, and when to look again, so that one lazy timer serves.
 */

const ASK_AFTER_MS = 1000;
const DEAD_AFTER_MS = 4000;
export const IDLE_MS = 15_000;
/** Where there is reason for doubt. */
const PROBE_DEAD_AFTER_MS = 1500;

export interface Due {
  readonly act: "ping" | "dead" | "nothing";
  /** When to look again; infinite: when something has happened. */
  readonly nextAt: number;
}

export class PathWatch {
  #heardAt: number;
  /** Since when the peer owes an answer. */
  #owedSince: number | undefined;
  #pingedAt: number | undefined;
  #patienceMs = DEAD_AFTER_MS;
  #rttFrom: number | undefined;
  readonly #idleMs: number;

  /** @param idleMs silence after which a path with nothing to do is asked; infinite: never */
  constructor(now: number, idleMs: number) {
    this.#heardAt = now;
    this.#idleMs = idleMs;
  }

  heard(now: number): void {
    this.#heardAt = now;
    this.#pingedAt = undefined;
    this.#patienceMs = DEAD_AFTER_MS;
  }

  /** PONG came: the round trip of its PING in milliseconds. */
  ponged(now: number): number | undefined {
    const rttMs = this.#rttFrom === undefined ? undefined : now - this.#rttFrom;
    this.#rttFrom = undefined;
    return rttMs;
  }

  /** Whether something was sent that is not acknowledged. Returns when to look, if that is news. */
  owe(isOwed: boolean, now: number): number | undefined {
    if (!isOwed) this.#owedSince = undefined;
    if (!isOwed || this.#owedSince !== undefined) return undefined;
    this.#owedSince = now;
    return now + ASK_AFTER_MS;
  }

  /** There is reason for doubt: asks now, with less patience. */
  probe(now: number): Due {
    this.#patienceMs = PROBE_DEAD_AFTER_MS;
    return this.#ping(now, now + PROBE_DEAD_AFTER_MS);
  }

  check(now: number): Due {
    const waitsSince = this.#pingedAt ?? this.#owedSince;
    if (waitsSince === undefined) {
      const askAt = this.#heardAt + this.#idleMs;
      return now < askAt ? { act: "nothing", nextAt: askAt } : this.#ping(now, now + DEAD_AFTER_MS);
    }
    const silentSince = Math.max(this.#heardAt, this.#owedSince ?? waitsSince);
    const isProbed = this.#patienceMs === PROBE_DEAD_AFTER_MS;
    const deadAt = (isProbed ? (this.#pingedAt ?? now) : silentSince) + this.#patienceMs;
    if (now >= deadAt) return { act: "dead", nextAt: now + IDLE_MS };
    if (this.#pingedAt !== undefined) return { act: "nothing", nextAt: deadAt };
    const askAt = silentSince + ASK_AFTER_MS;
    return now < askAt ? { act: "nothing", nextAt: askAt } : this.#ping(now, deadAt);
  }

  #ping(now: number, nextAt: number): Due {
    this.#pingedAt = now;
    this.#rttFrom ??= now;
    return { act: "ping", nextAt };
  }
}
