/**
 * A model of QUIC for the simulation, over its UDP: a handshake of one round trip, a path of one stream and
 * datagrams, both keys proved, errors with the codes of the real one. The stream is the simulated TCP's machine
 * without its handshake, its segments sealed in datagrams.
 */
import { P2pdError } from "../../core/errors.ts";
import { type Endpoint, familyOf, formatEndpoint } from "../../core/ip.ts";
import type {
  QuicConnectOptions,
  QuicEndpoint,
  QuicOptions,
  QuicPath,
  Timer,
  UdpSocket,
  World,
} from "../../core/net/world.ts";
import type { HostStack } from "./host-stack.ts";
import { createQuicPath } from "./quic-path.ts";
import {
  compressedKey,
  isProof,
  KEY_LENGTH,
  keyText,
  NONCE_LENGTH,
  PROOF_LENGTH,
  proveKey,
} from "./secure-keys.ts";

const HELLO = 1;
const ANSWER = 2;
const PROOF = 3;
const CLOSE = 4;
/** Kind and connection id. */
const HEAD = 9;
/** Initial packets are padded to it (RFC 9000 section 14.1). */
const PADDED = 1200;
/** Thrice the initial round trip time of RFC 9002 section 6.2.2. */
const FIRST_PTO_MS = 999;
const STRANGER_MS = 10_000;
const IDLE_MS = 30_000;

interface Session {
  remote: Endpoint;
  receive: (kind: number, body: Uint8Array) => void;
  /** An ICMP error about one of its packets. */
  unreachable: (error: P2pdError) => void;
  end: (error: P2pdError) => void;
}

