/** Local sockets with a path in the file system, as streams: the API's own, within one machine. */
import { chmodSync } from "node:fs";
import { type P2pdError, toP2pdError } from "../errors.ts";
import type { Endpoint } from "../ip.ts";
import { type BunSocket, createSocketStream, SOCKET_HANDLERS, type SocketEvents } from "./socket-stream.ts";
import type { ByteStream, UnixSockets } from "./world.ts";

/** Such a socket has no address. */
const NOWHERE: Endpoint = { ip: "", port: 0 };

/** See `World.unix`. */
export const unixSockets: UnixSockets = {
  async listen(path, accept) {
    // Created without any permission for others, whatever the process allows: there is no moment in between.
    const before = process.umask(0o177);
    try {
      const listener = Bun.listen<SocketEvents>({
        unix: path,
        allowHalfOpen: true,
        socket: {
          ...SOCKET_HANDLERS,
          open(opened) {
            const { stream, events } = createSocketStream(opened as BunSocket, NOWHERE, NOWHERE);
            opened.data = events;
            accept(stream);
          },
        },
      } as Bun.UnixSocketOptions<SocketEvents>);
      chmodSync(path, 0o600);
      return { close: () => listener.stop() };
    } catch (thrown) {
      throw whyNot(thrown, path, "unsupported");
    } finally {
      process.umask(before);
    }
  },
  async connect(path) {
    try {
      let stream: ByteStream | undefined;
      await Bun.connect<SocketEvents>({
        unix: path,
        allowHalfOpen: true,
        socket: {
          ...SOCKET_HANDLERS,
          open(opened) {
            const made = createSocketStream(opened as BunSocket, NOWHERE, NOWHERE);
            opened.data = made.events;
            stream = made.stream;
          },
        },
      } as Bun.UnixSocketOptions<SocketEvents>);
      if (stream === undefined) throw new Error("the connection was not opened");
      return stream;
    } catch (thrown) {
      throw whyNot(thrown, path, "unreachable");
    }
  },
};

function whyNot(thrown: unknown, path: string, otherwise: "unsupported" | "unreachable"): P2pdError {
  const name = (thrown as { code?: unknown } | undefined)?.code;
  const code = name === "EADDRINUSE" ? "address-in-use" : name === "ECONNREFUSED" ? "refused" : otherwise;
  return toP2pdError(thrown, code, `the socket ${path}`);
}
