/**
 * The node's use of signaling: keeps its address record on its brokers, looks up the addresses of peers, asks peers
 * to connect to us and connects to those that ask us to. Without a broker all of it is off, and says so.
 */
import { AwaitedAnswers } from "../connect/answers.ts";
import { ConnectBack, type ConnectBackOptions } from "../connect/connect-back.ts";
import { punchAttempt, type PunchOptions } from "../connect/punch.ts";
import { PunchAnswers } from "../connect/punch-answers.ts";
import type { Attempt, Path } from "../connect/race.ts";
import { reverseAttempt } from "../connect/reverse.ts";
import { type ErrorCode, P2pdError, toP2pdError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { World } from "../net/world.ts";
import type { ClockOffset } from "../signal/senders.ts";
import { type IncomingSignal, type Signaling, startSignaling } from "../signal/signaling.ts";
import { type Address, type AddressBroker, decodeAddress } from "../wire/address.ts";
import type { AnswerBody, OfferBody } from "../wire/signal-message.ts";
import { encodeAnswer, encodeReset } from "../wire/session-frame.ts";
import { answerStory } from "./answer-story.ts";
import { type Identity, keyOfId } from "./identity.ts";
import type { StatusPart } from "./node-api.ts";
import type { Punching } from "./punching.ts";
import { type Arrival, part } from "./opening.ts";
import type { Relaying } from "./relaying.ts";
import { brokersForAddress, readLine } from "./signal-addresses.ts";
import { signalsStatus } from "./signals-status.ts";

export interface SignalsOptions {
  readonly identity: Identity;
  /** URLs; none: there is no signaling. */
  readonly brokers: readonly string[];
  /** Names of the NICs to use; absent: all. */
  readonly interfaces?: readonly string[] | undefined;
  readonly log: Log;
  /** Our address line as it is now. */
  readonly address: () => string;
  /** The network may have changed, or has: external addresses may be others. */
  readonly suspected: () => void;
  /** A broker of ours is in another state. */
  readonly changed: () => void;
  /** What connecting back needs to know; undefined while it is not allowed. */
  readonly connectBack: () => ConnectBackOptions | undefined;
  /** What punches need; undefined where they are not allowed. */
  readonly punching: () => Punching | undefined;
  readonly relaying: Relaying;
  /** Fires when the node stops. */
  readonly signal: AbortSignal;
  /** A peer whom we connected to at its wish; what it wants is still to come. Rejects when it leaves. */
  readonly connected: (arrival: Arrival) => Promise<void>;
}

export class Signals {
  readonly #world: World;
  readonly #options: SignalsOptions;
  readonly #signaling: Signaling | undefined;
  readonly #answers = new AwaitedAnswers();
  readonly #connectBack: ConnectBack;
  #punchAnswers: PunchAnswers | undefined;
  /** Our brokers as an address line carries them. */
  readonly brokers: readonly AddressBroker[];
  readonly #backListeners = new Set<() => void>();
  #published = "";

  /** Connects in the background. Throws `bad-argument` for an unreadable broker. */
  constructor(world: World, options: SignalsOptions) {
    this.#world = world;
    this.#options = options;
    this.#connectBack = new ConnectBack(world);
    this.brokers = brokersForAddress(options.brokers);
    const { identity, brokers, interfaces, log, suspected, changed } = options;
    if (brokers.length === 0) return;
    this.#signaling = startSignaling(
      world,
      { identity, brokers, interfaces, log },
      {
        message: (signal) => this.#heard(signal),
        lost: suspected,
        changed,
        reconnected: () => {
          suspected();
          this.#back();
        },
      },
    );
  }

  /**
   * Something suggests that the network has changed or the ways to the brokers are dead, such as a path to a peer that
   * died: brokers and external addresses are asked at once, what does not answer is replaced. Cheap to call often.
   */
  suspect(): void {
    this.#signaling?.suspect();
    this.#options.suspected();
  }

  /** An external address is another one than before. */
  moved(): void {
    this.#signaling?.moved();
    this.#back();
  }

  /**
   * Calls `back` as soon as the network is there again: a broker that was lost answers, or an external address is
   * another one. Several calls may follow each other. Returns how to stop that.
   */
  onBack(back: () => void): () => void {
    this.#backListeners.add(back);
    return () => void this.#backListeners.delete(back);
  }

  get isOn(): boolean {
    return this.#signaling !== undefined;
  }

  status(): readonly StatusPart[] {
    return [...signalsStatus(this.#signaling?.status()), ...this.#options.relaying.status];
  }

  clockOffset(id: string): ClockOffset | undefined {
    return this.#signaling?.clockOffset(id);
  }

  /** Keeps our address line on the brokers; asks for nothing where it has not changed. */
  publish(): void {
    const line = this.#options.address();
    if (this.#signaling === undefined || line === this.#published) return;
    this.#published = line;
    this.#signaling.publishRecord(line);
  }

  /** Connects to a peer's brokers ahead of the first message. */
  prepare(brokers: readonly AddressBroker[]): void {
    this.#signaling?.prepare(brokers);
  }

  /** The newest address that a node left on brokers. Rejects with `no-such-peer`, `unavailable`, `aborted`. */
  async lookUp(
    id: string,
    brokers: readonly AddressBroker[],
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<Address> {
    if (this.#signaling === undefined) {
      const text = `nothing but its id is known of ${id}, and no mqttBrokers are configured to look it up; open its address line`;
      throw new P2pdError("no-such-peer", text);
    }
    const { line } = await this.#signaling.fetchRecord(id, { brokers, timeoutMs, signal });
    const address = decodeAddress(line);
    if (address.id === id) return address;
    throw new P2pdError("protocol", `the record of ${id} on the brokers is of another node, ${address.id}`);
  }

  /** An attempt to have the peer connect to us; or why there can be none. */
  reverse(
    peer: Address,
    peerKey: Uint8Array,
    transport: "tcp" | "udp" | undefined,
    delayMs: number,
  ): Attempt | string {
    const signaling = this.#signaling;
    if (signaling === undefined) return "needs a message to the peer, and no mqttBrokers are configured";
    const { id, brokers } = peer;
    return reverseAttempt(this.#world, {
      signaling,
      answers: this.#answers,
      peer: { id, key: peerKey, brokers },
      address: this.#options.address,
      transport,
      delayMs,
    });
  }

  /** An attempt to punch holes; or why there can be none. */
  punch(
    peer: Address,
    peerKey: Uint8Array,
    transport: "tcp" | "udp" | undefined,
    delayMs: number,
    { cost, doubted }: Pick<PunchOptions, "cost" | "doubted">,
  ): Attempt | string {
    const signaling = this.#signaling;
    const punching = this.#options.punching();
    if (signaling === undefined) return "needs a message to the peer, and no mqttBrokers are configured";
    if (punching === undefined) return "the strategy punch is not allowed here";
    return punchAttempt({
      ...punching.setting,
      signaling,
      peer,
      peerKey,
      address: this.#options.address,
      transports: transport === undefined ? ["udp", "tcp"] : [transport],
      delayMs,
      cost,
      doubted,
      yields: (sinceMs) =>
        this.#options.identity.id > peer.id && this.#punchAnswers?.hasBegun(peer.id, sinceMs) === true,
    });
  }

  /** Why a direct path to the peer has little chance or takes long; undefined: it may well come soon. */
  async doubt(peer: Address): Promise<string | undefined> {
    return this.#options.punching()?.doubt(peer);
  }

  /** The attempts to reach a peer by a relay; or why there can be none. */
  relay(
    peer: () => Address,
    peerKey: Uint8Array,
    transport: "tcp" | "udp" | undefined,
  ): readonly Attempt[] | string {
    const signaling = this.#signaling;
    if (signaling === undefined) return "needs a message to the peer, and no mqttBrokers are configured";
    return this.#options.relaying.lane(signaling, this.#answers, { peer, peerKey, transport });
  }

  /** A path that brings a token came to our listener. */
  answered(token: string, path: Path): void {
    if (this.#answers.arrived(token, path)) return;
    const text = "no open waits for this connection any more";
    part(path.stream, this.#world.time, encodeReset({ code: "refused", text }));
  }

  /** How long `reverse` should wait where a punch is tried beside it, in milliseconds. */
  get reverseDelayMs(): number {
    return this.#options.punching()?.reverseDelayMs ?? 0;
  }

  /** See `Punching`; 0 where no punches are allowed. */
  get quietMs(): number {
    return this.#options.punching()?.quietMs ?? 0;
  }

  /** Gives back what TURN servers gave, when no connection needs it any more. */
  giveBack(): Promise<void> {
    return this.#options.relaying.giveBack();
  }

  close(): void {
    this.#signaling?.close();
    this.#backListeners.clear();
  }

  #back(): void {
    for (const back of this.#backListeners) back();
  }

  #heard(signal: IncomingSignal): void {
    const { from, message } = signal;
    if (this.#signaling !== undefined) this.#options.relaying.heard(signal, this.#signaling);
    if (message.type === "cancel") {
      this.#punchAnswers?.stop(message.request, from);
      this.#answers.refused(
        message.request,
        from,
        `the peer could not connect to us: ${message.text ?? message.code}`,
      );
    } else if (message.type === "permit") {
      this.#answers.comesFrom(message.request, from, message.ips);
    } else if (message.type === "offer" && message.relay === undefined) {
      this.#punchWith(signal, message).catch((thrown: unknown) => this.#complain("punching failed", thrown));
    } else if (message.type === "reverse") {
      const { request, token, address, transport } = message;
      const reply = (refusal?: P2pdError): void => {
        const why = refusal === undefined ? {} : { code: refusal.code, text: refusal.message.slice(0, 512) };
        const answer = { type: "answer", request, accepted: refusal === undefined, ...why } as const;
        signal
          .reply(answer)
          .catch((thrown: unknown) => this.#complain("replying to a signal failed", thrown));
      };
      this.#comeBack({ from, request, token, line: address, transport }, reply).catch((thrown: unknown) => {
        this.#complain("connecting back failed", thrown);
      });
    }
  }

  /** Connects to a peer that asked us to. */
  async #comeBack(
    asked: {
      from: string;
      request: string;
      token: string;
      line: string;
      transport?: "tcp" | "udp" | undefined;
    },
    reply: (refusal?: P2pdError) => void,
  ): Promise<void> {
    const { from, request, token, line, transport } = asked;
    const options = this.#options.connectBack();
    const peerKey = keyOfId(from);
    const refusal = options === undefined ? "not allowed here" : this.#connectBack.refusal(from);
    const address = readLine(line);
    if (options === undefined || refusal !== undefined || peerKey === undefined) {
      reply(new P2pdError("unavailable", refusal ?? "your id carries no key"));
    } else if (address?.id !== from) {
      reply(new P2pdError("bad-argument", "the address in the request is unreadable, or not the sender's"));
    } else {
      reply();
      const beganAt = this.#world.time.now();
      try {
        const path = await this.#connectBack.connect(address, peerKey, { ...options, transport });
        path.stream.write(encodeAnswer({ version: 1, token }));
        await this.#options.connected({ path, beganAt });
      } catch (thrown) {
        const { code, message } = toP2pdError(thrown, "connect-failed");
        if (code !== "connect-failed") return;
        const body = { type: "cancel", request, code, text: message.slice(0, 512) } as const;
        await this.#signaling?.send(from, address.brokers, body);
      }
    }
  }

  /** Takes part in a punch that a peer has offered. */
  async #punchWith(signal: IncomingSignal, offer: OfferBody): Promise<void> {
    const { from } = signal;
    const { request, punch } = offer;
    const { beganAt, timeline, note } = answerStory(this.#world.time, "punch", (event, detail) =>
      this.#options.log.debug("punching for a peer", { peer: from, request, event, detail }),
    );
    const punching = this.#options.punching();
    const peer = readLine(offer.address);
    const peerKey = keyOfId(from);
    const reply = (answer: Omit<AnswerBody, "type" | "request">): Promise<void> =>
      signal
        .reply({ type: "answer", request, ...answer })
        .catch((thrown: unknown) => this.#complain("replying to a signal failed", thrown));
    const refuse = (code: ErrorCode, text: string): Promise<void> => reply({ accepted: false, code, text });
    if (punching === undefined || punch === undefined || !offer.strategies.includes("punch"))
      return refuse("unavailable", "the strategy punch is not allowed there");
    if (peer?.id !== from || peerKey === undefined)
      return refuse("bad-argument", "the address in the offer is unreadable, or not the sender's");
    const { address, signal: stopping } = this.#options;
    this.#punchAnswers ??= new PunchAnswers({ ...punching.setting, address, signal: stopping });
    const refusal = this.#punchAnswers.refusal(from, request);
    if (refusal !== undefined) return refuse("unavailable", refusal);
    await this.#punchAnswers.answer({
      from,
      peerKey,
      peer,
      offer: { ...offer, punch },
      reply,
      note,
      accepted: (path, cost) =>
        this.#options.connected({ path: { strategy: "punch", ...path }, beganAt, timeline, cost }),
    });
  }

  #complain(what: string, thrown: unknown): void {
    this.#options.log.debug(what, { error: toP2pdError(thrown).message });
  }
}
