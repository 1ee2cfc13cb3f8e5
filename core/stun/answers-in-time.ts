/** Waiting for many answers of which some may never come: for all, or for the stragglers only as long as is fair. */
import type { Time } from "../net/world.ts";

export interface Patience {
  /** What must have come before stragglers are given up, as a share of all. */
  readonly share: number;
  /** How long stragglers have then, in milliseconds, from what the others took. */
  readonly extraMs: (tookMs: number) => number;
  /** How long everyone has after the first answer, in milliseconds from what that took; absent: no limit. */
  readonly longestMs?: (tookMs: number) => number;
  /** Gives up all that is missing. */
  readonly signal: AbortSignal;
}

/**
 * The outcomes in the order of `questions`, undefined for those that failed or came too late. Resolves when all are
 * settled, when patience with the last ones ends, or on its signal.
 */
export function answersInTime<T>(
  time: Time,
  questions: readonly Promise<T>[],
  { share, extraMs, longestMs, signal }: Patience,
): Promise<readonly (T | undefined)[]> {
  const beganMs = time.now();
  const outcomes: (T | undefined)[] = questions.map(() => undefined);
  const needed = Math.max(1, Math.ceil(share * questions.length));
  return new Promise((resolve) => {
    let left = questions.length;
    let came = 0;
    let timer: { cancel(): void } | undefined;
    let isOver = false;
    const finishAfter = (delayMs: number): void => {
      timer?.cancel();
      if (isOver) return;
      timer = time.after(delayMs, finish, { background: true });
    };
    const finish = (): void => {
      isOver = true;
      timer?.cancel();
      signal.removeEventListener("abort", finish);
      resolve([...outcomes]);
    };
    const settle = (): void => {
      if (--left === 0) finish();
    };
    questions.forEach((question, i) => {
      question.then(
        (answer) => {
          outcomes[i] = answer;
          came++;
          const tookMs = time.now() - beganMs;
          if (came === 1 && longestMs !== undefined) finishAfter(longestMs(tookMs));
          if (came === needed) finishAfter(extraMs(tookMs));
          settle();
        },
        () => settle(),
      );
    });
    if (questions.length === 0 || signal.aborted) finish();
    else signal.addEventListener("abort", finish, { once: true });
  });
}
