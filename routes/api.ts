/**
 * Starts the REST API: the HTTP server on a private socket, and in front of it the door on the port (and, where
 * configured, on a unix socket) that clients use.
 */
import { lstatSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { P2pdError, toP2pdError } from "../core/errors.ts";
import { type Endpoint, formatEndpoint } from "../core/ip.ts";
import type { Log } from "../core/log.ts";
import type { ByteStream, World } from "../core/net/world.ts";
import type { NodeApi } from "../core/node/node-api.ts";
import { createApp } from "./app.ts";
import { connectionRoutes } from "./connections.ts";
import { createDoor, type DoorLimits } from "./door.ts";
import { EVENT_LIMITS, type EventCounts, type EventLimits, eventRoutes } from "./events.ts";
import { exchangeRoutes } from "./exchange.ts";
import { createGuard, type Guard, openGuard } from "./guard.ts";
import { informationRoutes } from "./information.ts";
import { openPipeConnection } from "./pipe-connection.ts";
import { describeApi } from "./open-api.ts";
import { natRoutes } from "./nat.ts";
import { pageRoutes } from "./pages.ts";
import { peerRoutes } from "./peers.ts";
import { pipeRoutes } from "./pipes.ts";
import { portMappingRoutes } from "./portmap.ts";
import type { Route } from "./route.ts";
import { serviceRoutes } from "./services.ts";

export interface ApiConfig {
  readonly apiHost: string;
  /** 0: any free one. */
  readonly apiPort: number;
  readonly apiToken?: string;
  /** Path of a unix socket that offers the API too, to whoever may open the file (mode 0600). */
  readonly apiSocket?: string;
}

export interface ApiOptions {
  readonly log?: Log;
  readonly doorLimits?: DoorLimits;
  readonly eventLimits?: EventLimits;
}

export interface Api {
  readonly local: Endpoint;
  /** `http://127.0.0.1:12333/` */
  readonly url: string;
  /** Stops listening and ends what is being answered; pipes stay with their connections. */
  close(): Promise<void>;
}

/**
 * Resolves when the API answers. Rejects with `address-in-use` where another program has the port or the socket,
 * `unreachable` where this machine has no such address, `unsupported` for a unix socket where there are none.
 */
export async function startApi(
  world: World,
  node: NodeApi,
  config: ApiConfig,
  options: ApiOptions = {},
): Promise<Api> {
  const eventCounts: EventCounts = { eventClients: 0, slowEventClients: 0 };
  const closers: (() => unknown)[] = [];
  const close = async (): Promise<void> => {
    for (const closer of closers.splice(0).toReversed()) await closer();
  };

  const counts = (): Record<string, number> => ({ ...main.door.counts, ...eventCounts });
  const routes: Route[] = [
    ...informationRoutes(node, counts),
    ...natRoutes(node),
    ...connectionRoutes(node),
    ...exchangeRoutes(node),
    ...eventRoutes(world, node, eventCounts, options.eventLimits ?? EVENT_LIMITS),
    ...serviceRoutes(node),
    ...peerRoutes(node),
    ...portMappingRoutes(node),
    ...pipeRoutes(),
  ];
  const hasToken = config.apiToken !== undefined;
  routes.push(...pageRoutes(() => describeApi(routes, node.version, hasToken)));
  const open = (guard: Guard) => {
    const inside = startInside(world, routes, guard, options.log);
    closers.push(inside.close);
    const door = createDoor({
      time: world.time,
      connectInside: inside.connect,
      takePipe: (request, client, early) => openPipeConnection(world, node, guard, request, client, early),
      ...(options.doorLimits === undefined ? {} : { limits: options.doorLimits }),
    });
    closers.push(() => door.close());
    return { door };
  };

  const main = open(createGuard(config));
  try {
    const [ip] = await world.lookup(config.apiHost);
    const local: Endpoint = { ip: ip ?? config.apiHost, port: config.apiPort };
    const listener = await world.listenTcp({ local, accept: main.door.accept }).catch((thrown: unknown) => {
      throw explainTaken(thrown, local);
    });
    closers.push(() => listener.close());
    if (config.apiSocket !== undefined) {
      const listener = await listenOnSocket(world, config.apiSocket, open(openGuard).door.accept);
      closers.push(() => listener.close());
    }
    return { local: listener.local, url: `http://${formatEndpoint(listener.local)}/`, close };
  } catch (thrown) {
    await close();
    throw thrown;
  }
}

interface Inside {
  readonly connect: () => Promise<ByteStream>;
  readonly close: () => Promise<void>;
}

/**
 * The HTTP server, on a socket in a directory of its owner's, or on a free port of loopback where there are no
 * such sockets. The guard stands behind either, so that the port gives no more than the door does.
 */
function startInside(world: World, routes: readonly Route[], guard: Guard, log: Log | undefined): Inside {
  const app = createApp({ routes, guard, log });
  // Requests may wait long for a message or a connection, and bodies have any length.
  const serve = { idleTimeout: 0, maxRequestBodySize: Number.MAX_SAFE_INTEGER, development: false };
  const { unix } = world;
  const directory = unix === undefined ? undefined : mkdtempSync(join(tmpdir(), "p2pd-"));
  const remove = (): void => {
    if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
  };
  if (unix !== undefined && directory !== undefined) {
    const path = join(directory, "api");
    process.once("exit", remove);
    app.listen({ ...serve, unix: path } as never);
    return {
      connect: () => unix.connect(path),
      close: async () => {
        await app.stop(true);
        remove();
        process.off("exit", remove);
      },
    };
  }
  app.listen({ ...serve, hostname: "127.0.0.1", port: 0 });
  const remote: Endpoint = { ip: "127.0.0.1", port: app.server?.port ?? 0 };
  return {
    connect: () => world.connectTcp({ remote, timeoutMs: 1000 }),
    close: async () => {
      await app.stop(true);
    },
  };
}

function explainTaken(thrown: unknown, local: Endpoint): P2pdError {
  const error = toP2pdError(thrown);
  if (error.code !== "address-in-use") return error;
  return new P2pdError(
    "address-in-use",
    `the API cannot listen on ${formatEndpoint(local)}: another program has this port. If that is a p2pd, use it or stop it; otherwise choose another port with apiPort (--api-port, P2PD_API_PORT)`,
    { ...local },
    { cause: error },
  );
}

/** A socket that nobody listens on, left behind by a program that was killed, is replaced. */
async function listenOnSocket(
  world: World,
  path: string,
  accept: (stream: ByteStream) => void,
): Promise<{ close(): void }> {
  const { unix } = world;
  if (unix === undefined)
    throw new P2pdError("unsupported", `apiSocket is ${path}, but this platform has no unix sockets`);
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true) {
    const other = await unix.connect(path).catch(() => undefined);
    if (other === undefined) rmSync(path, { force: true });
    other?.abort();
  }
  return unix.listen(path, accept).catch((thrown: unknown) => {
    const error = toP2pdError(thrown);
    throw new P2pdError(
      error.code,
      `the API cannot listen on the socket ${path}: ${error.message}`,
      {},
      { cause: error },
    );
  });
}
