/**
 * An MQTT broker (3.1.1, package aedes) for the signals between nodes, over TCP and WebSocket, within bounds: clients,
 * packet length, topics, rate, what is retained, what waits for a slow reader. Every session is clean and every
 * subscription names its topic in full: nobody listens in on what he does not know.
 */
import type { Aedes, Client, Subscription } from "aedes";
import { P2pdError, toP2pdError } from "../errors.ts";
import type { Endpoint } from "../ip.ts";
import type { Log } from "../log.ts";
import type { ByteStream, World } from "../net/world.ts";
import { byteDuplex } from "../signal/byte-duplex.ts";
import { createTokenBucket, type TokenBucket } from "../signal/token-bucket.ts";
import { createPacketLimit } from "../wire/mqtt-packet-limit.ts";
import { acceptWebSocket } from "./accept-web-socket.ts";
import { createAdmission, networkOf } from "./admission.ts";
import { createRetainedMessages, type RetainedBounds } from "./retained-messages.ts";

export interface BrokerBounds {
  readonly clients: number;
  /** Octets of one packet behind its fixed header. */
  readonly packetOctets: number;
  readonly subscriptionsPerClient: number;
  readonly topicOctets: number;
  readonly publishesPerSecond: number;
  /** Octets that may wait to be read by one client. */
  readonly backlogOctets: number;
  readonly retained: RetainedBounds;
}

export const BROKER_BOUNDS: BrokerBounds = {
  clients: 4096,
  packetOctets: 65_536,
  subscriptionsPerClient: 256,
  topicOctets: 256,
  publishesPerSecond: 100,
  backlogOctets: 1024 * 1024,
  retained: { messages: 65_536, octets: 64 * 1024 * 1024, share: 1 / 4 },
};

/** A client that says nothing for one and a half times as long is gone. */
const KEEPALIVE_MAX_SECONDS = 600;

export interface BrokerOptions {
  readonly tcp: readonly Endpoint[];
  readonly webSocket: readonly Endpoint[];
  readonly bounds?: BrokerBounds;
  readonly log: Log;
}

export interface BrokerCounts {
  published: number;
  delivered: number;
  /** Connections that were turned away, as there were too many, or ended for breaking a bound. */
  refused: number;
}

export interface InfraBroker {
  readonly listening: { readonly tcp: readonly Endpoint[]; readonly webSocket: readonly Endpoint[] };
  readonly clients: number;
  readonly counts: BrokerCounts;
  readonly retained: { readonly count: number; readonly octets: number; readonly dropped: number };
  close(): Promise<void>;
}

