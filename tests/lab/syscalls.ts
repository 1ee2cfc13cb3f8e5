/**
 * The Linux system calls that the laboratory's own processes make directly: TUN devices and bare sockets,
 * waiting with sub-millisecond timeouts. x86-64 and arm64; the laboratory runs nowhere else.
 */
import { dlopen, FFIType, ptr } from "bun:ffi";
import { P2pdError } from "../../core/errors.ts";

const { i32, u64, ptr: pointer } = FFIType;

export const { symbols: libc } = dlopen(process.platform === "linux" ? "libc.so.6" : "", {
  open: { args: [pointer, i32], returns: i32 },
  close: { args: [i32], returns: i32 },
  read: { args: [i32, pointer, u64], returns: FFIType.i64_fast },
  writev: { args: [i32, pointer, i32], returns: FFIType.i64_fast },
  write: { args: [i32, pointer, u64], returns: FFIType.i64_fast },
  ioctl: { args: [i32, u64, u64], returns: i32 },
  ppoll: { args: [pointer, u64, pointer, pointer], returns: i32 },
  fcntl: { args: [i32, i32, i32], returns: i32 },
  socket: { args: [i32, i32, i32], returns: i32 },
  bind: { args: [i32, pointer, i32], returns: i32 },
  connect: { args: [i32, pointer, i32], returns: i32 },
  setsockopt: { args: [i32, i32, i32, pointer, i32], returns: i32 },
  listen: { args: [i32, i32], returns: i32 },
  accept4: { args: [i32, pointer, pointer, i32], returns: i32 },
  getsockname: { args: [i32, pointer, pointer], returns: i32 },
  sendto: { args: [i32, pointer, u64, i32, pointer, i32], returns: FFIType.i64_fast },
  recvfrom: { args: [i32, pointer, u64, i32, pointer, pointer], returns: FFIType.i64_fast },
  getpriority: { args: [i32, i32], returns: i32 },
  setpriority: { args: [i32, i32, i32], returns: i32 },
  setns: { args: [i32, i32], returns: i32 },
  getsockopt: { args: [i32, i32, i32, pointer, pointer], returns: i32 },
});

const O_RDWR_NONBLOCK = 0x802;
const TUNSETIFF = 0x400454ca;
const IFF_TUN_NO_PI_VNET_HDR = 0x5001;
const TUNSETOFFLOAD = 0x400454d0;
const CHECKSUM_TSO4_TSO6 = 7;
const AF_INET = 2;
const SOCK_DGRAM = 2;
const SIOCGIFFLAGS = 0x8913;
const IFF_RUNNING = 0x40;
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0x800;

export const POLLIN = 1;
export const POLLOUT = 4;

/**
 * Attaches to the TUN device `name` of this network namespace. Reads and writes do not block; every packet has a
 * header before it (`offload.ts`).
 */
export function openTun(name: string): number {
  const path = Buffer.from("/dev/net/tun\0");
  const fd = libc.open(ptr(path), O_RDWR_NONBLOCK);
  if (fd < 0)
    throw new P2pdError("unavailable", "cannot open /dev/net/tun; load the tun module and run as root");
  const request = Buffer.alloc(40);
  request.write(name, 0, 15);
  request.writeUInt16LE(IFF_TUN_NO_PI_VNET_HDR, 16);
  if (libc.ioctl(fd, TUNSETIFF, ptr(request)) < 0) {
    libc.close(fd);
    throw new P2pdError("unavailable", `cannot attach to TUN device ${name}; is it there, and free?`);
  }
  return fd;
}

/** Whether the device carries packets by now: the kernel notices an attached TUN a moment later. */
export function isRunning(name: string): boolean {
  const socket = libc.socket(AF_INET, SOCK_DGRAM, 0);
  const request = Buffer.alloc(40);
  request.write(name, 0, 15);
  const answered = libc.ioctl(socket, SIOCGIFFLAGS, ptr(request)) === 0;
  libc.close(socket);
  return answered && (request.readUInt16LE(16) & IFF_RUNNING) !== 0;
}

/** Whether the kernel may hand over packets without checksums and TCP segments larger than the MTU. */
export function setOffload(tun: number, on: boolean): void {
  libc.ioctl(tun, TUNSETOFFLOAD, on ? CHECKSUM_TSO4_TSO6 : 0);
}

const parts = new BigUint64Array(4);

/** Writes two pieces as one packet; false if the device does not take it. */
export function writeParts(fd: number, first: Uint8Array, second: Uint8Array): boolean {
  parts[0] = BigInt(ptr(first));
  parts[1] = BigInt(first.length);
  parts[2] = BigInt(ptr(second));
  parts[3] = BigInt(second.length);
  return Number(libc.writev(fd, parts, 2)) >= 0;
}

/** Opens a file for reading. */
export function openReadOnly(path: string): number {
  const fd = libc.open(Buffer.from(`${path}\0`), 0x80000); // O_CLOEXEC
  if (fd < 0) throw new P2pdError("unavailable", `cannot open ${path}`);
  return fd;
}

/** Octets read into `buffer`, 0 at the end of the file, -1 if there is nothing now or an error. */
export function readInto(fd: number, buffer: Uint8Array): number {
  return Number(libc.read(fd, buffer, buffer.length));
}

/** Octets written, -1 if nothing could be. */
export function writeFrom(fd: number, bytes: Uint8Array): number {
  return Number(libc.write(fd, bytes, bytes.length));
}

export function closeFd(fd: number): void {
  libc.close(fd);
}

export function setNonBlocking(fd: number): void {
  libc.fcntl(fd, F_SETFL, libc.fcntl(fd, F_GETFL, 0) | O_NONBLOCK);
}

/**
 * How willingly this thread gives way, -20 to 19 (nice(2)): what keeps time should not wait for what computes.
 * Returns what it was.
 */
export function setNice(value: number): number {
  const before = libc.getpriority(0, 0);
  libc.setpriority(0, 0, value);
  return before;
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
        libc.ppoll(set, fds.length, null, null);
        return;
      }
      const clipped = Math.min(Math.max(timeoutMs, 0), 3_600_000);
      timeout[0] = BigInt(Math.floor(clipped / 1000));
      timeout[1] = BigInt(Math.floor((clipped % 1000) * 1e6));
      libc.ppoll(set, fds.length, timeout, null);
    },
    seen: (index) => set.readInt16LE(8 * index + 6),
  };
}
