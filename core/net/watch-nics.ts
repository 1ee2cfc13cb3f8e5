/**
 * Notices that a NIC, an address or a default route changed: on Linux by notices of the kernel (rtnetlink
 * multicast groups), elsewhere by looking every few seconds. A notice only says when to look; what counts is
 * whether the NICs read differ from those read before.
 */
import type { FdSocketOptions, Socket, TCPSocketConnectOptions } from "bun";
import { closeNetlink, openNetlink } from "../../native/netlink-linux.ts";
import { readNics } from "./nics.ts";
import type { Nic } from "./world.ts";

// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE
const GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
const SETTLE_MS = 75; // changes come in bursts: a link, then its addresses, then its routes
const POLL_MS = 5000;

export interface WatchOptions {
  readonly read?: () => readonly Nic[];
  /** Starts to listen for notices; returns how to stop. Calls `deaf` once there are none to be had (any more). */
  readonly hear?: (noticed: () => void, deaf: () => void) => () => void;
  /** Milliseconds between two looks where the kernel does not tell. */
  readonly pollMs?: number;
}

/**
 * Calls `changed` after the NICs changed. It keeps no process alive.
 * @returns how to stop it; after that `changed` is not called and every resource is free
 */
export function watchNics(changed: () => void, options: WatchOptions = {}): () => void {
  const { read = readNics, hear = hearKernel, pollMs = POLL_MS } = options;
  let settling: ReturnType<typeof setTimeout> | undefined;
  let poll: ReturnType<typeof setInterval> | undefined;
  let stopped = false;

  function look(): void {
    settling = undefined;
    const now = JSON.stringify(read());
    if (now === seen) return;
    seen = now;
    changed();
  }

  function noticed(): void {
    if (stopped || settling !== undefined) return;
    settling = setTimeout(look, SETTLE_MS);
    settling.unref();
  }

  function startPolling(): void {
    if (stopped) return;
    clearInterval(poll);
    poll = setInterval(look, pollMs);
    poll.unref();
  }

  // The source first: a change after the reading is then noticed.
  const closeSource = hear(noticed, startPolling);
  let seen = JSON.stringify(read());
  return () => {
    stopped = true;
    clearTimeout(settling);
    clearInterval(poll);
    closeSource();
  };
}

/**
 * Hears the kernel. The event loop waits on the netlink socket as on any other: reading it is recv(2) like TCP.
 */
function hearKernel(noticed: () => void, deaf: () => void): () => void {
  const fd = process.platform === "linux" ? openNetlink(GROUPS) : -1;
  if (fd < 0) {
    deaf();
    return () => {};
  }
  let socket: Socket | undefined;
  let closed = false;

  function lost(): void {
    if (closed) return;
    closed = true;
    deaf();
  }

  const options: FdSocketOptions = {
    fd,
    socket: {
      open(opened) {
        socket = opened;
        opened.unref();
        if (closed) opened.terminate();
      },
      data: noticed,
      close: lost,
      error: lost,
    },
  };
  // Adopting a descriptor is left out of the declared overloads.
  Bun.connect(options as unknown as TCPSocketConnectOptions).catch(() => {
    closeNetlink(fd);
    lost();
  });
  return () => {
    closed = true;
    socket?.terminate();
  };
}
