/**
 * What a subscription is: a name and two patterns, over a message and over its sender. Decides whether a
 * message belongs to it; the queue behind it is in `subscription-queue.ts`, the patterns that strangers may
 * write in `subscription-pattern.ts`.
 */
import { P2pdError } from "../errors.ts";
import { type Endpoint, formatEndpoint } from "../ip.ts";
import { compilePattern, type Pattern } from "./subscription-pattern.ts";

/** A message with its sender. */
export interface Message {
  readonly bytes: Uint8Array;
  readonly from: Endpoint;
}

/** Which messages a queue takes: patterns over the message (as latin1 text) and over `IP:port`. */
export interface Subscription {
  readonly name: string;
  readonly message: Pattern;
  /** Over `192.0.2.1:80` or `[2001:db8::1]:80`. */
  readonly sender: Pattern;
}

/** Patterns see this many octets of a message and no more. */
export const MATCH_OCTETS = 4096;
/** Characters the name of a subscription may have. */
export const MAX_SUBSCRIPTION_NAME = 128;

/**
 * Makes a subscription of text that may come from anybody. The patterns are regular expressions in JavaScript's
 * notation without lookaround and backreferences; they run in time linear in the message, whatever they say.
 * Throws `bad-argument`, naming the pattern, the position and what is wrong there.
 */
export function compileSubscription(name: string, message: string, sender: string): Subscription {
  checkSubscriptionName(name);
  return { name, message: compilePattern(message, "message"), sender: compilePattern(sender, "sender") };
}

/** Throws `bad-argument` for an empty or overlong name, `reserved-name` for "all". */
export function checkSubscriptionName(name: string): void {
  if (name === "all") {
    throw new P2pdError("reserved-name", `"all" is the queue that takes every message; choose another name`);
  }
  if (name === "" || name.length > MAX_SUBSCRIPTION_NAME) {
    throw new P2pdError(
      "bad-argument",
      `a subscription's name has 1 to ${MAX_SUBSCRIPTION_NAME} characters, not ${name.length}`,
    );
  }
}

/** A copy without the flags that make a RegExp remember where it stopped. */
export function stateless(pattern: Pattern): Pattern {
  if (!(pattern instanceof RegExp)) return pattern;
  return new RegExp(pattern.source, pattern.flags.replaceAll(/[gy]/g, ""));
}

/** What patterns are matched against: the first octets as latin1 text, and the sender. */
export function matchTexts({ bytes, from }: Message): { readonly message: string; readonly sender: string } {
  const seen = Math.min(bytes.length, MATCH_OCTETS);
  return {
    message: Buffer.from(bytes.buffer, bytes.byteOffset, seen).toString("latin1"),
    sender: formatEndpoint(from),
  };
}
