/**
 * Bare UDP, TCP and raw sockets in any network namespace, for probes that must know exactly which packet they
 * sent when. Everything waits by poll and blocks the process, which keeps a probe a plain sequence of steps.
 */
import { P2pdError } from "../../core/errors.ts";
import { formatEndpoint, formatIp, familyOf, parseIp } from "../../core/ip.ts";
import type { Endpoint } from "../../core/ip.ts";
import { closeFd, createWaiter, libc, openReadOnly, POLLIN, POLLOUT } from "./syscalls.ts";

const CLONE_NEWNET = 0x40000000;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOCK_FLAGS = 0o2004000; // SOCK_NONBLOCK | SOCK_CLOEXEC
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_ERROR = 4;
const SO_LINGER = 13;
const SO_REUSEPORT = 15;
const SO_BINDTODEVICE = 25;
const POLLHUP = 16;
const ENETUNREACH = 101;
export const ECONNREFUSED = 111;
const AF: Readonly<Record<4 | 6, number>> = { 4: 2, 6: 10 };

export interface BareSocket extends Disposable {
  readonly fd: number;
  readonly local: Endpoint;
  close(): void;
}

export interface BareUdp extends BareSocket {
  send(to: Endpoint, text: string): void;
  sendBytes(to: Endpoint, bytes: Uint8Array): void;
  /** The next datagram within `timeoutMs`. */
  receive(
    timeoutMs: number,
  ): { readonly text: string; readonly bytes: Uint8Array; readonly from: Endpoint } | undefined;
}

export interface BareTcp extends BareSocket {
  /** Waits for the end of the connect: its error number, 0 when it stands, undefined while it is open. */
  connected(timeoutMs: number): number | undefined;
  write(text: string): void;
  /** What comes within `timeoutMs`; "" when the peer has ended; undefined when nothing came. */
  read(timeoutMs: number): string | undefined;
}

export interface BareListener extends BareSocket {
  /** The next connection and where it came from. */
  accept(timeoutMs: number): (BareTcp & { readonly remote: Endpoint }) | undefined;
}

export interface BareRaw extends BareSocket {
  send(to: string, payload: Uint8Array): void;
  /** The next packet, with its IP header. */
  receive(timeoutMs: number): Uint8Array | undefined;
}

/** Runs `make` inside a namespace; sockets made there stay there. */
function inside<T>(namespace: string, make: () => T): T {
  const home = openReadOnly("/proc/thread-self/ns/net");
  const there = openReadOnly(`/run/netns/${namespace}`);
  try {
    if (libc.setns(there, CLONE_NEWNET) !== 0)
      throw new P2pdError("unavailable", `cannot enter ${namespace}`);
    try {
      return make();
    } finally {
      if (libc.setns(home, CLONE_NEWNET) !== 0) process.abort(); // the process would go on in the wrong place
    }
  } finally {
    closeFd(home);
    closeFd(there);
  }
}

function open(namespace: string, type: number, protocol: number, local: Endpoint, device = ""): number {
  return inside(namespace, () => {
    const fd = libc.socket(AF[familyOf(local.ip)], type | SOCK_FLAGS, protocol);
    if (fd < 0) throw new P2pdError("unavailable", "cannot make a socket");
    const on = new Int32Array([1]);
    if (type === SOCK_STREAM) {
      libc.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, on, 4);
      libc.setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, on, 4);
    }
    if (device !== "") {
      const name = Buffer.from(`${device}\0`);
      libc.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, name.length);
    }
    const address = encodeAddress(local);
    if (libc.bind(fd, address, address.length) !== 0) {
      closeFd(fd);
      throw new P2pdError("address-in-use", `cannot bind to ${formatEndpoint(local)} in ${namespace}`);
    }
    return fd;
  });
}

/** `device`: the NIC that packets must leave by. */
export function openUdp(namespace: string, local: Endpoint, device = ""): BareUdp {
  const fd = open(namespace, SOCK_DGRAM, 0, local, device);
  const sendBytes = (to: Endpoint, bytes: Uint8Array): void => {
    const address = encodeAddress(to);
    libc.sendto(fd, bytes, bytes.length, 0, address, address.length);
  };
  return {
    ...common(fd),
    send: (to, text) => sendBytes(to, Buffer.from(text)),
    sendBytes,
    receive(timeoutMs) {
      if (waitFor(fd, POLLIN, timeoutMs) === 0) return undefined;
      const bytes = Buffer.alloc(65_536);
      const address = new Uint8Array(28);
      const length = Number(libc.recvfrom(fd, bytes, bytes.length, 0, address, new Int32Array([28])));
      if (length < 0) return undefined;
      const text = bytes.toString("utf8", 0, length);
      return { text, bytes: bytes.subarray(0, length), from: decodeAddress(address) };
    },
  };
}

