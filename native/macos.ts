/** Socket numbers of macOS on x64 and arm64. */
import type { Platform } from "./platform.ts";

export const macos: Platform = {
  name: "darwin",
  libraries: ["libSystem.B.dylib", "/usr/lib/libSystem.B.dylib"],
  errnoSymbol: "__error",
  addressHasLength: true,
  AF_INET: 2,
  AF_INET6: 30,
  streamFlags: 0,
  O_NONBLOCK: 0x0004,
  SOL_SOCKET: 0xffff,
  SO_REUSEADDR: 0x0004,
  SO_REUSEPORT: 0x0200,
  SO_ERROR: 0x1007,
  SO_TYPE: 0x1008,
  SO_LINGER: 0x1080, // SO_LINGER_SEC: the plain SO_LINGER counts ticks
  SO_RCVBUF: 0x1002,
  IPV6_V6ONLY: 27,
  fragments: { option4: 28, option6: 62, forbid: 1, allow: 0 }, // IP_DONTFRAG, IPV6_DONTFRAG
  device: { by: "index", option4: 25, option6: 125 }, // IP_BOUND_IF, IPV6_BOUND_IF
  errors: {
    1: "EPERM",
    4: "EINTR",
    13: "EACCES",
    19: "ENODEV",
    22: "EINVAL",
    23: "ENFILE",
    24: "EMFILE",
    32: "EPIPE",
    35: "EAGAIN",
    36: "EINPROGRESS",
    37: "EALREADY",
    47: "EAFNOSUPPORT",
    48: "EADDRINUSE",
    49: "EADDRNOTAVAIL",
    50: "ENETDOWN",
    51: "ENETUNREACH",
    53: "ECONNABORTED",
    54: "ECONNRESET",
    57: "ENOTCONN",
    60: "ETIMEDOUT",
    61: "ECONNREFUSED",
    64: "EHOSTDOWN",
    65: "EHOSTUNREACH",
  },
};
