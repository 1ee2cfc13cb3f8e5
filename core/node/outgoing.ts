/** The connections that this node opens: from whom a name or line means to a connection under its name. */
import type { World } from "../net/world.ts";
import { P2pdError } from "../errors.ts";
import { noCost } from "../connect/punch-cost.ts";
import type { Connections } from "./connections.ts";
import type { Origin } from "./describe-connection.ts";
import { dial, type DialContext, type DialledSession, reach, type Reached, type Target } from "./dial.ts";
import type { Identity } from "./identity.ts";
import type { Listener } from "./listener.ts";
import type { Network } from "./network.ts";
import type { Connection, NodeEvent, OpenOptions } from "./node-api.ts";
import type { NodeConfig } from "./node-config.ts";
import { loopbackAddress } from "./own-address.ts";
import type { Peers } from "./peers.ts";
import { Pipe } from "./pipe.ts";
import type { Punching } from "./punching.ts";
import { resolveTarget } from "./resolve-target.ts";
import type { SessionKeeping } from "./session-keeping.ts";
import type { Signals } from "./signals.ts";

/** What is there once the node has started. */
export interface OutgoingParts {
  readonly network: Network;
  readonly listener: Listener;
  readonly signals: Signals;
  readonly keeping: SessionKeeping;
  readonly punching: Punching;
}

export interface OutgoingOptions {
  readonly world: World;
  readonly config: NodeConfig;
  readonly identity: Identity;
  readonly connections: Connections;
  readonly peers: Peers;
  /** Fires when the node stops. */
  readonly stopping: AbortSignal;
  readonly parts: () => OutgoingParts;
  /** Makes a connection of a session and puts it under its reserved name. */
  readonly put: (pipe: Pipe, origin: Origin) => Connection;
  readonly emit: (event: NodeEvent["event"], data: NodeEvent["data"]) => void;
}

export class Outgoing {
  readonly #options: OutgoingOptions;
  readonly #opening = new Set<Promise<unknown>>();

  constructor(options: OutgoingOptions) {
    this.#options = options;
  }

  /** See `NodeApi.open`. */
  async open(name: string, to: string, options: OpenOptions): Promise<Connection> {
    const { connections, stopping } = this.#options;
    connections.reserve(name);
    try {
      this.#refuseWhenStopped();
      const target = this.#resolve(to);
      const dialling = dial(this.#context(stopping), target, options);
      this.#opening.add(dialling);
      const dialled = await dialling.finally(() => this.#opening.delete(dialling));
      if (stopping.aborted) {
        dialled.session.abort();
        this.#refuseWhenStopped();
      }
      return this.#opened(name, target, dialled, options);
    } catch (error) {
      connections.cancel(name);
      this.#refuseWhenStopped();
      throw error;
    }
  }

  /** A path to a node, on which nothing was said yet. Rejects like an open, and at the latest when `signal` fires. */
  reach(target: Target, options: OpenOptions, signal: AbortSignal): Promise<Reached> {
    const context = this.#context(AbortSignal.any([signal, this.#options.stopping]));
    return reach({ ...context, cost: noCost() }, target, options);
  }

  /** Resolves when nothing is being opened. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#opening);
  }

  #context(signal: AbortSignal): Omit<DialContext, "cost"> {
    const { world, config, identity, parts } = this.#options;
    const { network, listener, signals, punching } = parts();
    const { strategies, relay, relayAfterMs } = config;
    const { externals } = network;
    const { keepAliveMs } = punching;
    const policy = { strategies, relay, relayAfterMs };
    return { world, identity, signal, ...policy, externals, quic: listener.quic, keepAliveMs, signals };
  }

  #opened(name: string, target: Target, dialled: DialledSession, options: OpenOptions): Connection {
    const { world, config, identity, parts, put, emit } = this.#options;
    const { channel, later, ...facts } = dialled;
    const { service, resumeForMs = config.resumeForMs } = options;
    const { id: peerId } = target;
    const pipe = new Pipe(channel, { time: world.time });
    // Both ends of a connection to oneself would be one to the keeper; its path cannot be lost.
    if (peerId !== identity.id)
      parts().keeping.keep(facts.session, { peerId, resumeForMs, target, options, later });
    const served = service === undefined ? {} : { service };
    const connection = put(pipe, { ...facts, name, direction: "out", peerId, ...served });
    emit("opened", { name, peer: peerId, path: connection.path });
    return connection;
  }

  #resolve(to: string): Target {
    const { identity, peers, parts } = this.#options;
    const { id, machineId } = identity;
    const { listener } = parts();
    return resolveTarget(to, {
      // What an old line says of ourselves does not matter: we know where we listen.
      own: () => loopbackAddress(id, machineId, listener.has(4) ? 4 : 6, listener.port),
      peer(name) {
        const peer = peers.get(name);
        return peer?.address ?? peer?.id;
      },
      names: () => peers.list().map(({ name }) => name),
    });
  }

  #refuseWhenStopped(): void {
    if (this.#options.stopping.aborted) throw new P2pdError("closed", "the node was stopped");
  }
}
