/**
 * What differs between the operating systems that native sockets run on: library names, the numbers of
 * options and errors, and the layout of a socket address. One value of this form per platform; the calls
 * themselves are in `sockets.ts`.
 */

/** Numbers of `<sys/socket.h>`, `<netinet/in.h>` and `<errno.h>` on one platform. */
export interface Platform {
  readonly name: string;
  /** Names under which the C library may be found, best first. */
  readonly libraries: readonly string[];
  /** The function that returns the address of `errno`. */
  readonly errnoSymbol: "__errno_location" | "__error";
  /** Whether a socket address begins with an octet that holds its length (BSD). */
  readonly addressHasLength: boolean;
  readonly AF_INET: number;
  readonly AF_INET6: number;
  /** Flags of `socket` that make it non-blocking and close-on-exec; 0: `fcntl` must do that. */
  readonly streamFlags: number;
  readonly O_NONBLOCK: number;
  readonly SOL_SOCKET: number;
  readonly SO_REUSEADDR: number;
  readonly SO_REUSEPORT: number;
  readonly SO_ERROR: number;
  readonly SO_TYPE: number;
  readonly SO_LINGER: number;
  readonly SO_RCVBUF: number;
  readonly IPV6_V6ONLY: number;
  /** How a datagram socket is told whether its packets may be fragmented, at the level of its family. */
  readonly fragments: {
    readonly option4: number;
    readonly option6: number;
    readonly forbid: number;
    readonly allow: number;
  };
  /** How a socket is tied to a NIC: by name at SOL_SOCKET, or by index at the level of its family. */
  readonly device:
    | { readonly by: "name"; readonly option: number }
    | { readonly by: "index"; readonly option4: number; readonly option6: number };
  /** Names of the error numbers that a caller may want to tell apart. */
  readonly errors: Readonly<Record<number, string>>;
}
