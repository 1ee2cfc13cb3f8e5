/** When a TURN client renews what it has (RFC 8656 sections 3.4, 9 and 12): pure sums, in milliseconds. */

/** RFC 8656 section 9: a permission lives five minutes; it is renewed a minute before its end. */
export const PERMISSION_RENEW_MS = 240_000;
/** Section 12: a channel lives ten minutes, and renewing it renews its peer's permission. */
export const CHANNEL_RENEW_MS = 540_000;
/** After a renewal that failed for want of an answer. */
const RETRY_MS = 5000;

/** How long after it was granted a lifetime is renewed: a minute before its end, of short ones at half. */
export function renewAfterMs(lifetimeSeconds: number): number {
  return Math.max(lifetimeSeconds * 500, lifetimeSeconds * 1000 - 60_000);
}

/** When to try again what has not been renewed at `nowMs`; undefined: what it is about has ended by then. */
export function retryAfterMs(nowMs: number, expiresMs: number): number | undefined {
  return nowMs + RETRY_MS < expiresMs ? RETRY_MS : undefined;
}
