/**
 * The node's use of signaling: keeps its address record on its brokers, looks up the addresses of peers, asks peers
 * to connect to us and connects to those that ask us to. Without a broker all of it is off, and says so.
 */
import { AwaitedAnswers } from "../connect/answers.ts";
import { ConnectBack, type ConnectBackOptions } from "../connect/connect-back.ts";
import type { Attempt } from "../connect/race.ts";
import { reverseAttempt } from "../connect/reverse.ts";
import { P2pdError, toP2pdError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { SecureStream, World } from "../net/world.ts";
import { parseBrokerUrl } from "../signal/broker-url.ts";
import type { ClockOffset } from "../signal/senders.ts";
import { type IncomingSignal, type Signaling, startSignaling } from "../signal/signaling.ts";
import {
  ADDRESS_MAX_BROKERS,
  type Address,
  type AddressBroker,
  decodeAddress,
  encodeAddress,
} from "../wire/address.ts";
import { type Identity, keyOfId } from "./identity.ts";
import type { StatusPart } from "./node-api.ts";
import { Session } from "./session.ts";
import { signalsStatus } from "./signals-status.ts";

export interface SignalsOptions {
  readonly identity: Identity;
  /** URLs; none: there is no signaling. */
  readonly brokers: readonly string[];
  readonly log: Log;
  /** Our address line as it is now. */
  readonly address: () => string;
  /** A broker was lost and is there again: external addresses may have changed. */
  readonly reconnected: () => void;
  /** What connecting back needs to know; undefined while it is not allowed. */
  readonly connectBack: () => ConnectBackOptions | undefined;
  /** A peer whom we connected to at its wish; its HELLO is still to come. */
  readonly connected: (
    session: Session,
    stream: SecureStream,
    path: { readonly transport: "tcp" | "udp"; readonly rttMs: number; readonly beganAt: number },
  ) => Promise<void>;
}

export class Signals {
  readonly #world: World;
  readonly #options: SignalsOptions;
  readonly #signaling: Signaling | undefined;
  readonly #answers = new AwaitedAnswers();
  readonly #connectBack: ConnectBack;
  /** Sessions whose first frame was read before the race that waits for them has seen their stream. */
  readonly #sessions = new WeakMap<SecureStream, Session>();
  /** Our brokers as an address line carries them. */
  readonly brokers: readonly AddressBroker[];
  #published = "";

  /** Connects in the background. Throws `bad-argument` for an unreadable broker. */
  constructor(world: World, options: SignalsOptions) {
    this.#world = world;
    this.#options = options;
    this.#connectBack = new ConnectBack(world);
    this.brokers = options.brokers
      .map(parseBrokerUrl)
      .map(({ scheme, host, port, path }) => ({ scheme, host, port, path }))
      .filter(fitsAddress)
      .slice(0, ADDRESS_MAX_BROKERS);
    const { identity, brokers, log, reconnected } = options;
    if (brokers.length === 0) return;
    this.#signaling = startSignaling(
      world,
      { identity, brokers, log },
      { message: (signal) => this.#heard(signal), reconnected },
    );
  }

  get isOn(): boolean {
    return this.#signaling !== undefined;
  }

  status(): readonly StatusPart[] {
    return signalsStatus(this.#signaling?.status());
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
      address: this.#options.address(),
      transport,
      delayMs,
    });
  }

  /** A path that brings a token came to our listener. */
  answered(
    token: string,
    session: Session,
    stream: SecureStream,
    transport: "tcp" | "udp",
    rttMs: number,
  ): void {
    this.#sessions.set(stream, session);
    if (this.#answers.arrived(token, { stream, transport, rttMs })) return;
    session.abort(new P2pdError("refused", "no open waits for this connection any more"));
  }

  /** The session that was made of a stream already. */
  sessionOf(stream: SecureStream): Session | undefined {
    return this.#sessions.get(stream);
  }

  close(): void {
    this.#signaling?.close();
  }

  #heard(signal: IncomingSignal): void {
    const { from, message } = signal;
    if (message.type === "cancel") {
      this.#answers.refused(
        message.request,
        from,
        `the peer could not connect to us: ${message.text ?? message.code}`,
      );
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
        const session = new Session(path.stream, { role: "acceptor", time: this.#world.time });
        session.answer(token);
        const { transport: by, rttMs } = path;
        await this.#options.connected(session, path.stream, { transport: by, rttMs, beganAt });
      } catch (thrown) {
        const { code, message } = toP2pdError(thrown, "connect-failed");
        if (code !== "connect-failed") return;
        const body = { type: "cancel", request, code, text: message.slice(0, 512) } as const;
        await this.#signaling?.send(from, address.brokers, body);
      }
    }
  }

  #complain(what: string, thrown: unknown): void {
    this.#options.log.debug(what, { error: toP2pdError(thrown).message });
  }
}

function readLine(line: string): Address | undefined {
  try {
    return decodeAddress(line);
  } catch {
    // Remote input: whoever sent it is told that it was unreadable.
    return undefined;
  }
}

/** Whether an address line can carry a broker; a path may hold more than a line does. */
function fitsAddress(broker: AddressBroker): boolean {
  const id = `A${"g".repeat(43)}`;
  try {
    encodeAddress({ id, machine: "A".repeat(11), brokers: [broker], nics: [] });
    return true;
  } catch {
    // Peers that know us by the line cannot use this broker; whoever is configured alike can.
    return false;
  }
}
