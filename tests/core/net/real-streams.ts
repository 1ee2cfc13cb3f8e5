/**
 * Connected pairs on loopback, and what tests of real sockets ask of them. Whoever uses them calls
 * `closeStreams` after all tests.
 */
import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import type { P2pdError } from "../../../core/errors.ts";
import { createRealWorld } from "../../../core/net/real-world.ts";
import type { ByteStream, ConnectOptions, SecureStream, StreamHandlers } from "../../../core/net/world.ts";
import { createTestIdentity } from "./credentials.ts";

export const world = createRealWorld();
export const loopback = { ip: "127.0.0.1", port: 0 };
export const alice = createTestIdentity();
export const bob = createTestIdentity();
export const hasFdList = process.platform === "linux";
const opened: ByteStream[] = [];

/** Closes every stream that `keep` was given. */
export function closeStreams(): void {
  for (const stream of opened.splice(0)) stream.abort();
}

export const quiet: StreamHandlers = { data() {}, drain() {}, end() {}, close() {} };

export function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

export function keep<S extends ByteStream>(stream: S): S {
  opened.push(stream);
  return stream;
}

export function connect(some: Partial<ConnectOptions> & Pick<ConnectOptions, "remote">): Promise<ByteStream> {
  return world.connectTcp({ timeoutMs: 5000, ...some });
}

export async function pair(): Promise<[ByteStream, ByteStream]> {
  const { promise, resolve } = Promise.withResolvers<ByteStream>();
  const listener = await world.listenTcp({ local: loopback, accept: resolve });
  const near = await connect({ remote: listener.local, local: loopback });
  const far = await promise;
  listener.close();
  return [keep(near), keep(far)];
}

export function options(role: "client" | "server", { credentials }: typeof alice) {
  return { role, credentials, timeoutMs: 5000 };
}

export async function securePair(role: "client" | "server"): Promise<[SecureStream, SecureStream]> {
  const [a, b] = await pair();
  const streams = await Promise.all([
    world.secure(a, { ...options(role, alice), expectedKey: bob.key }),
    world.secure(b, { ...options(role === "client" ? "server" : "client", bob), expectedKey: alice.key }),
  ]);
  return [keep(streams[0]), keep(streams[1])];
}

export function collect(stream: ByteStream): {
  ended: Promise<string>;
  closed: Promise<P2pdError | undefined>;
} {
  const parts: Uint8Array[] = [];
  const ended = Promise.withResolvers<string>();
  const closed = Promise.withResolvers<P2pdError | undefined>();
  stream.attach({
    data: (bytes) => void parts.push(bytes),
    drain() {},
    end: () => ended.resolve(Buffer.concat(parts).toString()),
    close: closed.resolve,
  });
  return { ended: ended.promise, closed: closed.promise };
}

export async function collectSecure(stream: SecureStream): Promise<string | undefined> {
  return (await collect(stream).closed)?.code;
}

export async function codeOf(attempt: Promise<unknown>): Promise<string> {
  return attempt.then(
    () => "no error",
    (error: P2pdError) => error.code,
  );
}

/** How `secure` as a server ends against a client that is no node. */
export async function codeWhen(
  client: (port: number) => Promise<unknown>,
  timeoutMs = 5000,
): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<ByteStream>();
  const listener = await world.listenTcp({ local: loopback, accept: resolve });
  await client(listener.local.port);
  const secured = world.secure(await promise, { ...options("server", alice), timeoutMs });
  listener.close();
  return codeOf(secured);
}

export async function exchange(
  stream: ByteStream,
  mebibytes: number,
): Promise<{ sent: string; received: string }> {
  const received = createHash("sha256");
  const sent = createHash("sha256");
  const block = world.randomBytes(1 << 20);
  const allSent = Promise.withResolvers<void>();
  const allReceived = Promise.withResolvers<void>();
  let left = mebibytes;
  const send = (): void => {
    while (left > 0) {
      left--;
      sent.update(block);
      if (!stream.write(block)) return;
    }
    stream.end();
    allSent.resolve();
  };
  stream.attach({
    data: (bytes) => void received.update(bytes),
    drain: send,
    end: allReceived.resolve,
    close() {},
  });
  send();
  await Promise.all([allSent.promise, allReceived.promise]);
  return { sent: sent.digest("hex"), received: received.digest("hex") };
}

export async function unusedPort(): Promise<number> {
  const listener = await world.listenTcp({ local: loopback, accept: keep });
  listener.close();
  return listener.local.port;
}

export function countFds(): number {
  return readdirSync("/proc/self/fd").length;
}

/** Waits, for as long as a test may take, until the event loop has made `holds` true. */
export async function settled(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise<void>((resolve) => void setImmediate(resolve));
}
