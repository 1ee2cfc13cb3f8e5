/** A world that knows what programs have opened in it and not closed yet: sockets, endpoints, paths and timers. */
import type { ByteStream, QuicEndpoint, QuicPath, World } from "../../core/net/world.ts";

export interface CountedWorld {
  readonly world: World;
  /** What is open now, in words. */
  readonly open: () => readonly string[];
}

export function countOpen(world: World): CountedWorld {
  const open = new Map<object, string>();

  /** The same thing, which counts until it is closed; `gone` is called then. */
  function closable<T extends { close(): unknown }>(what: string, thing: T, gone = (): void => undefined): T {
    open.set(thing, what);
    const close = (): unknown => {
      open.delete(thing);
      gone();
      return thing.close();
    };
    return Object.assign(Object.create(thing) as T, { close });
  }

  function counted<S extends ByteStream>(what: string, stream: S): S {
    open.set(stream, what);
    const own: Pick<ByteStream, "attach" | "abort"> = {
      attach: (handlers) =>
        stream.attach({
          data: (bytes) => handlers.data(bytes),
          drain: () => handlers.drain(),
          end: () => handlers.end(),
          close(error) {
            open.delete(stream);
            handlers.close(error);
          },
        }),
      abort(reason) {
        open.delete(stream);
        stream.abort(reason);
      },
    };
    return Object.assign(Object.create(stream) as S, own);
  }

  const openQuic: NonNullable<World["openQuic"]> = async (options) => {
    const { accept } = options;
    const paths: QuicPath[] = [];
    const path = (how: string, made: QuicPath): QuicPath => {
      paths.push(made);
      return counted(`a QUIC path that was ${how}`, made);
    };
    const accepting = accept && { accept: (made: QuicPath) => accept(path("accepted", made)) };
    const endpoint = (await world.openQuic?.({ ...options, ...accepting })) as QuicEndpoint;
    const made: QuicEndpoint = Object.assign(Object.create(endpoint) as QuicEndpoint, {
      connect: async (to: Parameters<QuicEndpoint["connect"]>[0]) =>
        path("connected", await endpoint.connect(to)),
    });
    // Its paths end with it.
    return closable(`QUIC on ${endpoint.local.port}`, made, () => {
      for (const one of paths) open.delete(one);
    });
  };

  return {
    open: () => [...open.values()],
    world: {
      ...world,
      time: {
        ...world.time,
        after(delayMs, fire, options) {
          const mark = {};
          open.set(mark, `a timer of ${delayMs} ms`);
          const timer = world.time.after(
            delayMs,
            () => {
              open.delete(mark);
              fire();
            },
            options,
          );
          const cancel = (): void => {
            open.delete(mark);
            timer.cancel();
          };
          return { cancel };
        },
      },
      openUdp: async (options) => {
        const socket = await world.openUdp(options);
        return closable(`UDP on ${socket.local.port}`, socket);
      },
      listenTcp: async (options) => {
        const accept = (stream: ByteStream): void => options.accept(counted("TCP that was accepted", stream));
        const listener = await world.listenTcp({ ...options, accept });
        return closable(`a TCP listener on ${listener.local.port}`, listener);
      },
      connectTcp: async (options) => counted("TCP that was connected", await world.connectTcp(options)),
      openQuic,
      secure: async (stream, options) => counted("TLS", await world.secure(stream, options)),
    },
  };
}