/** Rejects with `address-in-use` or `unreachable`; nothing is left open then. */
export async function openBroker(world: World, options: BrokerOptions): Promise<InfraBroker> {
  const { log, bounds = BROKER_BOUNDS } = options;
  const { time } = world;
  const { Aedes: AedesClass } = await import("aedes");
  const { Readable } = await import("node:stream");
  const counts: BrokerCounts = { published: 0, delivered: 0, refused: 0 };
  const streams = new Set<ByteStream>();
  const admission = createAdmission(bounds.clients);
  const rates = new WeakMap<Client, TokenBucket>();
  const networks = new WeakMap<object, string>();
  /** From which network a payload came: of a packet nothing else gets as far as the store. */
  const origins = new WeakMap<object, string>();
  const retained = createRetainedMessages<{ topic: string; payload: Uint8Array }>(bounds.retained);

  const broken = (client: Client, why: string): P2pdError => {
    counts.refused++;
    log.warn("MQTT client ended", { client: client.id, why });
    return new P2pdError("refused", why);
  };

  const aedes: Aedes = await AedesClass.createBroker({
    concurrency: 10_000,
    drainTimeout: 10_000,
    connectTimeout: 10_000,
    maxTopicLevels: 16,
    preConnect(_, packet, done) {
      // Sessions that outlive their connection would have to be kept for whoever comes back, or does not.
      packet.clean = true;
      // Without one a connection whose client has vanished would keep its place for ever.
      if (!packet.keepalive || packet.keepalive > KEEPALIVE_MAX_SECONDS) {
        packet.keepalive = KEEPALIVE_MAX_SECONDS;
      }
      done(null, true);
    },
    authenticate(client, _user, _password, done) {
      if (Buffer.byteLength(client.id) > 128) {
        const error = Object.assign(broken(client, "the client id is longer than 128 octets"), {
          returnCode: 2,
        });
        return done(error, false);
      }
      done(null, true);
    },
    authorizePublish(client, packet, done) {
      if (client === null) return done(null);
      const bucket =
        rates.get(client) ??
        createTokenBucket(bounds.publishesPerSecond, 10 * bounds.publishesPerSecond, time.now());
      rates.set(client, bucket);
      if (packet.topic.startsWith("$")) return done(broken(client, "topics with $ are the broker's own"));
      if (Buffer.byteLength(packet.topic) > bounds.topicOctets) {
        return done(broken(client, `a topic is longer than ${bounds.topicOctets} octets`));
      }
      if (!bucket.take(time.now())) {
        return done(broken(client, `more than ${bounds.publishesPerSecond} messages per second`));
      }
      counts.published++;
      if (packet.retain && packet.payload instanceof Uint8Array) {
        origins.set(packet.payload, networks.get(client.conn) ?? "");
      }
      done(null);
    },
    authorizeSubscribe(client, subscription, done) {
      done(null, mayHave(client, subscription) ? subscription : null);
    },
    authorizeForward(_, packet) {
      counts.delivered++;
      return packet;
    },
  });
  function mayHave(client: Client, { topic }: Subscription): boolean {
    const held = Object.keys((client as unknown as { subscriptions: object }).subscriptions).length;
    const isExact = !/[+#]/.test(topic) && !topic.startsWith("$");
    return isExact && Buffer.byteLength(topic) <= bounds.topicOctets && held < bounds.subscriptionsPerClient;
  }
  // Its own store has no bounds and searches all it has for every subscription.
  Object.assign((aedes as unknown as { persistence: object }).persistence, {
    async storeRetained(packet: { topic: string; payload: Uint8Array }) {
      retained.store(packet, origins.get(packet.payload) ?? "");
    },
    createRetainedStreamCombi(topics: readonly string[]) {
      return Readable.from(topics.flatMap((topic) => retained.get(topic) ?? []));
    },
  });
  for (const event of ["clientError", "connectionError"] as const) {
    aedes.on(event, (client, error) =>
      log.debug("MQTT connection ended", { client: client.id, why: error.message }),
    );
  }

  const leave = (stream: ByteStream) => (): void => {
    streams.delete(stream);
    admission.leave(stream.remote.ip);
  };

  function serve(stream: ByteStream): void {
    const duplex = byteDuplex(
      bounded(stream, bounds.backlogOctets),
      createPacketLimit(bounds.packetOctets),
      "client",
    );
    networks.set(duplex, networkOf(stream.remote.ip));
    aedes.handle(duplex);
  }

  /** Counts the connection from its first octet to its last. */
  function admit(stream: ByteStream): boolean {
    if (!admission.admit(stream.remote.ip)) {
      counts.refused++;
      stream.abort();
      return false;
    }
    streams.add(stream);
    return true;
  }

  const listening = { tcp: [] as Endpoint[], webSocket: [] as Endpoint[] };
  const closers: (() => void)[] = [];
  try {
    for (const local of options.tcp) {
      const listener = await world.listenTcp({
        local,
        accept(stream) {
          if (admit(stream)) serve(counted(stream, leave(stream)));
        },
      });
      closers.push(() => listener.close());
      listening.tcp.push(listener.local);
    }
    for (const local of options.webSocket) {
      const listener = await world.listenTcp({
        local,
        accept(stream) {
          if (!admit(stream)) return;
          acceptWebSocket(time, counted(stream, leave(stream))).then(serve, (thrown: unknown) => {
            log.debug("no WebSocket", { why: toP2pdError(thrown).message });
          });
        },
      });
      closers.push(() => listener.close());
      listening.webSocket.push(listener.local);
    }
  } catch (thrown) {
    for (const close of closers) close();
    await new Promise<void>((resolve) => aedes.close(resolve));
    throw thrown;
  }

  return {
    listening,
    get clients() {
      return aedes.connectedClients;
    },
    counts,
    retained,
    async close() {
      for (const close of closers) close();
      await new Promise<void>((resolve) => aedes.close(resolve));
      for (const stream of streams) stream.abort();
    },
  };
}

/** The stream, with a word to its keeper when it has closed. */
function counted(stream: ByteStream, closed: () => void): ByteStream {
  return Object.create(stream, {
    attach: {
      value: (handlers: Parameters<ByteStream["attach"]>[0]) =>
        stream.attach({
          data: (bytes) => handlers.data(bytes),
          drain: () => handlers.drain(),
          end: () => handlers.end(),
          close(error) {
            closed();
            handlers.close(error);
          },
        }),
    },
  }) as ByteStream;
}

/**
 * A stream that never asks its writer to wait: one slow reader would hold up all the others. Who falls too far behind is
 * cut off.
 */
function bounded(stream: ByteStream, backlogOctets: number): ByteStream {
  return Object.create(stream, {
    write: {
      value(bytes: Uint8Array) {
        stream.write(bytes);
        if (stream.pendingBytes > backlogOctets) {
          stream.abort(new P2pdError("closed", "the client does not read what it subscribed to"));
        }
        return true;
      },
    },
  }) as ByteStream;
}
