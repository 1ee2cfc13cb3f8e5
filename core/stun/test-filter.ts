/**
 * Tests what a router lets in, by RFC 5780's CHANGE-REQUEST: a server is asked, from a port that sends to its first
 * endpoint alone, to answer from its other address and from its other port. Only what then comes from there opens
 * anything; a server that ignores the question, or answers from elsewhere, has said nothing.
 */
import { P2pdError } from "../errors.ts";
import { type Endpoint, sameEndpoint } from "../ip.ts";
import type { Hearing, ServerView } from "../nat/observations.ts";
import { type BindingResult, bindingRequest } from "./binding.ts";
import type { StunTransport } from "./exchange.ts";

export interface FilterTest {
  /** RTO in milliseconds. */
  readonly rtoMs: number;
  /** Ends it: the answers that have not come are not coming. */
  readonly signal: AbortSignal;
  /** Called when the router has let in what came from the other address. */
  readonly proven: () => void;
}

export type Hearings = Pick<ServerView, "fromOtherAddress" | "fromOtherPort">;

const UNTESTED: Hearings = { fromOtherAddress: "untested", fromOtherPort: "untested" };

/**
 * Asks `server` over `ear`. `plain` is a question to the same server from another port: its answer tells that the
 * server lives, and where it can answer from. Resolves when both answers have come, or on the signal.
 */
export async function testFilter(
  ear: StunTransport,
  server: Endpoint,
  plain: Promise<BindingResult>,
  { rtoMs, signal, proven }: FilterTest,
): Promise<Hearings> {
  const ask = (changeIp: boolean): Promise<BindingResult | P2pdError> =>
    bindingRequest(ear, server, { changeIp, changePort: true, rtoMs, maxRedirects: 0, signal }).catch(
      asP2pdError,
    );
  const questions = [ask(true), ask(false)] as const;
  const known = await untilAborted(plain.catch(asP2pdError), signal);
  if (known === undefined || known instanceof P2pdError) return UNTESTED;
  const { otherAddress: other } = known;
  const isAble = other !== undefined && other.ip !== server.ip;
  const [address, port] = questions;
  const fromOtherAddress = judge(await address, isAble, ({ from }) => isAble && sameEndpoint(from, other));
  if (fromOtherAddress === "heard") proven();
  return {
    fromOtherAddress,
    fromOtherPort: judge(await port, other !== undefined, ({ honoured }) => honoured),
  };
}

function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  const end = Promise.withResolvers<undefined>();
  const stop = (): void => end.resolve(undefined);
  if (signal.aborted) stop();
  signal.addEventListener("abort", stop, { once: true });
  return Promise.race([promise, end.promise]).finally(() => signal.removeEventListener("abort", stop));
}

function judge(
  outcome: BindingResult | P2pdError,
  isAble: boolean,
  isFromThere: (answer: BindingResult) => boolean,
): Hearing {
  if (!(outcome instanceof P2pdError)) return isFromThere(outcome) ? "heard" : "ignored";
  const isSilence = outcome.code === "timeout" || outcome.code === "aborted";
  return isSilence && isAble ? "silent" : "untested";
}

function asP2pdError(thrown: unknown): P2pdError {
  if (thrown instanceof P2pdError) return thrown;
  throw thrown;
}
