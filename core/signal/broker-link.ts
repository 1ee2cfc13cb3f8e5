/**
 * One broker, for as long as it is wanted: connects in the background, comes back after a loss with rising intervals
 * and jitter, falls back from MQTT 5 to 3.1.1, finds out when the broker has frozen, and says in words how it stands.
 * What is sent over it is left to `signaling.ts`.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import type { Timer, World } from "../net/world.ts";
import { connectBroker } from "./broker-stream.ts";
import { type Broker, formatBroker } from "./broker-url.ts";
import {
  loadMqtt,
  type MqttSession,
  type MqttVersion,
  openMqtt,
  type PublishOptions,
} from "./mqtt-session.ts";

/** From the first packet to CONNACK. */
export const CONNECT_TIMEOUT_MS = 8000;
const RETRY_FIRST_MS = 1000;
const RETRY_MAX_MS = 60_000;
/** A connection that stood so long was a good one: the intervals begin anew. */
const STOOD_MS = 10_000;
/** Also how long it may take until a node that hears nothing learns that its router has another address. */
const PING_EVERY_MS = 15_000;
const PING_TIMEOUT_MS = 5000;
/** Silent for longer than this, the broker is asked for a sign of life when something is sent. */
const SILENT_MS = 2000;
/** What the broker is told; four of our pings fit. */
const KEEPALIVE_SECONDS = 60;
/** More than this unsent, and the broker is taken for frozen. */
const BACKLOG_MAX = 256 * 1024;

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
  /** After each connection, before anything that waited is sent. */
  readonly connected?: (link: BrokerLink) => void;
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
  /** Asks the broker for a sign of life, and connects at once where it waited: after the network changed. */
  check(): void;
  status(): BrokerStatus;
  close(): void;
}

