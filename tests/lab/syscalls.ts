/**
 * The Linux system calls that the laboratory's own processes make directly: TUN devices, raw packets, bare TCP
 * sockets, waiting with sub-millisecond timeouts. x86-64 and arm64; the laboratory runs nowhere else.
 */
import { dlopen, FFIType, ptr } from "bun:ffi";
import { P2pdError } from "../../core/errors.ts";

const { i32, u64, ptr: pointer } = FFIType;

const { symbols } = dlopen(process.platform === "linux" ? "libc.so.6" : "", {
  open: { args: [pointer, i32], returns: i32 },
  close: { args: [i32], returns: i32 },
  read: { args: [i32, pointer, u64], returns: FFIType.i64_fast },
  write: { args: [i32, pointer, u64], returns: FFIType.i64_fast },
  ioctl: { args: [i32, u64, pointer], returns: i32 },
  ppoll: { args: [pointer, u64, pointer, pointer], returns: i32 },
  fcntl: { args: [i32, i32, i32], returns: i32 },
  socket: { args: [i32, i32, i32], returns: i32 },
  bind: { args: [i32, pointer, i32], returns: i32 },
  connect: { args: [i32, pointer, i32], returns: i32 },
  setsockopt: { args: [i32, i32, i32, pointer, i32], returns: i32 },
  getsockopt: { args: [i32, i32, i32, pointer, pointer], returns: i32 },
});

const O_RDWR_NONBLOCK = 0x802;
const TUNSETIFF = 0x400454ca;
const IFF_TUN_NO_PI = 0x1001;
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0x800;

export const POLLIN = 1;
export const POLLOUT = 4;

/** Attaches to the TUN device `name` of this network namespace; reads and writes do not block. */
export function openTun(name: string): number {
  const path = Buffer.from("/dev/net/tun\0");
  const fd = symbols.open(ptr(path), O_RDWR_NONBLOCK);
  if (fd < 0)
    throw new P2pdError("unavailable", "cannot open /dev/net/tun; load the tun module and run as root");
  const request = Buffer.alloc(40);
  request.write(name, 0, 15);
  request.writeUInt16LE(IFF_TUN_NO_PI, 16);
  if (symbols.ioctl(fd, TUNSETIFF, ptr(request)) < 0) {
    symbols.close(fd);
    throw new P2pdError("unavailable", `cannot attach to TUN device ${name}; is it there, and free?`);
  }
  return fd;
}

/** Octets read into `buffer`, 0 at the end of the file, -1 if there is nothing now or an error. */
export function readInto(fd: number, buffer: Uint8Array): number {
  return Number(symbols.read(fd, buffer, buffer.length));
}

/** Octets written, -1 if nothing could be. */
export function writeFrom(fd: number, bytes: Uint8Array): number {
  return Number(symbols.write(fd, bytes, bytes.length));
}

export function closeFd(fd: number): void {
  symbols.close(fd);
}

export function setNonBlocking(fd: number): void {
  symbols.fcntl(fd, F_SETFL, symbols.fcntl(fd, F_GETFL, 0) | O_NONBLOCK);
}

/** Waits on a fixed set of descriptors. */
export interface Waiter {
  /** Waits until one is ready or `timeoutMs` (fractions count; Infinity: for ever) is over. */
  wait(timeoutMs: number): void;
  /** What the last wait saw of descriptor number `index`, as poll's revents. */
  seen(index: number): number;
}

export function createWaiter(fds: readonly number[], events = POLLIN): Waiter {
  const set = Buffer.alloc(8 * fds.length);
  fds.forEach((fd, i) => {
    set.writeInt32LE(fd, 8 * i);
    set.writeInt16LE(events, 8 * i + 4);
  });
  const timeout = new BigInt64Array(2);
  return {
    wait(timeoutMs) {
      if (timeoutMs === Number.POSITIVE_INFINITY) {
        symbols.ppoll(set, fds.length, null, null);
        return;
      }
      const clipped = Math.min(Math.max(timeoutMs, 0), 3_600_000);
      timeout[0] = BigInt(Math.floor(clipped / 1000));
      timeout[1] = BigInt(Math.floor((clipped % 1000) * 1e6));
      symbols.ppoll(set, fds.length, timeout, null);
    },
    seen: (index) => set.readInt16LE(8 * index + 6),
  };
}

const AF_INET = 2;
const SOCK_STREAM_NONBLOCK = 1 | 0x800;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_ERROR = 4;

/** A bare TCP socket bound to a port of any address, whose connect has begun. */
export function beginConnect(localPort: number, remoteIp: string, remotePort: number): number {
  const fd = symbols.socket(AF_INET, SOCK_STREAM_NONBLOCK, 0);
  if (fd < 0) throw new P2pdError("unavailable", "cannot make a TCP socket");
  symbols.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, new Int32Array([1]), 4);
  if (symbols.bind(fd, ip4Address("0.0.0.0", localPort), 16) < 0) {
    symbols.close(fd);
    throw new P2pdError("address-in-use", `TCP port ${localPort} is taken`);
  }
  symbols.connect(fd, ip4Address(remoteIp, remotePort), 16); // its answer is poll's and SO_ERROR's
  return fd;
}

/** The error number of a socket; 0 is none. */
export function socketError(fd: number): number {
  const value = new Int32Array(1);
  const length = new Int32Array([4]);
  symbols.getsockopt(fd, SOL_SOCKET, SO_ERROR, value, length);
  return value[0] as number;
}

function ip4Address(ip: string, port: number): Uint8Array {
  const address = Buffer.alloc(16);
  address.writeUInt16LE(AF_INET, 0);
  address.writeUInt16BE(port, 2);
  ip.split(".").forEach((octet, i) => address.writeUInt8(Number(octet), 4 + i));
  return address;
}

const SOCK_RAW_NONBLOCK = 3 | 0x800;

/** A raw IPv4 socket that receives every packet of IP protocol `protocol` with its header (raw(7)). */
export function openRaw(protocol: number): number {
  const fd = symbols.socket(AF_INET, SOCK_RAW_NONBLOCK, protocol);
  if (fd < 0) throw new P2pdError("unavailable", "cannot make a raw socket; run as root");
  return fd;
}

/** Sends the payload of one raw packet. */
export function sendRaw(fd: number, payload: Uint8Array, ip: string): void {
  symbols.connect(fd, ip4Address(ip, 0), 16);
  if (Number(symbols.write(fd, payload, payload.length)) !== payload.length) {
    throw new P2pdError("send-failed", `cannot send a raw packet to ${ip}`);
  }
}
