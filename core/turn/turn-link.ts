/**
 * The way to a TURN server: UDP, TCP or TLS. Requests find their answers on it, indications and ChannelData go to
 * whoever holds it. What they say is left to `turn-allocation.ts`.
 */
import { P2pdError } from "../errors.ts";
import { type Endpoint, familyOf, formatEndpoint, sameEndpoint } from "../ip.ts";
import type { ByteStream, World } from "../net/world.ts";
import { createStunExchange, type StunRequest, type StunResponse } from "../stun/exchange.ts";
import { createStunFrameReader } from "../wire/stun-stream.ts";
import { decodeStun, type StunMessage } from "../wire/stun.ts";
import { decodeChannelData } from "../wire/turn.ts";

export type LinkTransport = "udp" | "tcp" | "tls";

export interface LinkHandlers {
  /** Data of a channel; the view is valid during the call only. */
  channelData(channel: number, data: Uint8Array): void;
  /** Valid during the call only. */
  indication(message: StunMessage): void;
  /** The last event. */
  closed(error: P2pdError): void;
}

export interface TurnLink {
  readonly transport: LinkTransport;
  readonly local: Endpoint;
  readonly server: Endpoint;
  /** As `StunTransport.request`, to the server. */
  request(request: Omit<StunRequest, "to">): Promise<StunResponse>;
  /** Sends a message; false if the way is full: it may be lost then. Over UDP `bytes` may be used again. */
  send(bytes: Uint8Array): boolean;
  attach(handlers: LinkHandlers): void;
  close(): void;
}

export interface LinkOptions {
  readonly transport: LinkTransport;
  readonly server: Endpoint;
  /** Name in the server's certificate. */
  readonly serverName: string;
  /** Certificates to trust in place of the system's authorities. */
  readonly authorities?: readonly string[];
  /** Address to leave from. */
  readonly localIp?: string;
  readonly device?: string;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

type LinkWorld = Pick<World, "time" | "randomBytes" | "openUdp" | "connectTcp" | "secureServer">;

/** Rejects as `World.openUdp`, `connectTcp` and `secureServer` do. */
export async function openTurnLink(world: LinkWorld, options: LinkOptions): Promise<TurnLink> {
  return options.transport === "udp"
    ? datagramLink(world, options)
    : streamLink(world, options, await connectToServer(world, options));
}

/** A connection to the server, with TLS where that is wanted. */
export async function connectToServer(world: LinkWorld, options: LinkOptions): Promise<ByteStream> {
  const { server, serverName, localIp, device, timeoutMs, signal, authorities } = options;
  const stream = await world.connectTcp({
    remote: server,
    timeoutMs,
    ...(localIp === undefined ? {} : { local: { ip: localIp, port: 0 } }),
    ...(device === undefined ? {} : { device }),
    ...(signal === undefined ? {} : { signal }),
  });
  if (options.transport !== "tls") return stream;
  if (world.secureServer === undefined) {
    stream.abort();
    throw new P2pdError("unsupported", "there is no TLS to servers here");
  }
  return world.secureServer(stream, {
    serverName,
    timeoutMs,
    ...(authorities === undefined ? {} : { authorities }),
    ...(signal === undefined ? {} : { signal }),
  });
}

async function datagramLink(world: LinkWorld, options: LinkOptions): Promise<TurnLink> {
  const { server, localIp, device } = options;
  const any = familyOf(server.ip) === 4 ? "0.0.0.0" : "::";
  const socket = await world.openUdp({
    local: { ip: localIp ?? any, port: 0 },
    receiveBufferBytes: RECEIVE_BUFFER,
    ...(device === undefined ? {} : { device }),
  });
  let handlers: LinkHandlers | undefined;
  const exchange = createStunExchange(world, false, (bytes, to) => void socket.send(bytes, to));
  socket.attach({
    message(bytes, from) {
      if (!sameEndpoint(from, server) || exchange.receive(bytes, from)) return;
      if (((bytes[0] ?? 0) & 0xc0) === 0x40) deliver(bytes, handlers);
      else indicate(bytes, handlers);
    },
  });
  return {
    transport: "udp",
    local: socket.local,
    server,
    request: (request) => exchange.request({ ...request, to: server }),
    send: (bytes) => socket.send(bytes, server),
    attach(next) {
      handlers = next;
    },
    close() {
      exchange.fail(new P2pdError("closed", `the way to ${formatEndpoint(server)} was closed`));
      socket.close();
    },
  };
}

function streamLink(world: LinkWorld, { server, transport }: LinkOptions, stream: ByteStream): TurnLink {
  let handlers: LinkHandlers | undefined;
  const exchange = createStunExchange(world, true, (bytes) => void stream.write(bytes));
  const reader = createStunFrameReader({
    stun(bytes) {
      if (!exchange.receive(bytes, server)) indicate(bytes, handlers);
    },
    channelData: (bytes) => deliver(bytes, handlers),
  });
  const ended = (error: P2pdError): void => {
    exchange.fail(error);
    handlers?.closed(error);
    handlers = undefined;
  };
  stream.attach({
    data(bytes) {
      const fault = reader.push(bytes);
      if (fault === undefined) return;
      stream.abort(
        new P2pdError("protocol", `${formatEndpoint(server)} sent what is no message of TURN (${fault})`),
      );
    },
    drain() {},
    end: () => stream.abort(new P2pdError("closed", `${formatEndpoint(server)} ended the connection`)),
    close: (error) =>
      ended(error ?? new P2pdError("closed", `the connection with ${formatEndpoint(server)} ended`)),
  });
  return {
    transport,
    local: stream.local,
    server,
    request: (request) => exchange.request({ ...request, to: server }),
    // What is relayed slows down by itself when it is lost, and not when it waits in a long queue.
    send: (bytes) => stream.pendingBytes < MAX_PENDING && stream.write(bytes),
    attach(next) {
      handlers = next;
    },
    close() {
      handlers = undefined;
      stream.end();
      exchange.fail(new P2pdError("closed", `the way to ${formatEndpoint(server)} was closed`));
      world.time.after(LINGER_MS, () => stream.abort(), { background: true });
    },
  };
}

/** What may come in one burst while this process is busy, of all peers. */
const RECEIVE_BUFFER = 2 * 1024 * 1024;
/** Octets that may wait for a slow connection with the server. */
const MAX_PENDING = 256 * 1024;
/** How long a server may take to end its half of a connection. */
const LINGER_MS = 1000;

function deliver(bytes: Uint8Array, handlers: LinkHandlers | undefined): void {
  const decoded = decodeChannelData(bytes);
  if (decoded !== undefined) handlers?.channelData(decoded.channel, decoded.data);
}

function indicate(bytes: Uint8Array, handlers: LinkHandlers | undefined): void {
  const message = decodeStun(bytes);
  if (typeof message !== "string" && message.class === "indication") handlers?.indication(message);
}
