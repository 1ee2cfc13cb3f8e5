/**
 * System calls on sockets, through `bun:ffi`: what Bun's own sockets cannot do, such as connecting from a
 * chosen port that is shared, or by a chosen NIC. The library is loaded at the first use. Nothing here
 * waits; the event loop belongs to `core/net/`.
 */
import { dlopen, type Pointer, ptr, read } from "bun:ffi";
import { linux } from "./linux.ts";
import { macos } from "./macos.ts";
import type { Platform } from "./platform.ts";
import {
  decodeSocketAddress,
  encodeSocketAddress,
  MAX_ADDRESS_LENGTH,
  type SocketAddress,
} from "./socket-address.ts";

/** A system call that failed. `code` is the error's name in `<errno.h>`, or `E` and its number. */
export class SystemCallError extends Error {
  override readonly name = "SystemCallError";

  constructor(
    readonly call: string,
    readonly code: string,
  ) {
    super(`${call}: ${code}`);
  }
}

/** Every call but `takeError`, `isSettled` and `isDatagram` throws a SystemCallError when the system refuses. */
export interface NativeSockets {
  /** A non-blocking, close-on-exec TCP socket. */
  openStream(family: 4 | 6): number;
  /** SO_REUSEADDR and SO_REUSEPORT. */
  shareAddress(fd: number): void;
  /** Packets leave by the NIC of this name (SO_BINDTODEVICE, IP_BOUND_IF, IPV6_BOUND_IF). */
  bindToDevice(fd: number, family: 4 | 6, device: string): void;
  /** Room for what has arrived and was not read yet; the system may grant less. */
  receiveBuffer(fd: number, octets: number): void;
  /** Whether datagrams that are too long for the way may be fragmented. */
  allowFragments(fd: number, family: 4 | 6, allowed: boolean): void;
  bind(fd: number, address: SocketAddress): void;
  listen(fd: number, backlog: number): void;
  /** Begins to connect; the outcome shows when the socket becomes writable. */
  connect(fd: number, address: SocketAddress): void;
  /** Whether anything has happened to a connecting socket: it stands, or it failed. */
  isSettled(fd: number): boolean;
  /** Name of the pending error (SO_ERROR), which is cleared; "" when there is none. */
  takeError(fd: number): string;
  /** Whether it is a socket for datagrams; false for what is no socket at all. */
  isDatagram(fd: number): boolean;
  localAddress(fd: number): SocketAddress;
  remoteAddress(fd: number): SocketAddress;
  /** Closing the socket will send RST. */
  resetOnClose(fd: number): void;
  close(fd: number): void;
  /** Index of the NIC of this name; 0 when there is none. */
  indexOfDevice(device: string): number;
}

const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const F_SETFD = 2;
const F_GETFL = 3;
const F_SETFL = 4;
const FD_CLOEXEC = 1;
const POLLOUT = 4;

