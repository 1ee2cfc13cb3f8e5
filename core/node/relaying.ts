/**
 * What the node brings to its relays: its TURN servers, when a relay may begin, and the part it takes in relays that
 * peers ask for.
 */
import type { AwaitedAnswers } from "../connect/answers.ts";
import type { OwnNetworks } from "../connect/plan.ts";
import type { Attempt } from "../connect/race.ts";
import { relayLane, type RelaySetting } from "../connect/relay.ts";
import { type AcceptedRelay, RelayAnswers } from "../connect/relay-answers.ts";
import { type ErrorCode, toP2pdError } from "../errors.ts";
import { formatEndpoint } from "../ip.ts";
import type { Log } from "../log.ts";
import type { Credentials, QuicEndpoint, World } from "../net/world.ts";
import type { IncomingSignal, Signaling } from "../signal/signaling.ts";
import type { Address } from "../wire/address.ts";
import type { AnswerBody, OfferBody, SignalBody } from "../wire/signal-message.ts";
import type { SignalRelay } from "../wire/signal-relay.ts";
import { answerStory } from "./answer-story.ts";
import { keyOfId } from "./identity.ts";
import type { NatWatch } from "./nat-watch.ts";
import type { Network } from "./network.ts";
import type { StatusPart } from "./node-api.ts";
import type { NodeConfig } from "./node-config.ts";
import type { Arrival } from "./opening.ts";
import { readLine } from "./signal-addresses.ts";
import { TurnServers } from "./turn-servers.ts";

export interface RelayingOptions {
  readonly config: Pick<NodeConfig, "turnServers" | "strategies" | "relay">;
  readonly credentials: Credentials;
  readonly network: Pick<Network, "used">;
  readonly nat: Pick<NatWatch, "findings">;
  readonly quic: () => QuicEndpoint | undefined;
  readonly own: () => OwnNetworks;
  /** Our own address line, as it is now. */
  readonly address: () => string;
  readonly log: Log;
  /** Fires when the node stops. */
  readonly signal: AbortSignal;
  /** A peer with whom we stand in a relay; what it wants is still to come. */
  readonly connected: (arrival: Arrival) => Promise<void>;
}

export class Relaying {
  readonly #options: RelayingOptions;
  readonly #setting: RelaySetting;
  readonly #servers: TurnServers;
  readonly #answers: RelayAnswers;

  constructor(world: World, options: RelayingOptions) {
    const { credentials, quic, own, config, network, nat } = options;
    const isUdpBlocked = (): boolean => {
      const known = nat.findings.flatMap(({ detection }) => detection?.profile ?? []);
      return known.length > 0 && known.every(({ udp }) => udp.type === "blocked");
    };
    this.#options = options;
    this.#servers = new TurnServers(world, {
      turnServers: config.turnServers,
      isAllowed: config.relay !== "never" && config.strategies.includes("relay"),
      network,
      isUdpBlocked,
    });
    this.#setting = { world, credentials, source: this.#servers, quic, own, isUdpBlocked };
    this.#answers = new RelayAnswers(this.#setting);
  }

  get status(): readonly StatusPart[] {
    return this.#servers.status();
  }

  /** Asks the servers whether they serve; see `status`. */
  check(): void {
    this.#servers.check();
  }

  /** Gives back what TURN servers gave; resolves when that is done, or after a second. */
  giveBack(): Promise<void> {
    return this.#servers.giveBack();
  }

  /** The attempts to reach a peer by a relay. */
  lane(
    signaling: Pick<Signaling, "request" | "send">,
    answers: AwaitedAnswers,
    to: {
      readonly peer: () => Address;
      readonly peerKey: Uint8Array;
      readonly transport: "tcp" | "udp" | undefined;
    },
  ): readonly Attempt[] {
    const { peer, peerKey, transport } = to;
    const transports = transport === undefined ? (["udp", "tcp"] as const) : [transport];
    const { address } = this.#options;
    return relayLane({ ...this.#setting, signaling, answers, peer, peerKey, address, transports });
  }

  /** What a peer has to say of a relay: an offer, from where it comes, that it gave up. Other signals are nothing to us. */
  heard(signal: IncomingSignal, signaling: Pick<Signaling, "send">): void {
    const { from, message } = signal;
    if (message.type === "cancel") this.#answers.stop(message.request, from);
    else if (message.type === "permit") this.#answers.comesFrom(message.request, from, message.ips);
    else if (message.type === "offer" && message.relay !== undefined)
      void this.#answer(signal, { ...message, relay: message.relay }, signaling);
  }

  /** Takes part in a relay that a peer has offered or asked for. */
  async #answer(
    signal: IncomingSignal,
    offer: OfferBody & { readonly relay: SignalRelay },
    signaling: Pick<Signaling, "send">,
  ): Promise<void> {
    const { from } = signal;
    const { request, relay } = offer;
    const { log, config, connected } = this.#options;
    const { beganAt, timeline, note } = answerStory(this.#setting.world.time, "relay", (event, detail) =>
      log.debug("relaying for a peer", { peer: from, request, event, detail }),
    );
    const peerKey = keyOfId(from);
    const peer = readLine(offer.address);
    const complain = (thrown: unknown): void =>
      log.debug("a signal about a relay was not sent", { error: toP2pdError(thrown).message });
    const reply = (answer: Omit<AnswerBody, "type" | "request">): void => {
      signal.reply({ type: "answer", request, ...answer }).catch(complain);
    };
    const refuse = (code: ErrorCode, text: string): void => reply({ accepted: false, code, text });
    if (config.relay === "never" || !config.strategies.includes("relay"))
      return refuse("unavailable", "relays are not allowed there");
    if (peer?.id !== from || peerKey === undefined)
      return refuse("bad-argument", "the address in the offer is unreadable, or not the sender's");
    const refusal = this.#answers.refusal(from, request);
    if (refusal !== undefined) return refuse("unavailable", refusal);
    const send = (body: SignalBody): void => {
      signaling.send(from, peer.brokers, body).catch(complain);
    };
    const accepted = (path: AcceptedRelay): Promise<void> => {
      const candidate = `${formatEndpoint(path.stream.remote)}/${path.via}`;
      return connected({ path: { strategy: "relay", candidate, ...path }, beganAt, timeline });
    };
    const comesFrom = (ips: readonly string[]): void => send({ type: "permit", request, ips });
    const asked = { from, peerKey, request, relay, peer, reply, note, comesFrom, accepted };
    try {
      await this.#answers.answer(asked, this.#options.signal);
    } catch (thrown) {
      const { code, message } = toP2pdError(thrown, "connect-failed");
      if (code === "connect-failed") send({ type: "cancel", request, code, text: message.slice(0, 512) });
    }
  }
}