/** See `World.openQuic`. */
export async function openQuic(
  host: HostStack,
  world: Pick<World, "time" | "openUdp" | "randomBytes">,
  options: QuicOptions,
): Promise<QuicEndpoint> {
  const { credentials, accept } = options;
  const { time } = world;
  const ownKey = compressedKey(credentials.privateKeyPem);
  const sessions = new Map<string, Session>();
  const counters = { accepted: 0, strangers: 0, turnedAway: 0, failed: 0 };
  const { local, device } = options;
  const first = await world.openUdp({ local, ...(device === undefined ? {} : { device }) });
  const sockets = [first];
  if (options.local.ip === "::") {
    sockets.push(await world.openUdp({ local: { ip: "0.0.0.0", port: first.local.port } }));
  }
  let closed = false;

  for (const socket of sockets) {
    socket.attach({
      message(bytes, from) {
        if (bytes.length < HEAD) return;
        const id = bytes.slice(1, HEAD);
        const key = id.toHex();
        if (bytes[0] === HELLO && accept !== undefined && !sessions.has(key)) meet(socket, id, from);
        const session = sessions.get(key);
        if (session === undefined) return;
        session.remote = from; // a peer's address may change (RFC 9000 section 9)
        session.receive(bytes[0] as number, bytes.slice(HEAD));
      },
      error(error) {
        const remote = error.detail["remote"] as Endpoint;
        for (const session of sessions.values()) {
          if (session.remote.ip === remote.ip && session.remote.port === remote.port)
            session.unreachable(error);
        }
      },
    });
  }

  function say(
    socket: UdpSocket,
    id: Uint8Array,
    to: Endpoint,
    kind: number,
    ...parts: readonly Uint8Array[]
  ): void {
    const size = parts.reduce((sum, { length }) => sum + length, HEAD);
    const packet = new Uint8Array(kind === HELLO || kind === ANSWER ? PADDED : size);
    packet[0] = kind;
    packet.set(id, 1);
    let at = HEAD;
    for (const part of parts) {
      packet.set(part, at);
      at += part.length;
    }
    socket.send(packet, to);
  }

  function localFor(socket: UdpSocket, remote: Endpoint): Endpoint {
    const isAny = socket.local.ip === "::" || socket.local.ip === "0.0.0.0";
    const ip = isAny ? (host.sourceFor(remote.ip, undefined) ?? socket.local.ip) : socket.local.ip;
    return { ip, port: socket.local.port };
  }

  /** The path of a session whose handshake is over; from now on the path gets its packets. */
  function stand(
    socket: UdpSocket,
    id: Uint8Array,
    session: Session,
    keys: { readonly peerKey: Uint8Array; readonly nonces: readonly [Uint8Array, Uint8Array] },
    isClient: boolean,
    handshakeMs: number,
    keepAliveMs = options.keepAliveMs,
  ): QuicPath {
    const { path, receive, end } = createQuicPath({
      scheduler: host.scheduler,
      local: localFor(socket, session.remote),
      remote: session.remote,
      isClient,
      handshakeMs,
      idleMs: options.idleTimeoutMs ?? IDLE_MS,
      keepAliveMs: keepAliveMs ?? (options.idleTimeoutMs ?? IDLE_MS) / 3,
      ...keys,
      send: (kind, body) => say(socket, id, session.remote, kind, body),
      gone: () => void sessions.delete(id.toHex()),
    });
    Object.assign(session, { receive, end, unreachable: () => undefined });
    return path;
  }

  /** A caller. It is a stranger until it has proved its key. */
  function meet(socket: UdpSocket, id: Uint8Array, from: Endpoint): void {
    const serverNonce = world.randomBytes(NONCE_LENGTH);
    const began = time.now();
    let clientNonce = new Uint8Array(0);
    counters.strangers++;
    const leave = (how: "accepted" | "failed"): void => {
      timer.cancel();
      counters.strangers--;
      counters[how]++;
    };
    const fail = (): void => {
      if (!sessions.delete(id.toHex())) return;
      leave("failed");
      say(socket, id, session.remote, CLOSE);
    };
    const timer = time.after(options.strangerTimeoutMs ?? STRANGER_MS, fail);
    const session: Session = {
      remote: from,
      unreachable: fail,
      end: fail,
      receive(kind, body) {
        if (kind === HELLO) {
          clientNonce = body.slice(0, NONCE_LENGTH);
          const proof = proveKey(credentials.privateKeyPem, "server", clientNonce, serverNonce);
          return say(socket, id, session.remote, ANSWER, serverNonce, ownKey, proof);
        }
        if (kind === CLOSE) return fail();
        if (kind !== PROOF) return;
        const peerKey = body.slice(0, KEY_LENGTH);
        const nonces = [clientNonce, serverNonce] as const;
        if (!isProof(body.slice(KEY_LENGTH, KEY_LENGTH + PROOF_LENGTH), peerKey, "client", ...nonces))
          return fail();
        leave("accepted");
        accept?.(stand(socket, id, session, { peerKey, nonces }, false, time.now() - began));
      },
    };
    sessions.set(id.toHex(), session);
  }

  function connect(to: QuicConnectOptions): Promise<QuicPath> {
    const { remote, expectedKey, timeoutMs, keepAliveMs, signal } = to;
    const what = `QUIC to ${formatEndpoint(remote)}`;
    const socket = sockets.find(({ local }) => familyOf(local.ip) === familyOf(remote.ip));
    const { promise, resolve, reject } = Promise.withResolvers<QuicPath>();
    const refusal = whyNot();
    if (refusal !== undefined || socket === undefined) {
      reject(refusal ?? new P2pdError("bad-argument", `${what}: both addresses must be of one family`));
      return promise;
    }
    const id = world.randomBytes(HEAD - 1);
    const clientNonce = world.randomBytes(NONCE_LENGTH);
    const began = time.now();
    let ptoMs = FIRST_PTO_MS;
    let again: Timer | undefined;

    function whyNot(): P2pdError | undefined {
      if (closed) return new P2pdError("closed", `${what}: the endpoint was closed`);
      if (remote.port === 0) return new P2pdError("bad-argument", `${what}: port 0 cannot be connected to`);
      return signal?.aborted === true
        ? new P2pdError("aborted", `${what}: aborted before it began`)
        : undefined;
    }
    function settle(): void {
      again?.cancel();
      timer.cancel();
      signal?.removeEventListener("abort", aborted);
    }
    function fail(error: P2pdError): void {
      if (!sessions.delete(id.toHex())) return;
      settle();
      reject(error);
    }
    const aborted = (): void => fail(new P2pdError("aborted", `${what}: aborted`));
    const timer = time.after(timeoutMs, () =>
      fail(new P2pdError("timeout", `${what}: no handshake within ${timeoutMs} ms`)),
    );
    signal?.addEventListener("abort", aborted, { once: true });

    const session: Session = {
      remote,
      end: fail,
      unreachable: ({ code, message }) => fail(new P2pdError(code, `${what}: ${message}`)),
      receive(kind, body) {
        if (kind === CLOSE)
          return fail(new P2pdError("closed", `${what}: the peer closed during the handshake`));
        if (kind !== ANSWER) return;
        const serverNonce = body.slice(0, NONCE_LENGTH);
        const peerKey = body.slice(NONCE_LENGTH, NONCE_LENGTH + KEY_LENGTH);
        const shown = body.slice(NONCE_LENGTH + KEY_LENGTH, NONCE_LENGTH + KEY_LENGTH + PROOF_LENGTH);
        const nonces = [clientNonce, serverNonce] as const;
        const [expected, got] = [keyText(expectedKey), keyText(peerKey)];
        if (!isProof(shown, peerKey, "server", ...nonces) || expected !== got) {
          say(socket, id, session.remote, CLOSE);
          const text = `${what}: expected the key ${expected}, the peer proved ${got}`;
          return fail(new P2pdError("peer-key", text, { expected, got }));
        }
        settle();
        const keys = { peerKey, nonces } as const;
        const path = stand(socket, id, session, keys, true, time.now() - began, keepAliveMs);
        prove(proveKey(credentials.privateKeyPem, "client", ...nonces), path);
        resolve(path);
      },
    };
    sessions.set(id.toHex(), session);
    hello();
    return promise;

    function hello(): void {
      say(socket as UdpSocket, id, session.remote, HELLO, clientNonce);
      again = time.after(ptoMs, hello);
      ptoMs *= 2;
    }
    /** Sends the proof, again and again until the server is heard to know it. */
    function prove(proof: Uint8Array, path: QuicPath): void {
      let waitMs = Math.max(50, 3 * path.rttMs());
      const { receive } = session;
      const repeat = (): void => {
        if (!sessions.has(id.toHex())) return;
        say(socket as UdpSocket, id, session.remote, PROOF, ownKey, proof);
        again = time.after(waitMs, repeat);
        waitMs *= 2;
      };
      session.receive = (kind, body) => {
        if (kind === HELLO || kind === ANSWER) return;
        again?.cancel();
        session.receive = receive;
        receive(kind, body);
      };
      repeat();
    }
  }

  return {
    local: first.local,
    counters,
    connect,
    async close() {
      if (closed) return;
      closed = true;
      const error = new P2pdError("closed", `QUIC on ${formatEndpoint(first.local)} was closed`);
      for (const session of sessions.values()) session.end(error);
      for (const socket of sockets) socket.close();
    },
  };
}
