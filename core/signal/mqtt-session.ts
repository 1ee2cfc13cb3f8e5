/**
 * One MQTT connection, from CONNECT to its end, by the package `mqtt` on a stream of ours. The package's own clockwork
 * is not used, so that time stays the World's: no reconnecting, no keepalive, and its one timer that cannot be switched
 * off, the wait for CONNACK, is set far beyond ours. Reconnecting is `broker-link.ts`'s part.
 */
import type { IClientOptions, MqttClient } from "mqtt";
import { P2pdError, toP2pdError } from "../errors.ts";
import type { ByteStream } from "../net/world.ts";
import { createPacketLimit } from "../wire/mqtt-packet-limit.ts";
import { byteDuplex } from "./byte-duplex.ts";

/** Longest packet that a broker may send us: the longest message, its topic and properties. */
export const PACKET_MAX_LENGTH = 8192;
const NEVER_MS = 2 ** 31 - 1;

export type MqttVersion = 4 | 5;

export interface MqttOptions {
  /** 4 is MQTT 3.1.1. */
  readonly version: MqttVersion;
  readonly clientId: string;
  readonly keepaliveSeconds: number;
  readonly username?: string;
  readonly password?: string;
}

export interface MqttEvents {
  /** CONNACK came; what is published from now on is sent. */
  connected(): void;
  message(topic: string, payload: Uint8Array): void;
  /** Any packet came. */
  heard(): void;
  /** The broker granted a subscription or refused it, with the reason in words. */
  subscribed(topic: string, refusal?: string): void;
  /** The last event. `isRefusal`: the broker answered CONNECT with no, or hung up on it. */
  closed(error: P2pdError, isRefusal: boolean): void;
}

export interface PublishOptions {
  readonly retain?: boolean;
  readonly expirySeconds?: number;
}

export interface MqttSession {
  publish(topic: string, payload: Uint8Array, options?: PublishOptions): void;
  subscribe(topic: string): void;
  unsubscribe(topic: string): void;
  /** Asks for a sign of life; `answered` is called when the broker has answered this very ping. */
  ping(answered?: () => void): void;
  /** Octets that the system has not accepted yet. */
  readonly backlogBytes: number;
  /** Says goodbye and closes. */
  end(): void;
  abort(reason: P2pdError): void;
}

type Loaded = {
  readonly Client: new (builder: () => unknown, options: IClientOptions) => MqttClient;
  readonly MessageIds: new () => NonNullable<IClientOptions["messageIdProvider"]>;
};
let loading: Promise<Loaded> | undefined;

/** Loads the package; takes some ten milliseconds once. */
export function loadMqtt(): Promise<Loaded> {
  loading ??= (async () => {
    const [client, ids] = await Promise.all([
      import("mqtt/lib/client"),
      import("mqtt/lib/unique-message-id-provider"),
    ]);
    return { Client: exported(client), MessageIds: exported(ids) } as Loaded;
  })();
  return loading;
}

/** The default export of a CommonJS module: bundled into the executable, `default` is all of its exports. */
function exported(module: { readonly default: unknown }): unknown {
  const all = module.default as { readonly default?: unknown };
  return typeof all === "function" ? all : all.default;
}

/** Speaks MQTT on `stream` at once. The events begin in a later task. */
export function openMqtt(
  { Client, MessageIds }: Loaded,
  stream: ByteStream,
  options: MqttOptions,
  events: MqttEvents,
): MqttSession {
  const { version, clientId, keepaliveSeconds, username, password } = options;
  const duplex = byteDuplex(stream, createPacketLimit(PACKET_MAX_LENGTH));
  const client = new Client(() => duplex, {
    manualConnect: true,
    reconnectPeriod: 0,
    connectTimeout: NEVER_MS,
    keepalive: keepaliveSeconds,
    resubscribe: false,
    queueQoSZero: false,
    clean: true,
    clientId,
    protocolVersion: version,
    messageIdProvider: new MessageIds(),
    log: () => undefined,
    ...(version === 5 ? { properties: { maximumPacketSize: PACKET_MAX_LENGTH } } : {}),
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
  });
  /** Whom each ping that was not answered yet concerns: answers come in the order of the pings. */
  const pings: ((() => void) | undefined)[] = [];
  let isConnected = false;
  let isClosed = false;
  let failure: P2pdError | undefined;

  client.on("connect", () => {
    isConnected = true;
    events.connected();
  });
  client.on("packetreceive", ({ cmd }) => {
    events.heard();
    if (cmd === "pingresp") pings.shift()?.();
  });
  client.on("message", (topic, payload) => events.message(topic, payload));
  client.on("error", (error) => {
    failure ??= isRefusal(error)
      ? new P2pdError("refused", `the broker refused: ${error.message}`, {}, { cause: error })
      : toP2pdError(error, "protocol", "MQTT");
    duplex.destroy(failure);
  });
  duplex.on("error", (error) => (failure ??= toP2pdError(error, "closed")));
  client.on("close", () => {
    if (isClosed) return;
    isClosed = true;
    const error = failure ?? new P2pdError("closed", "the broker closed the connection");
    events.closed(error, !isConnected && (error.code === "refused" || error.code === "closed"));
  });
  client.connect();
  // CONNECT has told the broker; its answer must not start the package's own clock.
  client.options.keepalive = 0;

  return {
    publish(topic, payload, { retain = false, expirySeconds } = {}) {
      const properties = version === 5 && expirySeconds !== undefined;
      client.publish(
        topic,
        Buffer.from(payload.buffer, payload.byteOffset, payload.length),
        {
          qos: 0,
          retain,
          ...(properties ? { properties: { messageExpiryInterval: expirySeconds } } : {}),
        },
        // A failed write ends the connection, and that is told.
        () => undefined,
      );
    },
    subscribe(topic) {
      client.subscribe(topic, { qos: 0 }, (error, granted) => {
        if (isClosed) return;
        const refused = error !== null || (granted?.[0]?.qos ?? 0) >= 128;
        events.subscribed(topic, refused ? (error?.message ?? "not allowed") : undefined);
      });
    },
    unsubscribe: (topic) => void client.unsubscribe(topic, () => undefined),
    ping(answered) {
      pings.push(answered);
      client.sendPing();
    },
    get backlogBytes() {
      return duplex.writableLength + stream.pendingBytes;
    },
    end() {
      duplex.end(Buffer.of(0xe0, 0), () => duplex.destroy());
    },
    abort(reason) {
      failure ??= reason;
      duplex.destroy(reason);
    },
  };
}

function isRefusal(error: Error): boolean {
  return error.message.startsWith("Connection refused");
}
