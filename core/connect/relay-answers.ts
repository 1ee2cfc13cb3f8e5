/**
 * The other end of the relay strategy: a peer's offer names its relayed address, and we connect to it; or asks for one
 * of ours, and we wait at it. Bounded, so that nobody can use us to knock at doors of others or to use up our servers:
 * few at a time for each peer and in all, a short time, and public addresses alone.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { formatEndpoint } from "../ip.ts";
import type { Address } from "../wire/address.ts";
import type { AnswerBody } from "../wire/signal-message.ts";
import type { SignalRelay } from "../wire/signal-relay.ts";
import { pause } from "./pause.ts";
import type { BarePath, Note } from "./race.ts";
import { addressesOf, familyFor, fitting, RELAY_CALL_TIMEOUT_MS, type RelaySetting } from "./relay.ts";
import { callWays, firstOf, refuseRelay } from "./relay-call.ts";
import { holdRelay } from "./relay-hold.ts";

/** At a time, for one peer and for all. */
const MAX_OF_PEER = 4;
const MAX_AT_ONCE = 64;

export interface RelayAnswerOptions {
  readonly from: string;
  readonly peerKey: Uint8Array;
  readonly request: string;
  readonly relay: SignalRelay;
  /** The address in the offer. */
  readonly peer: Address;
  readonly note: Note;
  readonly reply: (answer: Omit<AnswerBody, "type" | "request">) => void;
  /** Tells the peer from where an allocation of ours comes. */
  readonly comesFrom: (ips: readonly string[]) => void;
  /** A path on which the peer has proved its key. Resolves when it has greeted on it. */
  readonly accepted: (path: AcceptedRelay) => Promise<void>;
}

export interface AcceptedRelay extends BarePath {
  /** As `Path.via`. */
  readonly via: string;
}

interface UnderWay {
  readonly from: string;
  readonly stopping: AbortController;
  permit?: (ips: readonly string[]) => void;
}

export class RelayAnswers {
  readonly #setting: RelaySetting;
  /** By request. */
  readonly #underWay = new Map<string, UnderWay>();

  constructor(setting: RelaySetting) {
    this.#setting = setting;
  }

  /** Why a peer's offer is not taken up now; undefined: it is. */
  refusal(from: string, request: string): string | undefined {
    const ofPeer = [...this.#underWay.values()].filter((one) => one.from === from).length;
    if (this.#underWay.has(request) || ofPeer >= MAX_OF_PEER || this.#underWay.size >= MAX_AT_ONCE)
      return "too many relays are under way";
    return undefined;
  }

  /** The peer needs it no more. */
  stop(request: string, from: string): void {
    const found = this.#underWay.get(request);
    if (found?.from === from) found.stopping.abort();
  }

  /** The peer comes to our relay from these addresses. */
  comesFrom(request: string, from: string, ips: readonly string[]): void {
    const found = this.#underWay.get(request);
    if (found?.from === from) found.permit?.(ips);
  }

  /** Answers an offer and does our part; rejects with `connect-failed` where an accepted one came to nothing. */
  async answer(options: RelayAnswerOptions, stop: AbortSignal): Promise<void> {
    const { from, request, relay } = options;
    const underWay: UnderWay = { from, stopping: new AbortController() };
    const { stopping } = underWay;
    const abort = (): void => stopping.abort();
    stop.addEventListener("abort", abort, { once: true });
    this.#underWay.set(request, underWay);
    try {
      if (relay.at === undefined) await this.#hold(options, underWay);
      else await this.#call(options, relay.at, stopping.signal);
    } finally {
      this.#underWay.delete(request);
      stop.removeEventListener("abort", abort);
      abort();
    }
  }

  async #call(
    { relay, peer, peerKey, note, reply, comesFrom, accepted }: RelayAnswerOptions,
    at: Required<SignalRelay>["at"],
    signal: AbortSignal,
  ): Promise<void> {
    const { world, credentials, source, quic, own, isUdpBlocked } = this.#setting;
    const { transport, link = "udp" } = relay;
    const refusal = refuseRelay(at, peer, own()) ?? this.#cannotCome(transport);
    if (refusal !== undefined) {
      note("refused", refusal);
      reply({ accepted: false, code: "refused", text: refusal.slice(0, 512) });
      return;
    }
    reply({ accepted: true });
    note("connecting", `to ${formatEndpoint(at)}, the peer's relay`);
    const ways = callWays(world, {
      at,
      transport,
      credentials,
      peerKey,
      quic: isUdpBlocked() ? undefined : quic(),
      source,
      comesFrom,
      timeoutMs: RELAY_CALL_TIMEOUT_MS,
      signal,
      note,
    });
    // The peer greets on one of them, and closes the others.
    const greeted = ways.map(async (way) => {
      const path = await way;
      note("accepted", path.stream.cipher);
      await accepted({ ...path, via: `turn-${link}` });
    });
    await firstOf(greeted, () => undefined);
  }

  #cannotCome(transport: "tcp" | "udp"): string | undefined {
    const { source, isUdpBlocked } = this.#setting;
    if (transport === "tcp" || source.isAny || !isUdpBlocked()) return undefined;
    return "UDP is blocked there, and it has no TURN server of its own";
  }

  async #hold(options: RelayAnswerOptions, underWay: UnderWay): Promise<void> {
    const { relay, peer, peerKey, note, reply, accepted } = options;
    const { world, credentials, source } = this.#setting;
    const { transport } = relay;
    const { signal } = underWay.stopping;
    const refuse = (text: string): void => {
      note("refused", text);
      reply({ accepted: false, code: "unavailable", text: text.slice(0, 512) });
    };
    if (!source.isAny) return refuse("no TURN servers are configured there");
    if (transport === "udp" && world.openQuic === undefined) return refuse("there is no QUIC there");
    const opened = await source
      .open(transport, familyFor(peer))
      .catch((thrown: unknown) => toP2pdError(thrown));
    if (opened instanceof P2pdError) return refuse(`its TURN servers do not serve: ${opened.message}`);
    const link = opened.link.transport;
    const greeted = Promise.withResolvers<void>();
    const accept = (path: BarePath): void => {
      note("accepted", path.stream.cipher);
      // One that the peer closes in place of greeting on it is not the last.
      accepted({ ...path, via: `turn-${link}` }).then(greeted.resolve, () => undefined);
    };
    const held = await holdRelay(world, opened, { transport, credentials, peerKey, note, accept });
    try {
      if (signal.aborted) return;
      note("allocated", formatEndpoint(held.at));
      held.permit(addressesOf(peer, held.at));
      underWay.permit = (ips) => held.permit(fitting(ips, held.at));
      reply({ accepted: true, relay: { transport, link, at: held.at } });
      const ended = held.arrived.then(() => greeted.promise);
      await Promise.race([ended, tooLate(this.#setting, signal)]);
    } finally {
      held.close();
    }
  }
}

async function tooLate({ world }: RelaySetting, signal: AbortSignal): Promise<never> {
  await pause(world, RELAY_CALL_TIMEOUT_MS, signal);
  throw new P2pdError("connect-failed", "you did not come to the relayed address");
}
