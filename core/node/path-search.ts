/**
 * The tries to find a session another path: when they begin, and that what they left is stopped when one succeeds or none
 * is needed any more. What a try does is its owner's business.
 */
import type { Time, Timer } from "../net/world.ts";

/** How a search goes on. */
export interface SearchPlan {
  /** Pause before the try of this number, from 0, in milliseconds. */
  readonly pauseMs: (number: number) => number;
  /** How many may run beside each other; where it is one, the pause begins when the last try has ended. */
  readonly most: number;
}

/** A try that began so shortly ago will do. */
const RECENT_MS = 250;
const LAST_RESUME_PAUSE_MS = 8000;
const LAST_UPGRADE_PAUSE_MS = 60_000;
const IDLE_UPGRADE_PAUSE_MS = 300_000;

/** A session without a path: at once, then after 0.5, 1, 2, 4 and each 8 s, as a try may hang in a dead network. */
export const RESUME_PLAN: SearchPlan = {
  pauseMs: (number) => (number === 0 ? 0 : Math.min(500 * 2 ** (number - 1), LAST_RESUME_PAUSE_MS)),
  most: 3,
};

/** A session on a relay: after 1, 2, 4 … 60 s, then every 5 minutes. */
export const UPGRADE_PLAN: SearchPlan = {
  pauseMs(number) {
    const pauseMs = 1000 * 2 ** number;
    const isLast = pauseMs / 2 < LAST_UPGRADE_PAUSE_MS;
    return isLast ? Math.min(pauseMs, LAST_UPGRADE_PAUSE_MS) : IDLE_UPGRADE_PAUSE_MS;
  },
  most: 1,
};

export class PathSearch {
  readonly #time: Time;
  readonly #plan: SearchPlan;
  readonly #run: (signal: AbortSignal) => Promise<void>;
  #running: AbortController[] = [];
  #timer: Timer | undefined;
  #number = 0;
  #triedAt = 0;
  #isOn = false;

  /** @param run one try: rejects when it came to nothing, and at the latest when the signal fires */
  constructor(time: Time, plan: SearchPlan, run: (signal: AbortSignal) => Promise<void>) {
    this.#time = time;
    this.#plan = plan;
    this.#run = run;
  }

  get isOn(): boolean {
    return this.#isOn;
  }

  /** Begins, unless it has: with the plan's first pause, and `delayMs` before it. */
  begin(delayMs = 0): void {
    if (this.#isOn) return;
    this.#isOn = true;
    this.#number = 0;
    this.#arm(delayMs + this.#plan.pauseMs(0));
  }

  /**
   * There is reason to expect more of a try now than of those before: begins anew, unless it has just begun.
   * @param isNews a try that has just begun will not do either
   */
  again(isNews = false): void {
    const isRecent = this.#running.length > 0 && this.#time.now() - this.#triedAt < RECENT_MS;
    if (!this.#isOn || (isRecent && !isNews)) return;
    this.#number = 0;
    if (this.#plan.most > 1 || this.#running.length === 0) this.#try();
  }

  stop(): void {
    this.#isOn = false;
    this.#timer?.cancel();
    const running = this.#running;
    this.#running = [];
    for (const one of running) one.abort();
  }

  #arm(delayMs: number): void {
    this.#timer?.cancel();
    this.#timer = this.#time.after(delayMs, () => this.#try(), { background: true });
  }

  #try(): void {
    this.#timer?.cancel();
    const stopping = new AbortController();
    this.#triedAt = this.#time.now();
    this.#running.push(stopping);
    if (this.#running.length > this.#plan.most) this.#running.shift()?.abort();
    this.#number++;
    if (this.#plan.most > 1) this.#arm(this.#plan.pauseMs(this.#number));
    this.#run(stopping.signal).then(
      () => {
        const at = this.#running.indexOf(stopping);
        if (at < 0) return;
        this.#running.splice(at, 1);
        this.stop();
      },
      () => this.#failed(stopping),
    );
  }

  #failed(stopping: AbortController): void {
    const at = this.#running.indexOf(stopping);
    if (at < 0) return;
    this.#running.splice(at, 1);
    if (this.#plan.most === 1) this.#arm(this.#plan.pauseMs(this.#number));
  }
}
