/**
 * Waits for others on one address: a pipe per connection over TCP, one pipe for all senders over UDP. Many
 * addresses and transports at once are the business of `daemon.ts`.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import type { Endpoint } from "../ip.ts";
import { defaultWorld } from "../net/default-world.ts";
import type { World } from "../net/world.ts";
import type { PipeRoute, Transport } from "./open-pipe.ts";
import { Pipe, type PipeOptions } from "./pipe.ts";
import { streamChannel } from "./stream-channel.ts";
import { udpChannel } from "./udp-channel.ts";

export interface ListenPipeOptions extends Partial<Omit<PipeOptions, "time">> {
  /** Connections open at once; further ones are refused and counted. 4096 by default. */
  readonly maxPipes?: number;
}

export interface Listening {
  readonly transport: Transport;
  /** With the port that was really taken. */
  readonly local: Endpoint;
  /** Connections refused because `maxPipes` were open. */
  readonly refused: number;
  /** Stops listening. Connections that are open go on; the pipe of a UDP socket is closed. */
  close(): Promise<void>;
}

const DEFAULT_MAX_PIPES = 4096;

/**
 * Calls `onPipe` with every connection (TCP), or once, before this resolves, with the pipe of the socket (UDP), on
 * which `message.from` tells senders apart and `send(reply, from)` answers. When `onPipe` throws or rejects, that
 * pipe is closed with the reason. Without `route.local` it listens on
 * every IPv4 address, on any free port. Rejects with `address-in-use`, `unreachable`, `unsupported`.
 */
export function listen(
  route: PipeRoute,
  transport: Transport,
  onPipe: (pipe: Pipe) => void | Promise<void>,
  options: ListenPipeOptions = {},
): Promise<Listening> {
  const world = route.world ?? defaultWorld();
  const place = {
    local: route.local ?? { ip: "0.0.0.0", port: 0 },
    ...(route.device === undefined ? {} : { device: route.device }),
  };
  const greet = (pipe: Pipe) => {
    const failed = (thrown: unknown) => {
      void pipe.close(toP2pdError(thrown, "internal", "onPipe threw"));
    };
    try {
      onPipe(pipe)?.catch(failed);
    } catch (thrown) {
      failed(thrown);
    }
  };
  if (transport === "tcp") return listenTcp(world, place, greet, options);
  if (transport === "udp") return listenUdp(world, place, greet, options);
  return Promise.reject(
    new P2pdError("bad-argument", `"${String(transport)}" is no transport; expected tcp or udp`),
  );
}

type Place = { readonly local: Endpoint; readonly device?: string };

async function listenTcp(
  world: World,
  place: Place,
  greet: (pipe: Pipe) => void,
  options: ListenPipeOptions,
): Promise<Listening> {
  const { maxPipes = DEFAULT_MAX_PIPES } = options;
  let open = 0;
  let refused = 0;
  const listener = await world.listenTcp({
    ...place,
    accept(stream) {
      if (open >= maxPipes) {
        refused++;
        stream.abort(new P2pdError("refused", `${maxPipes} connections are open already`));
        return;
      }
      open++;
      const pipe = new Pipe(streamChannel(stream), { ...options, time: world.time });
      void pipe.closed.then(() => {
        open--;
      });
      greet(pipe);
    },
  });
  return {
    transport: "tcp",
    local: listener.local,
    get refused() {
      return refused;
    },
    close() {
      listener.close();
      return Promise.resolve();
    },
  };
}

async function listenUdp(
  world: World,
  place: Place,
  greet: (pipe: Pipe) => void,
  options: ListenPipeOptions,
): Promise<Listening> {
  const socket = await world.openUdp(place);
  const pipe = new Pipe(udpChannel(socket), { ...options, time: world.time });
  greet(pipe);
  return { transport: "udp", local: socket.local, refused: 0, close: () => pipe.close() };
}
