/**
 * Netlink sockets of Linux (rtnetlink(7)): open, ask, read, close. Octets only; what they mean is in
 * `core/wire/netlink.ts`. The library is loaded by the first call, and `openNetlink` returns -1 wherever
 * there is none.
 */
import { dlopen, ptr } from "bun:ffi";
import { linux } from "./linux.ts";

const AF_NETLINK = 16;
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0o4000 | 0o2000000;
const NETLINK_ROUTE = 0;
const SOL_NETLINK = 270;
const NETLINK_NO_ENOBUFS = 5;

const SYMBOLS = {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  // ssize_t; lengths here fit in its lower half
  send: { args: ["i32", "ptr", "usize", "i32"], returns: "i32" },
  recv: { args: ["i32", "ptr", "usize", "i32"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
} as const;

type Library = ReturnType<typeof dlopen<typeof SYMBOLS>>["symbols"];

let library: Library | undefined | null;

function libc(): Library | null {
  if (library !== undefined) return library;
  library = null;
  for (const name of linux.libraries) {
    try {
      library = dlopen(name, SYMBOLS).symbols;
      break;
    } catch {
      continue; // another C library may be there
    }
  }
  return library;
}

/**
 * A non-blocking rtnetlink socket that hears the multicast `groups` (a mask of RTMGRP_*; 0: none). A reader
 * that is late loses notices but gets no ENOBUFS: the notices still queued tell it to look again.
 * Returns the descriptor, -1 if the system has none to give.
 */
export function openNetlink(groups: number): number {
  const c = libc();
  if (c === null) return -1;
  const fd = c.socket(AF_NETLINK, SOCK_RAW_NONBLOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return -1;
  c.setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, ptr(Int32Array.of(1)), 4);
  // struct sockaddr_nl: family u16, pad u16, port id u32 (0: the kernel picks), groups u32
  if (groups === 0 || c.bind(fd, ptr(Uint32Array.of(AF_NETLINK, 0, groups)), 12) === 0) return fd;
  c.close(fd);
  return -1;
}

/** Sends one request to the kernel; false if it was not taken. */
export function sendNetlink(fd: number, request: Uint8Array): boolean {
  return libc()?.send(fd, ptr(request), request.length, 0) === request.length;
}

/** Reads one datagram into `into`, which should hold 32 KiB; its length, -1 if none waits. */
export function receiveNetlink(fd: number, into: Uint8Array): number {
  return libc()?.recv(fd, ptr(into), into.length, 0) ?? -1;
}

export function closeNetlink(fd: number): void {
  libc()?.close(fd);
}
