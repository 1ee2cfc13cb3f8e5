/**
 * Signaling as the rest of the program sees it: sealed, authenticated messages to and from other nodes, over several
 * brokers at once, and the address records that brokers keep. Nothing here waits for a broker at start; one that is
 * dead or frozen costs its share and no more. What the messages lead to is decided above.
 */
import { P2pdError } from "../errors.ts";
import type { Log } from "../log.ts";
import { randomWord } from "../net/random-word.ts";
import type { World } from "../net/world.ts";
import type { AddressBroker } from "../wire/address.ts";
import { decodeEnvelope, envelopeTagKey } from "../wire/signal-envelope.ts";
import {
  decodeSignal,
  encodeSignal,
  prepareSignals,
  type SignalBody,
  type SignalMessage,
} from "../wire/signal-message.ts";
import type { AddressRecord } from "../wire/signal-record.ts";
import { createAddressRecords, type FetchOptions, type RecordCounters } from "./address-records.ts";
import type { BrokerStatus } from "./broker-link.ts";
import { type BrokerLinks, createBrokerLinks } from "./broker-links.ts";
import { parseBrokerUrl } from "./broker-url.ts";
import { inboxTopic, keyOfNodeId, type SignalIdentity } from "./node-key.ts";
import { loadMqtt } from "./mqtt-session.ts";
import { createOutbox } from "./outbox.ts";
import { createReplies } from "./replies.ts";
import { createSuspicion } from "./suspicion.ts";
import { createSealing, type Sealing, signalSuite } from "./sealing.ts";
import { type ClockOffset, createSenders } from "./senders.ts";
import { createSignalInbox, type Delivered, type SignalCounters } from "./signal-inbox.ts";

export interface SignalingOptions {
  readonly identity: SignalIdentity;
  /** URLs of the brokers at which this node listens, `mqtts://broker.example.org:8883`. */
  readonly brokers: readonly string[];
  /** Names of the NICs that may be used beside the system's choice; absent: all. */
  readonly interfaces?: readonly string[] | undefined;
  readonly log: Log;
}

/** A message of a proven sender, fresh and seen for the first time. */
export interface IncomingSignal {
  /** Node id of the sender. */
  readonly from: string;
  readonly message: SignalMessage;
  /** Answers over the brokers that the message came over. Rejects with `bad-argument` or `too-large`. */
  reply(body: SignalBody): Promise<void>;
}

export interface SignalingHandlers {
  /** Pings are answered before, and replies go to their `request`. */
  message(signal: IncomingSignal): void;
  /** One of our own brokers was lost and is there again: the way to the internet may be another one now. */
  reconnected?(): void;
  /** A broker's connection went dead without its doing: other ways may be dead too. At most once a second. */
  lost?(): void;
  /** One of our own brokers is in another state; `status` says in which. */
  changed?(): void;
}

export interface SendOptions {
  /** How long to wait for a broker that is not connected yet; 10,000 unless given. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface RequestOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface SignalingStatus {
  readonly brokers: readonly BrokerStatus[];
  /** What came, what was delivered, and what was dropped, by reason. */
  readonly signals: SignalCounters;
  readonly records: RecordCounters;
}

export interface Signaling {
  /** Connects to a peer's brokers ahead of the first message to it. */
  prepare(brokers: readonly AddressBroker[]): void;
  /**
   * Sends over every broker given (a peer's; none: our own) and resolves when the first of them has it. Rejects with
   * `unavailable`, which says how each broker stands; `aborted`, `closed`, `bad-argument`, `too-large`.
   */
  send(to: string, brokers: readonly AddressBroker[], body: SignalBody, options?: SendOptions): Promise<void>;
  /**
   * Sends, again and again until it is answered, and resolves with the reply. A body that is a function is asked for each
   * time: what it says of us may have changed. Rejects with `timeout` (no reply),
   * `unavailable` (no broker took it), `aborted`, `closed`, `bad-argument`, `too-large`.
   */
  request(
    to: string,
    brokers: readonly AddressBroker[],
    body: SignalBody | (() => SignalBody),
    options: RequestOptions,
  ): Promise<SignalMessage>;
  /**
   * Something suggests that the network has changed, or that the ways to the brokers are dead: a path to a peer has
   * died. Every broker is asked for a sign of life, and another connection is made beside each that does not answer
   * within half a second or four round trips. Followed at once, and at most once a second: cheap to call.
   */
  suspect(): void;
  /** An external address is another one: connections are made beside all there are, which stay where they answer. */
  moved(): void;
  /** Keeps this address line on our brokers, signed. Throws `too-large`. */
  publishRecord(addressLine: string): void;
  /** The newest record of a node that brokers have. Rejects with `no-such-peer`, `unavailable`, `aborted`. */
  fetchRecord(id: string, options: FetchOptions): Promise<AddressRecord>;
  /** How another node's clock stands to ours, where it was measured in the last hour. */
  clockOffset(id: string): ClockOffset | undefined;
  status(): SignalingStatus;
  close(): void;
}

/** Loads the packages of signaling ahead of their first use, some fifty milliseconds of work. */
export async function loadSignaling(): Promise<void> {
  await Promise.all([loadMqtt(), signalSuite()]);
}

