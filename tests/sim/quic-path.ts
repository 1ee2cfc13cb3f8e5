/**
 * One path of the simulated QUIC after its handshake: the stream by the simulated TCP's machine, datagrams beside
 * it, signs of life, and the end when the peer shows none.
 */
import { P2pdError } from "../../core/errors.ts";
import { type Endpoint, formatEndpoint } from "../../core/ip.ts";
import type { QuicPath, Timer } from "../../core/net/world.ts";
import type { TcpHeader } from "./packet.ts";
import type { Scheduler } from "./scheduler.ts";
import { createPacketSealer } from "./secure-sealer.ts";
import { createTcpConnection } from "./tcp-connection.ts";

export interface QuicPathOptions {
  readonly scheduler: Scheduler;
  readonly local: Endpoint;
  readonly remote: Endpoint;
  readonly isClient: boolean;
  readonly peerKey: Uint8Array;
  readonly nonces: readonly [client: Uint8Array, server: Uint8Array];
  readonly handshakeMs: number;
  readonly idleMs: number;
  readonly keepAliveMs: number;
  readonly send: (kind: number, body: Uint8Array) => void;
  readonly gone: () => void;
}

export interface QuicPathEnd {
  readonly path: QuicPath;
  readonly receive: (kind: number, body: Uint8Array) => void;
  readonly end: (error: P2pdError) => void;
}

const SEGMENT = 5;
const DATAGRAM = 6;
const LARGEST_DATAGRAM = 1200;
const HELD_DATAGRAMS = 32;
const MOST_SELECTIVE = 16;
const SEGMENT_HEAD = 26;

export function createQuicPath(options: QuicPathOptions): QuicPathEnd {
  const { scheduler, local, remote, peerKey, idleMs, keepAliveMs } = options;
  const sealer = createPacketSealer(...options.nonces, options.isClient);
  const held: Uint8Array[] = [];
  let heard: ((bytes: Uint8Array) => void) | undefined;
  let isOver = false;
  let idle: Timer | undefined;
  let alive: Timer | undefined;

  const connection = createTcpConnection({
    scheduler,
    local,
    remote,
    firstSequence: 0,
    standsFrom: 0,
    send: (header, payload) => options.send(SEGMENT, sealer.seal(encodeSegment(header, payload))),
    opened: () => undefined,
    failed: () => undefined,
    gone() {
      isOver = true;
      idle?.cancel();
      alive?.cancel();
      options.gone();
    },
  });
  const { stream } = connection;

  function watch(): void {
    idle?.cancel();
    if (!isOver) idle = scheduler.after(idleMs, lost);
  }

  function lost(): void {
    const who = `the path ${formatEndpoint(local)} -> ${formatEndpoint(remote)}`;
    end(new P2pdError("timeout", `${who} was lost: no sign of the peer for ${idleMs} ms`));
  }

  function end(error: P2pdError): void {
    stream.abort(error);
    connection.giveUp();
  }

  /** A sign of life: what was acknowledged last, once more. */
  function live(): void {
    alive = scheduler.after(keepAliveMs, live);
    connection.acknowledge();
  }

  const path: QuicPath = {
    ...stream,
    local,
    remote,
    peerKey,
    cipher: "TLS_AES_128_GCM_SHA256",
    get pendingBytes() {
      return stream.pendingBytes;
    },
    maxDatagramBytes: LARGEST_DATAGRAM,
    sendDatagram(bytes) {
      if (isOver || bytes.length > LARGEST_DATAGRAM) return false;
      options.send(DATAGRAM, sealer.seal(bytes));
      return true;
    },
    attachDatagrams(message) {
      heard = message;
      for (const bytes of held.splice(0)) message(bytes);
    },
    rttMs: () => connection.roundTripMs ?? options.handshakeMs,
  };

  watch();
  live();
  return {
    path,
    end,
    receive(kind, body) {
      if (isOver) return;
      if (kind !== SEGMENT && kind !== DATAGRAM) {
        // A handshake packet that was sent again: the peer has not heard of us yet.
        connection.acknowledge();
        return;
      }
      const bytes = sealer.open(body);
      if (bytes === undefined) return;
      watch();
      if (kind === SEGMENT) {
        const { header, payload } = decodeSegment(bytes);
        connection.receive(header, payload);
      } else if (heard !== undefined) heard(bytes);
      else if (held.length < HELD_DATAGRAMS) held.push(bytes);
    },
  };
}

function encodeSegment(header: TcpHeader, payload: Uint8Array): Uint8Array {
  const selective = header.selective?.slice(0, MOST_SELECTIVE) ?? [];
  const start = SEGMENT_HEAD + 8 * selective.length;
  const bytes = new Uint8Array(start + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, (header.ack ? 1 : 0) | (header.fin ? 2 : 0) | (header.rst ? 4 : 0));
  view.setUint8(1, selective.length);
  view.setFloat64(2, header.sequence);
  view.setFloat64(10, header.acknowledgement);
  view.setFloat64(18, header.window);
  selective.forEach((sequence, i) => view.setFloat64(SEGMENT_HEAD + 8 * i, sequence));
  bytes.set(payload, start);
  return bytes;
}

function decodeSegment(bytes: Uint8Array): { readonly header: TcpHeader; readonly payload: Uint8Array } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const flags = view.getUint8(0);
  const count = view.getUint8(1);
  return {
    header: {
      syn: false,
      ack: (flags & 1) !== 0,
      fin: (flags & 2) !== 0,
      rst: (flags & 4) !== 0,
      sequence: view.getFloat64(2),
      acknowledgement: view.getFloat64(10),
      window: view.getFloat64(18),
      selective: Array.from({ length: count }, (_, i) => view.getFloat64(SEGMENT_HEAD + 8 * i)),
    },
    payload: bytes.slice(SEGMENT_HEAD + 8 * count),
  };
}