export function createBrokerLink(world: World, options: BrokerLinkOptions): BrokerLink {
  const { time } = world;
  const { broker } = options;
  const name = formatBroker(broker);
  const topics = new Map<string, Map<TopicHandler, RetainedHandler | undefined>>();
  const waiting = new Set<() => void>();
  let state: BrokerState = "connecting";
  let sinceMs = time.now();
  let version: MqttVersion = 5;
  let session: MqttSession | undefined;
  let isOpen = false;
  let attempt: AbortController | undefined;
  let failures = 0;
  let retry: Timer | undefined;
  let retryAtMs = 0;
  let pingTimer: Timer | undefined;
  let pingDeadline: Timer | undefined;
  let pingSentMs = 0;
  let heardMs = 0;
  let localIp = "";
  let lastError: string | undefined;
  let rttMs: number | undefined;
  let received = 0;
  let sent = 0;

  function enter(next: BrokerState): void {
    state = next;
    sinceMs = time.now();
    options.changed?.(link);
  }

  async function connect(): Promise<void> {
    retry?.cancel();
    retry = undefined;
    enter("connecting");
    const abort = new AbortController();
    attempt = abort;
    const timeoutMs = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
    const late = new P2pdError("timeout", `no answer within ${timeoutMs} ms`);
    const deadline = time.after(timeoutMs, () => abort.abort(late), { background: true });
    const aborted = new Promise<never>((_, reject) => {
      abort.signal.addEventListener("abort", () => reject(abort.signal.reason as Error), { once: true });
    });
    // It may lose the race below unheard.
    aborted.catch(() => undefined);
    try {
      const connecting = connectBroker(world, broker, { timeoutMs, signal: abort.signal });
      // One that comes too late is closed.
      connecting.then(
        (late) => abort.signal.aborted && late.abort(),
        () => undefined,
      );
      const stream = await Promise.race([connecting, aborted]);
      // Only now: a machine that reaches no broker does not pay for the package.
      const loaded = await loadMqtt();
      if (abort.signal.aborted) {
        stream.abort();
        throw abort.signal.reason;
      }
      const opened = openMqtt(
        loaded,
        stream,
        {
          version,
          clientId: `p2pd${Buffer.from(world.randomBytes(9)).toString("hex")}`,
          keepaliveSeconds: KEEPALIVE_SECONDS,
          ...(broker.username === undefined ? {} : { username: broker.username }),
          ...(broker.password === undefined ? {} : { password: broker.password }),
        },
        {
          connected() {
            if (session === opened) open(opened, deadline);
          },
          heard() {
            heardMs = time.now();
            if (pingDeadline === undefined) return;
            rttMs = heardMs - pingSentMs;
            pingDeadline.cancel();
            pingDeadline = undefined;
          },
          message(topic, payload) {
            received++;
            for (const handler of topics.get(topic)?.keys() ?? []) handler(payload);
          },
          subscribed(topic, refusal) {
            if (session !== opened) return;
            if (refusal !== undefined && topics.has(topic)) {
              lastError = `the broker refuses the subscription to ${topic} (${refusal})`;
            }
            const asking = [...(topics.get(topic)?.values() ?? [])].filter((one) => one !== undefined);
            if (asking.length > 0) opened.ping(() => tell(asking, true));
            if (state === "connecting") {
              deadline.cancel();
              enter("connected");
            }
          },
          closed(error, isRefusal) {
            deadline.cancel();
            abort.abort(error);
            if (session !== opened) return;
            session = undefined;
            failed(error, isRefusal);
          },
        },
      );
      session = opened;
      localIp = stream.local.ip;
      abort.signal.addEventListener("abort", () => opened.abort(toP2pdError(abort.signal.reason)), {
        once: true,
      });
    } catch (thrown) {
      deadline.cancel();
      if (attempt === abort) failed(toP2pdError(thrown, "unreachable"), false);
    }
  }

  /** CONNACK came. What is sent follows the subscriptions, so that an answer to it cannot be missed. */
  function open(opened: MqttSession, deadline: Timer): void {
    isOpen = true;
    lastError = undefined;
    for (const topic of topics.keys()) opened.subscribe(topic);
    if (topics.size === 0) {
      deadline.cancel();
      enter("connected");
    }
    schedulePing();
    options.connected?.(link);
    for (const ready of waiting) {
      waiting.delete(ready);
      ready();
    }
  }

  function failed(error: P2pdError, isRefusal: boolean): void {
    if (state === "closed") return;
    const stoodMs = state === "connected" ? time.now() - sinceMs : 0;
    isOpen = false;
    pingTimer?.cancel();
    pingDeadline?.cancel();
    pingDeadline = undefined;
    rttMs = undefined;
    lastError = error.message;
    if (isRefusal && version === 5) {
      version = 4;
      void connect();
      return;
    }
    if (isRefusal) version = 5;
    failures = stoodMs > STOOD_MS ? 1 : failures + 1;
    const ceiling = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** (failures - 1));
    const delayMs = ceiling * (0.5 + (world.randomBytes(1)[0] as number) / 512);
    retryAtMs = time.now() + delayMs;
    retry = time.after(delayMs, () => void connect(), { background: true });
    enter("waiting");
    for (const asking of topics.values()) tell(asking.values(), false);
  }

  function tell(asking: Iterable<RetainedHandler | undefined>, isAnswered: boolean): void {
    for (const retained of asking) retained?.(isAnswered);
  }

  function schedulePing(): void {
    pingTimer = time.after(
      PING_EVERY_MS,
      () => {
        ping();
        schedulePing();
      },
      { background: true },
    );
  }

  function ping(): void {
    if (pingDeadline !== undefined || !isOpen) return;
    pingSentMs = time.now();
    session?.ping();
    pingDeadline = time.after(PING_TIMEOUT_MS, frozen, { background: true });
  }

  function frozen(): void {
    pingDeadline = undefined;
    session?.abort(
      new P2pdError("timeout", `the broker is frozen: no answer to a ping within ${PING_TIMEOUT_MS} ms`),
    );
  }

  const link: BrokerLink = {
    broker,
    name,
    get isConnected() {
      return isOpen;
    },
    publish(topic, payload, publishOptions) {
      if (!isOpen || session === undefined) return false;
      if (session.backlogBytes > BACKLOG_MAX) {
        frozen();
        return false;
      }
      session.publish(topic, payload, publishOptions);
      sent++;
      if (time.now() - heardMs > SILENT_MS) ping();
      return true;
    },
    whenConnected(ready) {
      if (isOpen) {
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
      if (isOpen) session?.subscribe(topic);
      return () => {
        handlers.delete(handler);
        if (handlers.size > 0 || topics.get(topic) !== handlers) return;
        topics.delete(topic);
        if (isOpen) session?.unsubscribe(topic);
      };
    },
    check() {
      const isHere = world.nics().some(({ addresses }) => addresses.some(({ ip }) => ip === localIp));
      if (isOpen && !isHere)
        session?.abort(new P2pdError("unreachable", `the address ${localIp} is gone from this machine`));
      else if (isOpen) ping();
      else if (state === "waiting") {
        failures = 0;
        void connect();
      }
    },
    status() {
      const now = time.now();
      return {
        url: name,
        state,
        sinceMs: Math.round(now - sinceMs),
        ...(state === "connected" ? { mqtt: version === 5 ? "5" : "3.1.1" } : {}),
        ...(lastError === undefined ? {} : { error: lastError }),
        ...(state === "waiting" ? { retryInMs: Math.max(0, Math.round(retryAtMs - now)) } : {}),
        ...(rttMs === undefined ? {} : { rttMs: Math.round(rttMs * 10) / 10 }),
        received,
        sent,
      };
    },
    close() {
      if (state === "closed") return;
      const wasOpen = isOpen;
      isOpen = false;
      enter("closed");
      retry?.cancel();
      pingTimer?.cancel();
      pingDeadline?.cancel();
      waiting.clear();
      if (wasOpen) session?.end();
      else attempt?.abort(new P2pdError("closed", "signaling was closed"));
    },
  };
  void connect();
  return link;
}