/** Starts at once and connects in the background. Throws `bad-argument` for an unreadable broker. */
export function startSignaling(
  world: World,
  { identity, brokers, interfaces, log }: SignalingOptions,
  handlers: SignalingHandlers,
): Signaling {
  const { time } = world;
  const own = brokers.map(parseBrokerUrl);
  const senders = createSenders();
  let latestWallMs = 0;
  let isWarm = false;
  /** Own brokers that were connected before. */
  const met = new Set<string>();
  const wallMs = (): number => (latestWallMs = Math.max(latestWallMs, time.wallMs()));
  let sealing: Promise<Sealing> | undefined;
  const sealer = (): Promise<Sealing> => (sealing ??= createSealing(identity));

  const links: BrokerLinks = createBrokerLinks(world, {
    own,
    log,
    inbox: inboxTopic(identity.publicKey),
    interfaces,
    message: (payload, via) => inbox.push(payload, via),
    ownChanged: () => handlers.changed?.(),
    connected(link, isOwn) {
      outbox.reconnected(link);
      if (!isOwn) return;
      records.connected(link);
      warmUp();
      const isBack = met.has(link.name);
      met.add(link.name);
      if (!isBack) return;
      links.wake();
      handlers.reconnected?.();
    },
    lost() {
      suspicion.raise();
      losses.raise();
    },
  });
  const suspicion = createSuspicion(time, () => links.suspect());
  const losses = createSuspicion(time, () => handlers.lost?.());
  const unanswered = (): void => suspicion.raise();
  const records = createAddressRecords(world, identity, () => links, wallMs, unanswered);
  const outbox = createOutbox(world, { links, sealer, senders, wallMs, unanswered });
  const replies = createReplies(links);
  const inbox = createSignalInbox({
    time,
    wallMs,
    publicKey: identity.publicKey,
    sealing: sealer,
    senders,
    awaits: (from, messageId) => outbox.awaits(from, messageId),
    deliver,
    stale(signal) {
      if (senders.mayTellTime(signal.from, time.now())) void answer(signal, { type: "stale" }, false);
    },
    again: (from, messageId, via) => replies.again(from, messageId, via),
  });
  const unwatch = world.watchNics(() => links.check());

  function deliver(signal: Delivered): void {
    const { from, message } = signal;
    if (message.re !== undefined && outbox.answered(signal)) return;
    if (message.type === "stale" || message.type === "pong") return;
    replies.expect(from, message.id, signal.via);
    if (message.type === "ping") {
      void answer(signal, { type: "pong" }, true);
      return;
    }
    try {
      handlers.message({ from, message, reply: (body) => answer(signal, body, true) });
    } catch (thrown) {
      log.error("a receiver of signals failed", { error: String(thrown) });
    }
  }

  async function answer(
    { from, message, arrivedMs, arrivedWallMs, via }: Delivered,
    body: SignalBody,
    isKept: boolean,
  ): Promise<void> {
    const text = encodeSignal({
      ...body,
      v: 1,
      id: randomWord(world),
      at: Math.round(wallMs() + (senders.clock(from, time.now())?.offsetMs ?? 0)),
      re: { id: message.id, at: message.at, got: Math.round(arrivedWallMs), held: time.now() - arrivedMs },
    });
    const envelope = await (await sealer()).seal(keyOfNodeId(from), text);
    const topic = inboxTopic(keyOfNodeId(from));
    if (isKept) replies.give(from, message.id, topic, envelope);
    else for (const name of via) links.named(name)?.publish(topic, envelope);
  }

  /** Loads what signals need, and seals and opens one, so that the first that counts does not wait for that. */
  function warmUp(): void {
    if (isWarm) return;
    isWarm = true;
    const text = encodeSignal({ v: 1, id: randomWord(world), at: 0, type: "ping" });
    const once = async (): Promise<void> => {
      const sealing = await sealer();
      const bytes = await sealing.seal(identity.publicKey, text);
      const envelope = decodeEnvelope(bytes, envelopeTagKey(identity.publicKey));
      const outer = typeof envelope === "string" ? undefined : await sealing.openOuter(envelope);
      const inner = outer && (await sealing.openInner(outer));
      if (inner !== undefined) decodeSignal(inner);
      prepareSignals();
    };
    once().catch((thrown: unknown) => log.error("signals cannot be sealed", { error: String(thrown) }));
  }

  return {
    prepare(of) {
      if (of.length > 0) links.to(of);
      warmUp();
    },
    async send(to, of, body, options = {}) {
      await outbox.send(to, of, body, options);
    },
    request: (to, of, body, options) => outbox.request(to, of, body, options),
    suspect: () => suspicion.raise(),
    moved: () => links.distrust(),
    publishRecord: (line) => records.publish(line),
    async fetchRecord(id, options) {
      return records.fetch(id, options);
    },
    clockOffset: (id) => senders.clock(id, time.now()),
    status: () => ({
      brokers: links.status(),
      signals: { ...inbox.counters },
      records: { ...records.counters },
    }),
    close() {
      unwatch();
      suspicion.close();
      losses.close();
      records.close();
      outbox.close(new P2pdError("closed", "signaling was closed"));
      links.close();
    },
  };
}
