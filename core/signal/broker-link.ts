/**
 * One broker, for as long as it is wanted: connects in the background, comes back after a loss, falls back from MQTT 5
 * to 3.1.1, finds out when the connection has gone dead, and says in words how it stands. A connection that is doubted
 * stays until another, tried beside it, is open or it answers after all. What is sent is left to `signaling.ts`.
 */
import { P2pdError } from "../errors.ts";
import type { Timer, World } from "../net/world.ts";
import type { BrokerConnection } from "./broker-connection.ts";
import { HURRY_MS, hurriedDelay, patientDelay } from "./broker-pace.ts";
import { createPulse, PING_TIMEOUT_MS } from "./broker-pulse.ts";
import { createBrokerTrials } from "./broker-trials.ts";
import { type Broker, formatBroker } from "./broker-url.ts";
import type { PublishOptions } from "./mqtt-session.ts";

/** From the first packet to the answer to the first subscription. */
export const CONNECT_TIMEOUT_MS = 8000;
/** A connection that stood so long was a good one: the intervals begin anew. */
const STOOD_MS = 10_000;
/** Reasons to try at once come several at a time. */
const TRY_AGAIN_MS = 250;
/** More than this unsent, and the broker is taken for frozen. */
const BACKLOG_MAX = 256 * 1024;
/** What was on its way over a connection that was replaced may still come. */
const LINGER_MS = 2000;

export type BrokerState = "connecting" | "connected" | "waiting" | "closed";

export interface BrokerStatus {
  /** `mqtts://broker.example.org:8883`, without credentials. */
  readonly url: string;
  readonly state: BrokerState;
  /** Milliseconds since it is in that state. */
  readonly sinceMs: number;
  /** Protocol of the connection: 3.1.1 or 5. */
  readonly mqtt?: "3.1.1" | "5";
  /** Why it is not connected, or was not the last time. */
  readonly error?: string;
  readonly retryInMs?: number;
  /** Round trip of the last ping. */
  readonly rttMs?: number;
  readonly received: number;
  readonly sent: number;
}

export interface BrokerLinkOptions {
  readonly broker: Broker;
  /** Names of the NICs that may be used beside the system's choice; absent: all. */
  readonly interfaces?: readonly string[];
  /** Whether no broker is reached at the moment; absent: some is. */
  readonly isCutOff?: () => boolean;
  /** After each connection, before anything that waited is sent. */
  readonly connected?: (link: BrokerLink) => void;
  /** A connection that had stood went dead, or is doubted: the way to other brokers may be dead too. */
  readonly lost?: (link: BrokerLink) => void;
  readonly changed?: (link: BrokerLink) => void;
  /** Connect timeout in milliseconds, `CONNECT_TIMEOUT_MS` unless given. */
  readonly connectTimeoutMs?: number;
}

export type TopicHandler = (payload: Uint8Array) => void;

/** Hears how it went to ask the broker what it retains of a topic: it was answered, or this connection failed. */
export type RetainedHandler = (isAnswered: boolean) => void;

export interface BrokerLink {
  readonly broker: Broker;
  /** The broker's URL without credentials. */
  readonly name: string;
  /** Whether messages can be sent now; that ours are heard too is the state `connected`. */
  readonly isConnected: boolean;
  /** Hands a message to the connection; false if there is none, or it is stuck. */
  publish(topic: string, payload: Uint8Array, options?: PublishOptions): boolean;
  /** Calls `ready` once, at once or when it is connected; returns how to take that back. */
  whenConnected(ready: () => void): () => void;
  /**
   * Receives a topic, over every connection to come; returns how to stop that. `retained` is called with true a round
   * trip after the broker granted (or refused) the subscription, which is when it has sent what it retains; with false
   * when a connection fails before that, now or earlier.
   */
  subscribe(topic: string, handler: TopicHandler, retained?: RetainedHandler): () => void;
  /**
   * Something suggests that the way to the broker is dead: asks it for a sign of life, which has to come soon, and
   * connects at once where it waited. For `HURRY_MS` from now on tries follow each other quickly.
   */
  suspect(): void;
  /** As `suspect`, where the connection is most likely dead: another is made beside it before that is sure. */
  distrust(): void;
  /** As `suspect`, after a NIC changed: a connection by an address that is gone is given up, another try begins. */
  check(): void;
  /** Tries at once where it waits, or hangs in a hurry: somebody needs the broker, or the network is back. */
  wake(): void;
  status(): BrokerStatus;
  close(): void;
}

