/** A rate with room for bursts. Takes the time, holds two numbers. */

export interface TokenBucket {
  /** Takes one token at `nowMs` (monotonic); false if there is none. */
  take(nowMs: number): boolean;
  /** Whether there would be one. */
  has(nowMs: number): boolean;
}

export function createTokenBucket(perSecond: number, burst: number, startMs: number): TokenBucket {
  let tokens = burst;
  let last = startMs;
  const refill = (nowMs: number): void => {
    tokens = Math.min(burst, tokens + (Math.max(0, nowMs - last) * perSecond) / 1000);
    last = Math.max(last, nowMs);
  };
  return {
    take(nowMs) {
      refill(nowMs);
      if (tokens < 1) return false;
      tokens--;
      return true;
    },
    has(nowMs) {
      refill(nowMs);
      return tokens >= 1;
    },
  };
}
