/**
 * Tests what a router lets in, by RFC 5780's CHANGE-REQUEST: a server is asked, from a port that sends to its first
 * endpoint alone, to answer from its other address and from its other port. Only what then comes from there opens
 * anything; a server that ignores the question, or answers from elsewhere, has said nothing.
 */
import { P2pdError } from "../errors.ts";
import { type Endpoint, sameEndpoint } from "../ip.ts";
import type { Hearing, ServerView } from "../nat/observations.ts";
import type { Time } from "../net/world.ts";
import { type BindingResult, bindingRequest } from "./binding.ts";
import type { StunTransport } from "./exchange.ts";

export interface FilterTest {
  /** The RTO of `plain` and of the questions here, in milliseconds: sent at 0, 1, 3 and 7 times that. */
  readonly rtoMs: number;
  /** Ends it: the answers that have not come are not coming. */
  readonly signal: AbortSignal;
  /** Called when the router has let in what came from the other address. */
  readonly proven: () => void;
}

/** The least that the third sending has for its answer. */
const SHORTEST_WAIT_MS = 160;

/**
 * Asks `server` over `ear`. `plain` is a question to the same server from another port: its answer tells how long to
 * wait, and where the server can answer from.
 */
export async function testFilter(
  time: Time,
  ear: StunTransport,
  server: Endpoint,
  plain: Promise<BindingResult>,
  { rtoMs, signal, proven }: FilterTest,
): Promise<Pick<ServerView, "fromOtherAddress" | "fromOtherPort">> {
  const beganMs = time.now();
  const end = new AbortController();
  const ask = (changeIp: boolean): Promise<BindingResult | P2pdError> =>
    bindingRequest(ear, server, {
      changeIp,
      changePort: true,
      rtoMs,
      maxRedirects: 0,
      signal: AbortSignal.any([end.signal, signal]),
    }).catch(asP2pdError);
  const [address, port] = [ask(true), ask(false)];
  const known = await plain.catch(asP2pdError);
  if (known instanceof P2pdError) {
    end.abort();
    await Promise.all([address, port]);
    return { fromOtherAddress: "untested", fromOtherPort: "untested" };
  }
  const { otherAddress: other, rttMs } = known;
  const waitMs = 3 * rtoMs + Math.max(SHORTEST_WAIT_MS, 3 * rttMs) - (time.now() - beganMs);
  const deadline = time.after(Math.max(0, waitMs), () => end.abort(), { background: true });
  const isAble = other !== undefined && other.ip !== server.ip;
  const fromOtherAddress = judge(await address, isAble, ({ from }) => isAble && sameEndpoint(from, other));
  if (fromOtherAddress === "heard") {
    proven();
    end.abort();
  }
  const fromOtherPort = judge(await port, other !== undefined, ({ honoured }) => honoured);
  deadline.cancel();
  return { fromOtherAddress, fromOtherPort };
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
