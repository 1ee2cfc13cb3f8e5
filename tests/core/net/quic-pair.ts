/** QUIC endpoints and paths on loopback. Whoever uses them calls `closeEndpoints` after all tests. */
import type { QuicSession, QuicStream } from "node:quic";
import { openQuic } from "../../../core/net/quic.ts";
import { clientOptions, loadQuic, sessionOptions, socketAddressFor } from "../../../core/net/quic-runtime.ts";
import type { Endpoint } from "../../../core/ip.ts";
import type { QuicEndpoint, QuicOptions, QuicPath } from "../../../core/net/world.ts";
import { alice, bob, loopback, world } from "./real-streams.ts";

const opened: QuicEndpoint[] = [];

export async function closeEndpoints(): Promise<void> {
  await Promise.all(opened.splice(0).map((endpoint) => endpoint.close()));
}

export async function endpoint(options: Partial<QuicOptions> = {}): Promise<QuicEndpoint> {
  const made = await openQuic({ local: loopback, credentials: alice.credentials, ...options });
  opened.push(made);
  return made;
}

/** Bob listens, and `next` is who comes next. */
export async function listener(options: Partial<QuicOptions> = {}): Promise<{
  readonly endpoint: QuicEndpoint;
  readonly next: () => Promise<QuicPath>;
  readonly accepted: readonly QuicPath[];
}> {
  const accepted: QuicPath[] = [];
  const waiting: ((path: QuicPath) => void)[] = [];
  const made = await endpoint({
    credentials: bob.credentials,
    accept(path) {
      accepted.push(path);
      waiting.shift()?.(path);
    },
    ...options,
  });
  return {
    endpoint: made,
    accepted,
    next: () => new Promise((resolve) => void waiting.push(resolve)),
  };
}

export async function quicPair(options: Partial<QuicOptions> = {}): Promise<[near: QuicPath, far: QuicPath]> {
  const bobs = await listener(options);
  const arrival = bobs.next();
  const alices = await endpoint(options);
  const near = await dial(alices, bobs.endpoint.local);
  return [near, await arrival];
}

export function dial(from: QuicEndpoint, remote: Endpoint, expectedKey = bob.key): Promise<QuicPath> {
  return from.connect({ remote, expectedKey, timeoutMs: 5000 });
}

/** A caller that is no node: it may send what it likes. */
export async function rawCaller(remote: Endpoint): Promise<{
  readonly session: QuicSession;
  readonly stream: QuicStream;
  readonly secret: () => string;
  /** The application code with which the listener closed. */
  readonly closedWith: Promise<number>;
}> {
  let secret = "";
  const quic = loadQuic();
  const session = await quic.connect(socketAddressFor(remote), {
    ...clientOptions(),
    ...sessionOptions(0, {}),
    endpoint: new quic.QuicEndpoint({ address: socketAddressFor(loopback) }),
    onkeylog(line) {
      if (line.startsWith("EXPORTER_SECRET")) secret = line.trim().split(" ")[2] ?? "";
    },
  });
  const closedWith = session.closed.then(
    () => 0,
    (error: { errorCode: bigint }) => Number(error.errorCode),
  );
  await session.opened;
  const stream = await session.createBidirectionalStream();
  stream.closed.catch(() => undefined);
  return { session, stream, secret: () => secret, closedWith };
}

/** Carries datagrams between a caller and `target` until it is cut. */
export async function relay(target: Endpoint): Promise<{
  readonly local: Endpoint;
  /** Datagrams so far. */
  carried(): number;
  cut(): void;
}> {
  let caller: Endpoint | undefined;
  let carried = 0;
  const front = await world.openUdp({ local: loopback });
  const back = await world.openUdp({ local: loopback });
  front.attach({
    message(bytes, from) {
      caller = from;
      carried++;
      back.send(bytes, target);
    },
  });
  back.attach({
    message(bytes) {
      carried++;
      if (caller !== undefined) front.send(bytes, caller);
    },
  });
  return {
    local: front.local,
    carried: () => carried,
    cut() {
      front.close();
      back.close();
    },
  };
}
