/**
 * The plain way to connect TCP, by host and port through Bun alone, for platforms where the project has no
 * system calls. Bun cannot give up such a connect: a cancelled one is closed when its outcome is known.
 */
import type { Endpoint } from "../ip.ts";
import { endpointsOf } from "./socket-endpoints.ts";
import { type BunSocket, createSocketStream, SOCKET_HANDLERS, type SocketEvents } from "./socket-stream.ts";
import type { ByteStream } from "./world.ts";

/** One connect under way. */
export interface ConnectAttempt {
  readonly done: Promise<ByteStream>;
  /** Closes what there is, now or as soon as it can be. */
  cancel(): void;
}

/** Connects to `remote`, from wherever the system likes. */
export function connectByName(remote: Endpoint): ConnectAttempt {
  let cancelled = false;
  const ignore: SocketEvents = { data() {}, drain() {}, end() {}, close() {}, error() {} };
  const done = Bun.connect<SocketEvents>({
    hostname: remote.ip,
    port: remote.port,
    allowHalfOpen: true,
    data: ignore,
    socket: { ...SOCKET_HANDLERS, connectError() {} },
  }).then((opened) => {
    const socket = opened as BunSocket;
    const ends = endpointsOf(socket);
    const { stream, events } = createSocketStream(socket, ends.local, ends.remote);
    socket.data = events;
    if (cancelled) stream.abort();
    return stream;
  });
  return {
    done,
    cancel() {
      cancelled = true;
    },
  };
}
