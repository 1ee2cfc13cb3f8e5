/**
 * The TCP ports of a simulated machine: who may bind what (SO_REUSEADDR and SO_REUSEPORT as Linux has them),
 * listeners, connects, and which connection a segment belongs to.
 */
import { P2pdError } from "../../core/errors.ts";
import { type Endpoint, familyOf, formatEndpoint, sameEndpoint } from "../../core/ip.ts";
import type { ByteStream, ConnectOptions, ListenOptions, TcpListener } from "../../core/net/world.ts";
import { checkLocal, EPHEMERAL, type HostStack, isAny, isBoundTo, overlaps } from "./host-stack.ts";
import { type QuotedPacket, resetFor, type SimPacket } from "./packet.ts";
import { createTcpConnection, type TcpConnection } from "./tcp-connection.ts";

export interface TcpStack {
  listen(options: ListenOptions): TcpListener;
  connect(options: ConnectOptions): Promise<ByteStream>;
  receive(packet: Extract<SimPacket, { protocol: "tcp" }>): void;
  /** An ICMP error about a segment of this machine. */
  unreachable(quoted: QuotedPacket, what: "port" | "host"): void;
}

interface Bind {
  readonly local: Endpoint;
  readonly shared: boolean;
  /** Of a listener. */
  readonly accept?: (stream: ByteStream) => void;
  readonly device: string | undefined;
}