const SIGNATURES = {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  listen: { args: ["i32", "i32"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
  poll: { args: ["ptr", "u64", "i32"], returns: "i32" },
  getsockname: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  getpeername: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
  if_nametoindex: { args: ["ptr"], returns: "u32" },
} as const;

let loaded: NativeSockets | undefined;

/** The calls of this machine. Throws an Error that names the platform where there are none. */
export function nativeSockets(): NativeSockets {
  loaded ??= load(platformOf(process.platform));
  return loaded;
}

/** The numbers of a platform, as `process.platform` names it. Throws an Error where there are none. */
export function platformOf(name: string): Platform {
  if (name === "linux") return linux;
  if (name === "darwin") return macos;
  throw new Error(
    `native sockets are written for Linux and macOS, not for ${name}: choosing the local port, the NIC or ` +
      "a shared port of a TCP connection is not possible here",
  );
}

function openLibrary(platform: Platform) {
  const symbols = { ...SIGNATURES, [platform.errnoSymbol]: { args: [], returns: "ptr" } } as const;
  const failures: unknown[] = [];
  for (const name of platform.libraries) {
    try {
      const library = dlopen(name, symbols).symbols;
      const calls = library as unknown as Record<string, () => Pointer>;
      return { calls: library, errnoAt: calls[platform.errnoSymbol] as () => Pointer };
    } catch (thrown) {
      failures.push(thrown);
    }
  }
  throw new AggregateError(failures, `no C library found under ${platform.libraries.join(", ")}`);
}

function load(platform: Platform): NativeSockets {
  const { calls, errnoAt } = openLibrary(platform);

  const check = (call: string, result: number): number => {
    if (result >= 0) return result;
    const code = errorName(platform, read.i32(errnoAt(), 0));
    throw new SystemCallError(call, code);
  };
  const setOption = (fd: number, level: number, option: number, value: Uint8Array | Int32Array): void => {
    check("setsockopt", calls.setsockopt(fd, level, option, ptr(value), value.byteLength));
  };
  const addressFrom = (call: "getsockname" | "getpeername", fd: number): SocketAddress => {
    const bytes = new Uint8Array(MAX_ADDRESS_LENGTH);
    const length = new Uint32Array([MAX_ADDRESS_LENGTH]);
    check(call, calls[call](fd, ptr(bytes), ptr(length)));
    const address = decodeSocketAddress(platform, bytes);
    if (address === undefined) throw new SystemCallError(call, "EAFNOSUPPORT");
    return address;
  };

  return {
    openStream(family) {
      const domain = family === 4 ? platform.AF_INET : platform.AF_INET6;
      const fd = check("socket", calls.socket(domain, SOCK_STREAM | platform.streamFlags, 0));
      if (platform.streamFlags === 0) {
        calls.fcntl(fd, F_SETFD, FD_CLOEXEC);
        calls.fcntl(fd, F_SETFL, calls.fcntl(fd, F_GETFL, 0) | platform.O_NONBLOCK);
      }
      if (family === 6) setOption(fd, IPPROTO_IPV6, platform.IPV6_V6ONLY, new Int32Array([1]));
      return fd;
    },
    shareAddress(fd) {
      setOption(fd, platform.SOL_SOCKET, platform.SO_REUSEADDR, new Int32Array([1]));
      setOption(fd, platform.SOL_SOCKET, platform.SO_REUSEPORT, new Int32Array([1]));
    },
    bindToDevice(fd, family, device) {
      const { device: how } = platform;
      if (how.by === "name") return setOption(fd, platform.SOL_SOCKET, how.option, cString(device));
      const index = calls.if_nametoindex(ptr(cString(device)));
      if (index === 0) throw new SystemCallError("if_nametoindex", "ENODEV");
      const [level, option] = family === 4 ? [IPPROTO_IP, how.option4] : [IPPROTO_IPV6, how.option6];
      setOption(fd, level, option, new Int32Array([index]));
    },
    receiveBuffer(fd, octets) {
      setOption(fd, platform.SOL_SOCKET, platform.SO_RCVBUF, new Int32Array([octets]));
    },
    allowFragments(fd, family, allowed) {
      const { option4, option6, forbid, allow } = platform.fragments;
      const [level, option] = family === 4 ? [IPPROTO_IP, option4] : [IPPROTO_IPV6, option6];
      setOption(fd, level, option, new Int32Array([allowed ? allow : forbid]));
    },
    bind(fd, address) {
      const bytes = encodeSocketAddress(platform, address);
      check("bind", calls.bind(fd, ptr(bytes), bytes.length));
    },
    listen(fd, backlog) {
      check("listen", calls.listen(fd, backlog));
    },
    connect(fd, address) {
      const bytes = encodeSocketAddress(platform, address);
      if (calls.connect(fd, ptr(bytes), bytes.length) === 0) return;
      const code = errorName(platform, read.i32(errnoAt(), 0));
      if (code !== "EINPROGRESS" && code !== "EINTR") throw new SystemCallError("connect", code);
    },
    isSettled(fd) {
      const request = new Uint8Array(8); // struct pollfd: int fd, short events, short revents
      const view = new DataView(request.buffer);
      view.setInt32(0, fd, true);
      view.setInt16(4, POLLOUT, true);
      return calls.poll(ptr(request), 1, 0) > 0;
    },
    takeError(fd) {
      const value = new Int32Array(1);
      const length = new Uint32Array([4]);
      const result = calls.getsockopt(fd, platform.SOL_SOCKET, platform.SO_ERROR, ptr(value), ptr(length));
      const number = value[0] as number;
      if (result < 0) return errorName(platform, read.i32(errnoAt(), 0));
      return number === 0 ? "" : errorName(platform, number);
    },
    isDatagram(fd) {
      const value = new Int32Array(1);
      const length = new Uint32Array([4]);
      const result = calls.getsockopt(fd, platform.SOL_SOCKET, platform.SO_TYPE, ptr(value), ptr(length));
      return result >= 0 && value[0] === SOCK_DGRAM;
    },
    localAddress: (fd) => addressFrom("getsockname", fd),
    remoteAddress: (fd) => addressFrom("getpeername", fd),
    resetOnClose(fd) {
      setOption(fd, platform.SOL_SOCKET, platform.SO_LINGER, new Int32Array([1, 0]));
    },
    close(fd) {
      calls.close(fd);
    },
    indexOfDevice: (device) => calls.if_nametoindex(ptr(cString(device))),
  };
}

function errorName(platform: Platform, number: number): string {
  return platform.errors[number] ?? `E${number}`;
}

function cString(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`);
}