/** Begins to connect from `local`; the port may be shared with other connects and a listener. */
export function connectTcp(namespace: string, local: Endpoint, remote: Endpoint): BareTcp {
  const fd = open(namespace, SOCK_STREAM, 0, local);
  const address = encodeAddress(remote);
  libc.connect(fd, address, address.length); // poll and SO_ERROR tell its outcome
  return stream(fd);
}

export function listenTcp(namespace: string, local: Endpoint): BareListener {
  const fd = open(namespace, SOCK_STREAM, 0, local);
  libc.listen(fd, 64);
  return {
    ...common(fd),
    accept(timeoutMs) {
      if (waitFor(fd, POLLIN, timeoutMs) === 0) return undefined;
      const address = new Uint8Array(28);
      const accepted = libc.accept4(fd, address, new Int32Array([28]), SOCK_FLAGS);
      return accepted < 0 ? undefined : { ...stream(accepted), remote: decodeAddress(address) };
    },
  };
}

/** A raw IPv4 socket for one protocol (raw(7)). */
export function openRaw(namespace: string, protocol: number): BareRaw {
  const fd = open(namespace, SOCK_RAW, protocol, { ip: "0.0.0.0", port: 0 });
  return {
    ...common(fd),
    send(to, payload) {
      const address = encodeAddress({ ip: to, port: 0 });
      libc.sendto(fd, payload, payload.length, 0, address, address.length);
    },
    receive(timeoutMs) {
      if (waitFor(fd, POLLIN, timeoutMs) === 0) return undefined;
      const bytes = new Uint8Array(65_536);
      const length = Number(
        libc.recvfrom(fd, bytes, bytes.length, 0, new Uint8Array(28), new Int32Array([28])),
      );
      return length < 0 ? undefined : bytes.slice(0, length);
    },
  };
}

function stream(fd: number): BareTcp {
  const linger = new Int32Array([1, 0]); // closing resets: nothing lingers between probes
  libc.setsockopt(fd, SOL_SOCKET, SO_LINGER, linger, 8);
  let outcome: number | undefined;
  return {
    ...common(fd),
    connected(timeoutMs) {
      if (outcome !== undefined) return outcome;
      const seen = waitFor(fd, POLLOUT, timeoutMs);
      if (seen === 0) return undefined;
      const value = new Int32Array(1);
      libc.getsockopt(fd, SOL_SOCKET, SO_ERROR, value, new Int32Array([4]));
      // A connect that failed at once has left no error behind, only a socket that is not connected.
      outcome = value[0] === 0 && (seen & POLLHUP) !== 0 ? ENETUNREACH : (value[0] as number);
      return outcome;
    },
    write(text) {
      const bytes = Buffer.from(text);
      libc.write(fd, bytes, bytes.length);
    },
    read(timeoutMs) {
      if (waitFor(fd, POLLIN, timeoutMs) === 0) return undefined;
      const bytes = Buffer.alloc(65_536);
      const length = Number(libc.read(fd, bytes, bytes.length));
      return length < 0 ? undefined : bytes.toString("utf8", 0, length);
    },
  };
}

function common(fd: number): BareSocket {
  let closed = false;
  const close = (): void => {
    if (!closed) closeFd(fd);
    closed = true;
  };
  const address = new Uint8Array(28);
  libc.getsockname(fd, address, new Int32Array([28]));
  return { fd, local: decodeAddress(address), close, [Symbol.dispose]: close };
}

/** What poll saw within `timeoutMs`; 0 for nothing. */
function waitFor(fd: number, events: number, timeoutMs: number): number {
  const waiter = createWaiter([fd], events);
  waiter.wait(timeoutMs);
  return waiter.seen(0);
}

/** sockaddr_in or sockaddr_in6. */
function encodeAddress({ ip, port }: Endpoint): Uint8Array {
  const family = familyOf(ip);
  const address = Buffer.alloc(family === 4 ? 16 : 28);
  address.writeUInt16LE(AF[family], 0);
  address.writeUInt16BE(port, 2);
  address.set(parseIp(ip) as Uint8Array, family === 4 ? 4 : 8);
  return address;
}

function decodeAddress(address: Uint8Array): Endpoint {
  const port = ((address[2] as number) << 8) | (address[3] as number);
  return { ip: formatIp(address[0] === AF[6] ? address.subarray(8, 24) : address.subarray(4, 8)), port };
}
