/**
 * One connection to a broker, from the first packet of the attempt to its end: TCP, TLS and WebSocket as the URL says,
 * CONNECT, the subscriptions. When one is tried, and which of several counts, is `broker-link.ts`'s part.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import type { World } from "../net/world.ts";
import { type BrokerStreamOptions, connectBroker } from "./broker-stream.ts";
import type { Broker } from "./broker-url.ts";
import { loadMqtt, type MqttSession, type MqttVersion, openMqtt } from "./mqtt-session.ts";

/** What the broker is told; four of our pings fit. */
const KEEPALIVE_SECONDS = 60;

export interface BrokerConnectionOptions extends Pick<BrokerStreamOptions, "timeoutMs" | "device" | "known"> {
  readonly broker: Broker;
  readonly version: MqttVersion;
  /** What is subscribed to as soon as the broker has let us in. */
  readonly topics: () => Iterable<string>;
}

export interface BrokerConnectionEvents {
  /** CONNACK came `rttMs` after CONNECT, and the subscriptions are on their way: what is sent now follows them. */
  opened(rttMs: number): void;
  /** The first subscription was answered, or there is none. */
  ready(): void;
  /** Any packet came. */
  heard(): void;
  message(topic: string, payload: Uint8Array): void;
  /** A subscription was granted, or refused with the reason in words. */
  subscribed(topic: string, refusal?: string): void;
  /** The last event, and always one. `isRefusal`: the broker answered CONNECT with no, or hung up on it. */
  closed(error: P2pdError, isRefusal: boolean): void;
}

export interface BrokerConnection
  extends Pick<MqttSession, "publish" | "subscribe" | "unsubscribe" | "ping"> {
  readonly version: MqttVersion;
  /** NIC that it was tied to; absent: the system chose. */
  readonly device?: string;
  /** Whether TCP to the broker stands, or did. */
  readonly isReached: boolean;
  /** Our address and the broker's; undefined until the stream to it stands. */
  readonly path: { readonly localIp: string; readonly remoteIp: string } | undefined;
  /** Octets that the system has not accepted yet. */
  readonly backlogBytes: number;
  /** Says goodbye and closes; before `opened` as `abort`. */
  end(): void;
  abort(reason: P2pdError): void;
}

/** Starts at once. The events begin in a later task. */
export function startBrokerConnection(
  world: World,
  options: BrokerConnectionOptions,
  events: BrokerConnectionEvents,
): BrokerConnection {
  const { broker, version, timeoutMs, device } = options;
  const abort = new AbortController();
  let session: MqttSession | undefined;
  let path: BrokerConnection["path"];
  let isReached = false;
  let isClosed = false;
  const late = new P2pdError("timeout", `no answer within ${timeoutMs} ms`);
  const deadline = world.time.after(timeoutMs, () => abort.abort(late), { background: true });
  const aborted = new Promise<never>((_, reject) => {
    abort.signal.addEventListener("abort", () => reject(abort.signal.reason as Error), { once: true });
  });
  // It may lose the race below unheard.
  aborted.catch(() => undefined);

  function closed(error: P2pdError, isRefusal: boolean): void {
    if (isClosed) return;
    isClosed = true;
    deadline.cancel();
    events.closed(error, isRefusal);
  }

  function ready(): void {
    deadline.cancel();
    events.ready();
  }

  async function connect(): Promise<void> {
    const reached = (): void => void (isReached = true);
    const connecting = connectBroker(world, broker, { ...options, signal: abort.signal, reached });
    // One that comes too late is closed.
    connecting.then(
      (stream) => abort.signal.aborted && stream.abort(),
      () => undefined,
    );
    const stream = await Promise.race([connecting, aborted]);
    path = { localIp: stream.local.ip, remoteIp: stream.remote.ip };
    // Only now: a machine that reaches no broker does not pay for the package.
    const loaded = await loadMqtt();
    if (abort.signal.aborted) {
      stream.abort();
      throw abort.signal.reason;
    }
    let isReady = false;
    const beganMs = world.time.now();
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
          const topics = [...options.topics()];
          for (const topic of topics) opened.subscribe(topic);
          events.opened(world.time.now() - beganMs);
          if (topics.length > 0) return;
          isReady = true;
          ready();
        },
        heard: () => events.heard(),
        message: (topic, payload) => events.message(topic, payload),
        subscribed(topic, refusal) {
          events.subscribed(topic, refusal);
          if (isReady) return;
          isReady = true;
          ready();
        },
        closed,
      },
    );
    session = opened;
    const giveUp = (): void => opened.abort(toP2pdError(abort.signal.reason));
    abort.signal.addEventListener("abort", giveUp, { once: true });
  }

  connect().catch((thrown: unknown) => closed(toP2pdError(thrown, "unreachable"), false));

  return {
    version,
    ...(device === undefined ? {} : { device }),
    get isReached() {
      return isReached;
    },
    get path() {
      return path;
    },
    publish: (topic, payload, publishOptions) => session?.publish(topic, payload, publishOptions),
    subscribe: (topic) => session?.subscribe(topic),
    unsubscribe: (topic) => session?.unsubscribe(topic),
    ping: (answered) => session?.ping(answered),
    get backlogBytes() {
      return session?.backlogBytes ?? 0;
    },
    end() {
      if (session === undefined) abort.abort(new P2pdError("closed", "signaling was closed"));
      else session.end();
    },
    abort: (reason) => abort.abort(reason),
  };
}