export function createBrokerLink(world: World, options: BrokerLinkOptions): BrokerLink {
  const { time } = world;
  const { broker } = options;
  const name = formatBroker(broker);
  const topics = new Map<string, Map<TopicHandler, RetainedHandler | undefined>>();
  const waiting = new Set<() => void>();
  /** Connections that were replaced and are heard for a moment more. */
  const replaced = new Map<BrokerConnection, Timer>();
  let current: BrokerConnection | undefined;
  let openedMs = 0;
  let isDoubted = false;
  let state: BrokerState = "connecting";
  let sinceMs = time.now();
  let knownIp: string | undefined;
  let triedMs = 0;
  let failures = 0;
  let hurriedTries = 0;
  let hurriedUntilMs = Number.NEGATIVE_INFINITY;
  let retry: Timer | undefined;
  let retryAtMs = 0;
  let lastError: string | undefined;
  let received = 0;
  let sent = 0;

  const pulse = createPulse(time, {
    ping: (answered) => current?.ping(answered),
    doubted(afterMs) {
      doubt(`no answer to a ping within ${Math.round(afterMs)} ms`);
      options.lost?.(link);
    },
    frozen() {
      const text = `the broker is frozen: no answer to a ping within ${PING_TIMEOUT_MS} ms`;
      giveUp(new P2pdError("timeout", text));
    },
  });
  const trials = createBrokerTrials(
    world,
    {
      broker,
      timeoutMs: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
      interfaces: options.interfaces,
      topics: () => topics.keys(),
      known: () => (isHurried() ? knownIp : undefined),
    },
    {
      opened,
      failed(error, left) {
        lastError = error.message;
        if (left > 0 || current !== undefined) return;
        wait();
        tellAll(false);
      },
      ready(connection) {
        if (connection === current && !isDoubted) enter("connected");
      },
      heard(connection) {
        if (connection === current) heard();
      },
      message(connection, topic, payload) {
        if (connection !== current && !replaced.has(connection)) return;
        received++;
        for (const handler of topics.get(topic)?.keys() ?? []) handler(payload);
      },
      subscribed(connection, topic, refusal) {
        if (connection !== current) return;
        if (refusal !== undefined && topics.has(topic)) {
          lastError = `the broker refuses the subscription to ${topic} (${refusal})`;
        }
        const asking = [...(topics.get(topic)?.values() ?? [])].filter((one) => one !== undefined);
        if (asking.length > 0) connection.ping(() => tell(asking, true));
      },
      closed(connection, error) {
        replaced.get(connection)?.cancel();
        replaced.delete(connection);
        if (connection === current) lost(error);
      },
    },
  );

  function enter(next: BrokerState): void {
    if (state === next) return;
    state = next;
    sinceMs = time.now();
    options.changed?.(link);
  }

  function tell(asking: Iterable<RetainedHandler | undefined>, isAnswered: boolean): void {
    for (const retained of asking) retained?.(isAnswered);
  }

  function tellAll(isAnswered: boolean): void {
    for (const asking of topics.values()) tell(asking.values(), isAnswered);
  }

  function isHurried(): boolean {
    return time.now() < hurriedUntilMs;
  }

  function hurry(): void {
    if (!isHurried()) hurriedTries = 0;
    hurriedUntilMs = time.now() + HURRY_MS;
  }

  function chance(): number {
    return (world.randomBytes(1)[0] as number) / 256;
  }

  function tryAfter(delayMs: number): void {
    retry?.cancel();
    retryAtMs = time.now() + delayMs;
    retry = time.after(delayMs, tryNow, { background: true });
  }

  /** One more connection, beside those that hang; while there is a hurry, the next one is set. */
  function tryNow(): void {
    retry?.cancel();
    retry = undefined;
    triedMs = time.now();
    if (isHurried()) tryAfter(hurriedDelay(++hurriedTries, chance()));
    trials.begin();
    enter("connecting");
  }

  /** Nothing is under way. */
  function wait(): void {
    if (!isHurried()) tryAfter(patientDelay(++failures, chance(), options.isCutOff?.() ?? false));
    else if (retry === undefined) tryAfter(hurriedDelay(++hurriedTries, chance()));
    enter("waiting");
  }

  /** CONNACK came. What is sent follows the subscriptions, so that an answer to it cannot be missed. */
  function opened(connection: BrokerConnection, rttMs: number): void {
    retry?.cancel();
    retry = undefined;
    if (current !== undefined) {
      const old = current;
      const end = (): void => old.abort(new P2pdError("closed", "another connection replaced it"));
      replaced.set(old, time.after(LINGER_MS, end, { background: true }));
    }
    current = connection;
    openedMs = time.now();
    knownIp = connection.path?.remoteIp;
    isDoubted = false;
    lastError = undefined;
    pulse.start(rttMs);
    enter("connecting");
    options.connected?.(link);
    for (const ready of waiting) {
      waiting.delete(ready);
      ready();
    }
  }

  function giveUp(error: P2pdError): void {
    const dead = current;
    lost(error);
    dead?.abort(error);
  }

  /** The connection that counted has ended. */
  function lost(error: P2pdError): void {
    const hasStood = time.now() - openedMs > STOOD_MS;
    const isCut = ["timeout", "unreachable"].includes(error.code) || error.detail["system"] !== undefined;
    current = undefined;
    isDoubted = false;
    pulse.stop();
    lastError = error.message;
    if (hasStood) failures = 0;
    tellAll(false);
    if (hasStood && isCut) {
      hurry();
      options.lost?.(link);
    }
    // Whoever heard of the loss may have had it tried already.
    if (isHurried() && time.now() - triedMs >= TRY_AGAIN_MS) tryNow();
    else if (trials.count === 0) wait();
    else enter("connecting");
  }

  function heard(): void {
    pulse.heard();
    if (!isDoubted) return;
    isDoubted = false;
    lastError = undefined;
    retry?.cancel();
    retry = undefined;
    trials.drop(new P2pdError("aborted", "the old connection is alive"));
    enter("connected");
  }

  /** Nobody waits for a frozen connection to be given up: another one is made beside it. */
  function doubt(why: string): void {
    if (isDoubted) return;
    isDoubted = true;
    lastError = why;
    hurry();
    tryNow();
  }

  const link: BrokerLink = {
    broker,
    name,
    get isConnected() {
      return current !== undefined;
    },
    publish(topic, payload, publishOptions) {
      if (current === undefined) return false;
      if (current.backlogBytes > BACKLOG_MAX) {
        giveUp(new P2pdError("timeout", `the broker is frozen: ${BACKLOG_MAX} octets wait to be sent`));
        return false;
      }
      current.publish(topic, payload, publishOptions);
      sent++;
      pulse.sent();
      return true;
    },
    whenConnected(ready) {
      if (current !== undefined) {
        ready();
        return () => undefined;
      }
      waiting.add(ready);
      return () => void waiting.delete(ready);
    },
    subscribe(topic, handler, retained) {
      const handlers = topics.get(topic) ?? new Map<TopicHandler, RetainedHandler | undefined>();
      topics.set(topic, handlers.set(handler, retained));
      if (state === "waiting") retained?.(false);
      // Also when it is subscribed already: the broker then sends what it retains once more.
      current?.subscribe(topic);
      return () => {
        handlers.delete(handler);
        if (handlers.size > 0 || topics.get(topic) !== handlers) return;
        topics.delete(topic);
        current?.unsubscribe(topic);
      };
    },
    suspect() {
      if (state === "closed") return;
      hurry();
      if (current !== undefined) pulse.ask(true);
      else if (time.now() - triedMs >= TRY_AGAIN_MS) tryNow();
      else if (retry === undefined) tryAfter(hurriedDelay(++hurriedTries, chance()));
    },
    distrust() {
      link.suspect();
      if (current !== undefined) doubt("the router's external address is another one");
    },
    check() {
      if (state === "closed") return;
      const localIp = current?.path?.localIp;
      const isHere = world
        .nics()
        .some(({ up, addresses }) => up && addresses.some(({ ip }) => ip === localIp));
      hurry();
      if (current !== undefined && isHere) return pulse.ask(true);
      if (current !== undefined)
        giveUp(new P2pdError("unreachable", `the address ${localIp} is gone from this machine`));
      tryNow();
    },
    wake() {
      const isIdle = state === "waiting" || (state === "connecting" && current === undefined && isHurried());
      if (isIdle && time.now() - triedMs >= TRY_AGAIN_MS) tryNow();
    },
    status() {
      const now = time.now();
      const { rttMs } = pulse;
      return {
        url: name,
        state,
        sinceMs: Math.round(now - sinceMs),
        ...(state === "connected" ? { mqtt: current?.version === 5 ? "5" : "3.1.1" } : {}),
        ...(lastError === undefined ? {} : { error: lastError }),
        ...(state === "waiting" ? { retryInMs: Math.max(0, Math.round(retryAtMs - now)) } : {}),
        ...(current === undefined ? {} : { rttMs: Math.round(rttMs * 10) / 10 }),
        received,
        sent,
      };
    },
    close() {
      if (state === "closed") return;
      const open = current;
      current = undefined;
      retry?.cancel();
      retry = undefined;
      pulse.stop();
      waiting.clear();
      enter("closed");
      const reason = new P2pdError("closed", "signaling was closed");
      trials.drop(reason);
      for (const [old, end] of replaced) {
        end.cancel();
        replaced.delete(old);
        old.abort(reason);
      }
      open?.end();
      // A broker that is frozen does not take even that.
      time.after(LINGER_MS, () => open?.abort(reason), { background: true });
    },
  };
  tryNow();
  return link;
}
