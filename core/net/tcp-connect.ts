/**
 * Connects TCP, from a chosen address, port and NIC if asked. The socket is made, bound and told to connect
 * by system calls, and handed to Bun's event loop while it is still connecting: Bun then waits for the
 * socket to become writable, which is the very moment the connection stands, and reports an error as a
 * close. So nothing polls, and giving up closes the descriptor at once, which `Bun.connect` by host and
 * port cannot do. Where there are no system calls, plain connects go by host and port.
 */
import { type NativeSockets, nativeSockets } from "../../native/sockets.ts";
import { P2pdError } from "../errors.ts";
import { type Endpoint, familyOf, formatEndpoint, sameEndpoint } from "../ip.ts";
import { endpointFrom, isLinkLocal6, socketAddressOf, zoneOf } from "./socket-endpoints.ts";
import { openError } from "./socket-errors.ts";
import { type BunSocket, createSocketStream, SOCKET_HANDLERS, type SocketEvents } from "./socket-stream.ts";
import { type ConnectAttempt, connectByName } from "./tcp-connect-plain.ts";
import type { ByteStream, ConnectOptions } from "./world.ts";

/** See `World.connectTcp`. */
export async function connectTcp(options: ConnectOptions): Promise<ByteStream> {
  const what = describe(options);
  const { local, remote } = options;
  if (local !== undefined && familyOf(local.ip) !== familyOf(remote.ip)) {
    throw new P2pdError("bad-argument", `${what}: both addresses must be of one family`);
  }
  if (remote.port === 0) throw new P2pdError("bad-argument", `${what}: port 0 cannot be connected to`);
  if (options.signal?.aborted === true) throw new P2pdError("aborted", `${what}: aborted before it began`);
  const native = nativeFor(options, what);
  const attempt =
    native === undefined ? connectByName(options.remote) : connectByDescriptor(native, options, what);
  return settle(attempt, options, what);
}

function settle(attempt: ConnectAttempt, options: ConnectOptions, what: string): Promise<ByteStream> {
  const { timeoutMs, signal } = options;
  return new Promise((resolve, reject) => {
    const finish = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    };
    const giveUp = (error: P2pdError): void => {
      finish();
      attempt.cancel();
      reject(error);
    };
    const onAbort = (): void => giveUp(new P2pdError("aborted", `${what}: aborted`));
    const timer = setTimeout(
      () => giveUp(new P2pdError("timeout", `${what}: no answer within ${timeoutMs} ms`)),
      timeoutMs,
    );
    signal?.addEventListener("abort", onAbort, { once: true });
    attempt.done.then(
      (stream) => {
        finish();
        resolve(stream);
      },
      (thrown: unknown) => {
        finish();
        reject(openError(thrown, what));
      },
    );
  });
}

function nativeFor(options: ConnectOptions, what: string): NativeSockets | undefined {
  try {
    return nativeSockets();
  } catch (thrown) {
    const { local, device, shared } = options;
    const plain = local === undefined && device === undefined && shared !== true;
    if (plain && !isLinkLocal6(options.remote.ip)) return undefined;
    const text = thrown instanceof Error ? thrown.message : String(thrown);
    throw new P2pdError("unsupported", `${what}: ${text}`, {}, { cause: thrown });
  }
}

function connectByDescriptor(native: NativeSockets, options: ConnectOptions, what: string): ConnectAttempt {
  const fd = openConnecting(native, options, what);
  const { promise, resolve, reject } = Promise.withResolvers<ByteStream>();
  let socket: BunSocket | undefined;
  let cancelled = false;
  let settled = false;

  const connecting: SocketEvents = {
    data() {},
    end() {},
    error(error) {
      reject(error);
    },
    drain() {
      if (settled || socket === undefined || !native.isSettled(fd)) return;
      settled = true;
      try {
        const code = native.takeError(fd);
        if (code !== "") throw Object.assign(new Error(code), { code });
        const local = endpointFrom(native.localAddress(fd));
        const remote = endpointFrom(native.remoteAddress(fd));
        if (sameEndpoint(local, remote)) {
          throw new P2pdError("refused", `${what}: nobody listens there, and the socket met itself`);
        }
        socket.setNoDelay(true);
        const { stream, events } = createSocketStream(socket, local, remote);
        socket.data = events;
        resolve(stream);
      } catch (thrown) {
        socket.terminate();
        reject(thrown);
      }
    },
    close(error) {
      settled = true;
      reject(error ?? new P2pdError("refused", `${what}: closed while it was being made`));
    },
  };
  const cancel = (): void => {
    cancelled = true;
    settled = true;
    socket?.terminate();
  };
  adopt(fd, connecting, (opened) => {
    socket = opened;
    if (cancelled) socket.terminate();
  }).catch((thrown: unknown) => {
    native.close(fd);
    reject(thrown);
  });
  return { done: promise, cancel };
}

/** Gives a descriptor to Bun's event loop. `open` is called at once, whether connected or not. */
function adopt(fd: number, data: SocketEvents, open: (socket: BunSocket) => void): Promise<unknown> {
  const options: Bun.FdSocketOptions<SocketEvents> = {
    fd,
    allowHalfOpen: true,
    data,
    socket: { ...SOCKET_HANDLERS, open: (socket) => open(socket as BunSocket) },
  };
  // The declarations of `connect` leave this form out.
  return Bun.connect(options as unknown as Bun.TCPSocketConnectOptions<SocketEvents>);
}

/** A descriptor that has begun to connect; on an error nothing is left open. */
function openConnecting(native: NativeSockets, options: ConnectOptions, what: string): number {
  const { local, remote, device, shared } = options;
  const family = familyOf(remote.ip);
  const target = socketAddressOf(remote, scopeFor(options, what));
  let fd = -1;
  try {
    fd = native.openStream(family);
    if (shared === true) native.shareAddress(fd);
    if (device !== undefined) native.bindToDevice(fd, family, device);
    if (local !== undefined) native.bind(fd, socketAddressOf(local, target.scope || scopeFor(options, what)));
    native.connect(fd, target);
    return fd;
  } catch (thrown) {
    if (fd >= 0) native.close(fd);
    const { call, code } = thrown as { call?: string; code?: string };
    if (call === "connect" && code === "EADDRNOTAVAIL") {
      const text = `${what}: that pair of ports is in use, or no port is free (${code})`;
      throw new P2pdError("address-in-use", text, { system: code }, { cause: thrown });
    }
    throw openError(thrown, what);
  }
}

function scopeFor({ local, remote, device }: ConnectOptions, what: string): number {
  if (!isLinkLocal6(remote.ip) && (local === undefined || !isLinkLocal6(local.ip))) return 0;
  const zone = zoneOf(local, device);
  if (zone !== undefined) return zone.index;
  throw new P2pdError(
    "unreachable",
    `${what}: a link-local address needs the NIC, or a link-local address of this machine to come from`,
  );
}

function describe({ remote, local, device }: ConnectOptions): string {
  const from = local === undefined ? "" : ` from ${formatLocal(local)}`;
  return `TCP to ${formatEndpoint(remote)}${from}${device === undefined ? "" : ` by ${device}`}`;
}

function formatLocal(local: Endpoint): string {
  return local.port === 0 ? local.ip : formatEndpoint(local);
}
