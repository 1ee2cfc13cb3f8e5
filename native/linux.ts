/** Socket numbers of Linux on x64 and arm64, for glibc and musl. */
import type { Platform } from "./platform.ts";

export const linux: Platform = {
  name: "linux",
  libraries: ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1", "libc.so"],
  errnoSymbol: "__errno_location",
  addressHasLength: false,
  AF_INET: 2,
  AF_INET6: 10,
  streamFlags: 0o4000 | 0o2000000, // SOCK_NONBLOCK | SOCK_CLOEXEC
  O_NONBLOCK: 0o4000,
  SOL_SOCKET: 1,
  SO_REUSEADDR: 2,
  SO_REUSEPORT: 15,
  SO_ERROR: 4,
  SO_TYPE: 3,
  SO_LINGER: 13,
  SO_RCVBUF: 8,
  IPV6_V6ONLY: 26,
  fragments: { option4: 10, option6: 23, forbid: 2, allow: 0 }, // IP_MTU_DISCOVER, IPV6_MTU_DISCOVER
  device: { by: "name", option: 25 }, // SO_BINDTODEVICE
  errors: {
    1: "EPERM",
    4: "EINTR",
    11: "EAGAIN",
    13: "EACCES",
    19: "ENODEV",
    22: "EINVAL",
    23: "ENFILE",
    24: "EMFILE",
    32: "EPIPE",
    97: "EAFNOSUPPORT",
    98: "EADDRINUSE",
    99: "EADDRNOTAVAIL",
    100: "ENETDOWN",
    101: "ENETUNREACH",
    103: "ECONNABORTED",
    104: "ECONNRESET",
    107: "ENOTCONN",
    110: "ETIMEDOUT",
    111: "ECONNREFUSED",
    112: "EHOSTDOWN",
    113: "EHOSTUNREACH",
    114: "EALREADY",
    115: "EINPROGRESS",
  },
};