export function createTcpStack(host: HostStack): TcpStack {
  const binds = new Set<Bind>();
  const connections = new Map<string, TcpConnection>();

  const inUse = (what: string): P2pdError =>
    new P2pdError("address-in-use", `${what}: the local address and port are taken (EADDRINUSE)`);

  /** Whether a new bind gets along with those there are. Two listeners never do. */
  function mayBind(local: Endpoint, shared: boolean, listens: boolean): boolean {
    for (const other of binds) {
      if (!overlaps(other.local, local)) continue;
      if (!shared || !other.shared || (listens && other.accept !== undefined)) return false;
    }
    return true;
  }

  function freePort(ip: string, isFree: (port: number) => boolean): number | undefined {
    for (let attempt = 0; attempt < 4096; attempt++) {
      const port = host.random.between(...EPHEMERAL);
      if (mayBind({ ip, port }, false, true) && isFree(port)) return port;
    }
    return undefined;
  }

  function listen({ local: wanted, device, shared = false, accept }: ListenOptions): TcpListener {
    const what = `listen on TCP ${formatEndpoint(wanted)}${device === undefined ? "" : ` of ${device}`}`;
    checkLocal(host, wanted, device, what);
    const port = wanted.port === 0 ? freePort(wanted.ip, () => true) : wanted.port;
    const local = { ip: wanted.ip, port: port ?? 0 };
    if (port === undefined || !mayBind(local, shared, true)) throw inUse(what);
    const bind: Bind = { local, shared, accept, device };
    binds.add(bind);
    return { local, close: () => void binds.delete(bind) };
  }

  async function connect(options: ConnectOptions): Promise<ByteStream> {
    const { remote, local, device, shared = false, timeoutMs, signal } = options;
    const from = local === undefined ? "" : ` from ${local.port === 0 ? local.ip : formatEndpoint(local)}`;
    const what = `TCP to ${formatEndpoint(remote)}${from}${device === undefined ? "" : ` by ${device}`}`;
    if (local !== undefined && familyOf(local.ip) !== familyOf(remote.ip)) {
      throw new P2pdError("bad-argument", `${what}: both addresses must be of one family`);
    }
    if (remote.port === 0) throw new P2pdError("bad-argument", `${what}: port 0 cannot be connected to`);
    if (signal?.aborted === true) throw new P2pdError("aborted", `${what}: aborted before it began`);
    const { bind, source } = bindFor(options, shared, what);
    const key = keyOf(source, remote);
    if (connections.has(key)) {
      const text = `${what}: that pair of ports is in use, or no port is free (EADDRNOTAVAIL)`;
      throw new P2pdError("address-in-use", text);
    }
    binds.add(bind);
    return new Promise((resolve, reject) => {
      function finish(): void {
        timer.cancel();
        signal?.removeEventListener("abort", aborted);
      }
      function stop(error: P2pdError): void {
        finish();
        connection.giveUp();
        reject(error);
      }
      const aborted = (): void => stop(new P2pdError("aborted", `${what}: aborted`));
      const timer = host.scheduler.after(timeoutMs, () =>
        stop(new P2pdError("timeout", `${what}: no answer within ${timeoutMs} ms`)),
      );
      signal?.addEventListener("abort", aborted, { once: true });
      const connection = createTcpConnection({
        scheduler: host.scheduler,
        local: source,
        remote,
        firstSequence: firstSequence(),
        send: (tcp, payload) =>
          host.send({ protocol: "tcp", source, destination: remote, tcp, payload }, device),
        opened(stream) {
          finish();
          resolve(stream);
        },
        failed(code, why) {
          finish();
          reject(new P2pdError(code, `${what}: ${why}`));
        },
        gone() {
          connections.delete(key);
          binds.delete(bind);
        },
      });
      connections.set(key, connection);
    });
  }

  /** Where a connect leaves from, chosen as Linux does it. */
  function bindFor(
    { remote, local, device }: ConnectOptions,
    shared: boolean,
    what: string,
  ): { bind: Bind; source: Endpoint } {
    if (local !== undefined) checkLocal(host, local, device, what);
    if (device !== undefined) checkLocal(host, { ip: "0.0.0.0", port: 0 }, device, what);
    const route = host.sourceFor(remote.ip, device);
    if (route === undefined) {
      throw new P2pdError("unreachable", `${what}: there is no route to that network (ENETUNREACH)`);
    }
    const ip = local === undefined || isAny(local.ip) ? route : local.ip;
    const wanted = local?.port ?? 0;
    if (wanted !== 0) {
      const bound = { ip: local?.ip ?? route, port: wanted };
      if (!mayBind(bound, shared, false)) throw inUse(what);
      return { bind: { local: bound, shared, device }, source: { ip, port: wanted } };
    }
    const port = freePort(ip, (candidate) => !connections.has(keyOf({ ip, port: candidate }, remote)));
    if (port === undefined) throw inUse(what);
    return { bind: { local: { ip, port }, shared, device }, source: { ip, port } };
  }

  function acceptFrom(packet: Extract<SimPacket, { protocol: "tcp" }>, bind: Bind): void {
    const { source: remote, destination: local } = packet;
    const key = keyOf(local, remote);
    const connection = createTcpConnection({
      scheduler: host.scheduler,
      local,
      remote,
      firstSequence: firstSequence(),
      syn: packet.tcp,
      send: (tcp, payload) =>
        host.send({ protocol: "tcp", source: local, destination: remote, tcp, payload }, bind.device),
      opened(stream) {
        if (binds.has(bind)) bind.accept?.(stream);
        else stream.abort();
      },
      failed() {
        // A peer that did not finish its handshake is nobody's business.
      },
      gone: () => void connections.delete(key),
    });
    connections.set(key, connection);
  }

  function firstSequence(): number {
    return host.random.between(0, 0xffff_ffff);
  }

  return {
    listen,
    connect,
    receive(packet) {
      const { source, destination, tcp, payload } = packet;
      const key = keyOf(destination, source);
      const connection = connections.get(key);
      const isStart = tcp.syn && !tcp.ack && !tcp.rst;
      const listeners = isStart ? [...binds].filter((bind) => bind.accept !== undefined) : [];
      const listener =
        listeners.find(({ local }) => sameEndpoint(local, destination)) ??
        listeners.find(({ local }) => isBoundTo(local, destination));
      if (connection !== undefined && !(connection.isLingering && listener !== undefined)) {
        return connection.receive(tcp, payload);
      }
      connection?.giveUp();
      if (listener !== undefined) return acceptFrom(packet, listener);
      const answer = resetFor(packet);
      if (answer !== undefined) host.send(answer);
    },
    unreachable({ source, destination }, what) {
      connections.get(keyOf(source, destination))?.unreachable(what);
    },
  };
}

function keyOf(local: Endpoint, remote: Endpoint): string {
  return `${local.ip} ${local.port} ${remote.ip} ${remote.port}`;
}
