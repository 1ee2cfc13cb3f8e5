/**
 * A server with one `message` for IPv4, IPv6, TCP and UDP alike. Opens the sockets through `listen.ts` and keeps
 * the pipes; what is said on them is the subclass's business.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import type { Endpoint } from "../ip.ts";
import type { World } from "../net/world.ts";
import { type Listening, type ListenPipeOptions, listen } from "./listen.ts";
import type { PipeRoute, Transport } from "./open-pipe.ts";
import type { Pipe } from "./pipe.ts";

export interface DaemonOptions extends ListenPipeOptions {
  /** "tcp" and "udp" by default. */
  readonly transports?: readonly Transport[];
  /** For every route that names no port; 0, the default: one free port for all of them. */
  readonly port?: number;
  /** Whose sockets; by default this machine's. */
  readonly world?: World;
}

/** Where a daemon listens that is given no routes. A machine may lack one of the families. */
const EVERYWHERE: readonly PipeRoute[] = [
  { local: { ip: "0.0.0.0", port: 0 } },
  { local: { ip: "::", port: 0 } },
];
/** Promises of `message` for datagrams that may be unsettled at once. */
const MAX_UNSETTLED = 1024;
const PORT_TRIES = 8;

export abstract class Daemon {
  readonly #listening: Listening[] = [];
  readonly #pipes = new Set<Pipe>();
  #unsettled = 0;
  #dropped = 0;
  #closed = false;

  /**
   * A piece of a stream, or one datagram. `pipe.send(reply, from)` answers either. When a promise is returned, a
   * stream is not read further until it settles, which passes the peer's slowness on; datagrams go on, with at
   * most 1024 promises open.
   */
  abstract message(msg: Uint8Array, from: Endpoint, pipe: Pipe): void | Promise<void>;

  /** A connection came, or a UDP socket opened. */
  up?(pipe: Pipe): void;

  /** It is gone: with the reason, or undefined after an orderly end. */
  down?(pipe: Pipe, reason: P2pdError | undefined): void;

  /** `message`, `up` or `down` failed. Unless overridden this ends the connection concerned; a UDP socket goes on. */
  failed(error: P2pdError, pipe: Pipe): void {
    if (pipe.kind === "stream") void pipe.close(error);
  }

  /** Connections and UDP sockets that are open. */
  get pipes(): ReadonlySet<Pipe> {
    return this.#pipes;
  }

  /** Where it listens. */
  get listening(): readonly Listening[] {
    return this.#listening;
  }

  /** Datagrams thrown away because 1024 promises of `message` were open. */
  get dropped(): number {
    return this.#dropped;
  }

  /**
   * Listens on every route with every transport; without routes on all addresses of the machine. Resolves with the
   * places, all on one port if the routes leave it open. Rejects, with nothing left open, with `address-in-use`,
   * `unreachable`, `unsupported`, or `closed` after `close`.
   */
  async start(
    routes?: readonly PipeRoute[],
    options: DaemonOptions = {},
  ): Promise<readonly [Listening, ...Listening[]]> {
    for (let tries = 1; ; tries++) {
      if (this.#closed) throw new P2pdError("closed", "the daemon was closed");
      const opened: Listening[] = [];
      try {
        await this.#open(routes ?? EVERYWHERE, options, routes === undefined, opened);
        if (this.#closed) throw new P2pdError("closed", "the daemon was closed");
        this.#listening.push(...opened);
        return opened as [Listening, ...Listening[]];
      } catch (thrown) {
        await Promise.all(opened.map((listening) => listening.close()));
        const error = toP2pdError(thrown);
        const elsewhere = error.code === "address-in-use" && opened.length > 0 && (options.port ?? 0) === 0;
        if (!elsewhere || tries >= PORT_TRIES) throw error;
      }
    }
  }

  async #open(
    routes: readonly PipeRoute[],
    options: DaemonOptions,
    lenient: boolean,
    opened: Listening[],
  ): Promise<void> {
    const { transports = ["tcp", "udp"], port = 0, world } = options;
    let common = port;
    let failure: P2pdError | undefined;
    for (const route of routes) {
      const { ip, port: own } = route.local ?? { ip: "0.0.0.0", port: 0 };
      for (const transport of transports) {
        const place = {
          ...(world === undefined ? {} : { world }),
          ...route,
          local: { ip, port: own === 0 ? common : own },
        };
        try {
          const listening = await listen(place, transport, (pipe) => this.#serve(pipe), options);
          opened.push(listening);
          if (own === 0) common = listening.local.port;
        } catch (thrown) {
          failure = toP2pdError(thrown);
          const absent = failure.code === "unreachable" || failure.code === "unsupported";
          if (!lenient || !absent) throw failure;
        }
      }
    }
    if (opened.length === 0)
      throw failure ?? new P2pdError("bad-argument", "a daemon needs a route and a transport");
  }

  /** Stops listening and closes every pipe; resolves when all are closed. */
  async close(): Promise<void> {
    this.#closed = true;
    const places = this.#listening.splice(0);
    await Promise.all([
      ...places.map((place) => place.close()),
      ...[...this.#pipes].map((pipe) => pipe.close()),
    ]);
  }

  #serve(pipe: Pipe): void {
    this.#pipes.add(pipe);
    void pipe.closed.then((reason) => {
      this.#pipes.delete(pipe);
      this.#guard(pipe, () => this.down?.(pipe, reason));
    });
    this.#guard(pipe, () => this.up?.(pipe));
    if (pipe.kind === "datagram") this.#serveDatagrams(pipe);
    else void this.#serveStream(pipe);
  }

  async #serveStream(pipe: Pipe): Promise<void> {
    try {
      for await (const { bytes, from } of pipe) {
        try {
          await this.message(bytes, from, pipe);
        } catch (thrown) {
          this.#fail(thrown, pipe);
        }
      }
      pipe.end();
    } catch {
      // The connection broke: `down` is told why.
    }
  }

  #serveDatagrams(pipe: Pipe): void {
    pipe.onMessage(({ bytes, from }) => {
      if (this.#unsettled >= MAX_UNSETTLED) {
        this.#dropped++;
        return;
      }
      this.#guard(pipe, () => {
        const result = this.message(bytes, from, pipe);
        if (!(result instanceof Promise)) return;
        this.#unsettled++;
        result.then(
          () => {
            this.#unsettled--;
          },
          (thrown: unknown) => {
            this.#unsettled--;
            this.#fail(thrown, pipe);
          },
        );
      });
    });
  }

  #guard(pipe: Pipe, call: () => void): void {
    try {
      call();
    } catch (thrown) {
      this.#fail(thrown, pipe);
    }
  }

  #fail(thrown: unknown, pipe: Pipe): void {
    const error = toP2pdError(thrown, "internal", "a daemon's method threw");
    try {
      this.failed(error, pipe);
    } catch (second) {
      void pipe.close(toP2pdError(second));
    }
  }
}
