/**
 * The reverse strategy: a signal asks the peer to connect to us, which works where only our side can be reached. The
 * peer dials our address as `direct.ts` does, and brings the token of the request on the path. Who asks is the
 * caller in every other respect: it greets, and the peer's services and queue answer.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { formatEndpoint } from "../ip.ts";
import { randomWord } from "../net/random-word.ts";
import type { World } from "../net/world.ts";
import type { Signaling } from "../signal/signaling.ts";
import type { AddressBroker } from "../wire/address.ts";
import type { AwaitedAnswers } from "./answers.ts";
import { pause } from "./pause.ts";
import type { Attempt, AttemptContext, Path } from "./race.ts";

export interface ReverseOptions {
  readonly signaling: Pick<Signaling, "request">;
  readonly answers: AwaitedAnswers;
  readonly peer: {
    readonly id: string;
    readonly key: Uint8Array;
    readonly brokers: readonly AddressBroker[];
  };
  /** Our own address line, as it is now. */
  readonly address: () => string;
  /** Restricts the peer to paths over this. */
  readonly transport?: "tcp" | "udp" | undefined;
  /** So long direct attempts have the field: where they are near, signals are not worth their cost. */
  readonly delayMs: number;
}

/** The peer keeps trying for about so long. */
export const CONNECT_BACK_TIMEOUT_MS = 8000;

const REPLY_GRACE_MS = 2000;

export function reverseAttempt(world: World, options: ReverseOptions): Attempt {
  return {
    strategy: "reverse",
    candidate: "by signal",
    leadMs: 0,
    run: async (context) => {
      await pause(world, options.delayMs, context.signal);
      return ask(world, options, context);
    },
  };
}

async function ask(world: World, options: ReverseOptions, context: AttemptContext): Promise<Path> {
  const { signaling, answers, peer, address, transport } = options;
  const { leftMs, note } = context;
  const [request, token] = [randomWord(world), randomWord(world)];
  const stopping = new AbortController();
  const { signal } = stopping;
  const stop = (): void => stopping.abort();
  context.signal.addEventListener("abort", stop, { once: true });
  if (context.signal.aborted) stop();
  const over = transport === undefined ? {} : { transport };
  const asked = { token, request, peerId: peer.id, peerKey: peer.key };
  const began = world.time.now();
  note("asking", "the peer is asked to connect to us");
  const arriving = answers.expect(asked, signal);
  const replied = signaling
    .request(
      peer.id,
      peer.brokers,
      () => ({ type: "reverse", request, address: address(), token, ...over }),
      { timeoutMs: leftMs(), signal },
    )
    .then((reply) => {
      if (reply.type === "answer" && !reply.accepted)
        throw new P2pdError("refused", `the peer does not connect back: ${reply.text ?? reply.code ?? ""}`);
      note("accepted", `the peer connects back; it replied in ${(world.time.now() - began).toFixed(0)} ms`);
      return late(world, Math.min(CONNECT_BACK_TIMEOUT_MS + 1000, leftMs()), signal);
    });
  try {
    const { stream, transport: by, rttMs } = await Promise.race([arriving, replied]);
    const candidate = `${formatEndpoint(stream.remote)}/${by}`;
    note("authenticated", `${stream.cipher}, from ${candidate}`);
    // The reply may be behind the path, and is worth hearing: it measures the clocks.
    world.time.after(REPLY_GRACE_MS, stop, { background: true });
    return { strategy: "reverse", transport: by, candidate, stream, rttMs };
  } catch (thrown) {
    stop();
    throw explain(toP2pdError(thrown, "connect-failed"));
  } finally {
    context.signal.removeEventListener("abort", stop);
    arriving.catch(() => undefined);
    replied.catch(() => undefined);
  }
}

/** Rejects when the peer had its time. */
function late(world: World, timeoutMs: number, signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const timer = world.time.after(timeoutMs, () => {
      reject(new P2pdError("timeout", "the peer replied that it connects back, and no connection came"));
    });
    signal.addEventListener("abort", () => timer.cancel(), { once: true });
  });
}

function explain(error: P2pdError): P2pdError {
  if (error.code !== "timeout") return error;
  const text = error.message.includes("replied")
    ? `${error.message}: our own firewall or NAT lets nothing in (forward the port)`
    : `the peer did not answer on any broker: it is off, or it listens on other brokers (${error.message})`;
  return new P2pdError("timeout", text, error.detail, { cause: error });
}
