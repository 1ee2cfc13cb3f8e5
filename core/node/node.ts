/**
 * A node: one key, one listener, what it offers and the connections it has. Puts the parts together and keeps the
 * rules between them; each part's own rules are in its own file.
 */
import manifest from "../../package.json" with { type: "json" };
import { P2pdError } from "../errors.ts";
import type { World } from "../net/world.ts";
import { type Address, decodeAddress, isNodeId } from "../wire/address.ts";
import { Arrivals } from "./arrivals.ts";
import { Connections } from "./connections.ts";
import { describeConnection, type Origin } from "./describe-connection.ts";
import { type DialledSession, dial } from "./dial.ts";
import { type Identity, openIdentity } from "./identity.ts";
import type { InterfaceDescription } from "./interface.ts";
import { Listener } from "./listener.ts";
import { Network } from "./network.ts";
import type {
  Connection,
  NodeApi,
  NodeEvent,
  OpenOptions,
  ServiceDescription,
  StatusPart,
} from "./node-api.ts";
import type { NodeConfig } from "./node-config.ts";
import { composeAddress } from "./own-address.ts";
import { Pipe } from "./pipe.ts";
import { Services } from "./services.ts";

/** How long `close` waits for the peer before it lets that go on behind it. */
const CLOSE_WAIT_MS = 500;

export class Node implements NodeApi {
  readonly version = manifest.version;
  readonly #world: World;
  readonly #config: NodeConfig;
  readonly #identity: Identity;
  readonly #services: Services;
  readonly #connections: Connections;
  readonly #arrivals: Arrivals;
  readonly #listeners = new Set<(event: NodeEvent) => void>();
  readonly #stopping = new AbortController();
  readonly #opening = new Set<Promise<unknown>>();
  #listener!: Listener;
  #network!: Network;
  #closed: Promise<void> | undefined;

  private constructor(world: World, config: NodeConfig, identity: Identity) {
    this.#world = world;
    this.#config = config;
    this.#identity = identity;
    this.#services = new Services(world);
    this.#connections = new Connections(world.time, (connection, reason) => {
      this.#emit("closed", {
        name: connection.name,
        peer: connection.peer.id,
        reason: reason?.message ?? "",
      });
    });
    this.#arrivals = new Arrivals({
      world,
      id: identity.id,
      services: this.#services,
      connections: this.#connections,
      put: (pipe, origin) => this.#put(pipe, origin),
      emit: (event, data) => this.#emit(event, data),
    });
    for (const { name, to, allow } of config.services ?? []) this.#services.put(name, to, allow);
  }

  /**
   * Starts a node; what it learns of the network it learns later. Rejects with `configuration`, `corrupt-file`
   * (see `openIdentity`), `bad-argument` (a configured service) or `address-in-use` (the configured port).
   */
  static async start(world: World, config: NodeConfig): Promise<Node> {
    const identity = openIdentity(config.dataDir, world);
    try {
      const node = new Node(world, config, identity);
      node.#listener = await Listener.open(world, {
        credentials: identity.credentials,
        machineId: identity.machineId,
        ...(config.listenPort === undefined ? {} : { port: config.listenPort }),
        ...(config.interfaces === undefined ? {} : { interfaces: config.interfaces }),
        arrived: (arrival) => {
          node.#arrivals.arrived(arrival);
        },
      });
      node.#network = new Network(world, {
        stunServers: config.stunServers,
        ...(config.interfaces === undefined ? {} : { interfaces: config.interfaces }),
        changed: () => {
          node.#emit("network", { addr: node.address() });
        },
      });
      // A task later, so that who awaits the start can subscribe first.
      const ready = (): void => node.#emit("ready", { id: node.id, addr: node.address() });
      world.time.after(0, ready, { background: true });
      return node;
    } catch (error) {
      identity.release();
      throw error;
    }
  }

  get id(): string {
    return this.#identity.id;
  }

  /** TCP port that the node listens on. */
  get port(): number {
    return this.#listener.port;
  }

  address(): string {
    return composeAddress({
      id: this.id,
      machine: this.#identity.machineId,
      port: this.port,
      families: ([4, 6] as const).filter((family) => this.#listener.has(family)),
      interfaces: this.#network.used,
    });
  }

  interfaces(): readonly InterfaceDescription[] {
    return this.#network.interfaces.map((nic) => nic.describe());
  }

  status(): readonly StatusPart[] {
    const { accepted, strangers, turnedAway, failed } = this.#listener.counters;
    const tcp = ([4, 6] as const).map((family): StatusPart => {
      const up = this.#listener.has(family);
      const detail = up ? `listening on port ${this.port}` : this.#listener.failureOf(family);
      return { part: `tcp${family}`, state: up ? "up" : "down", detail };
    });
    const incoming = `${accepted} accepted, ${strangers} not yet authenticated, ${turnedAway} turned away, ${failed} failed before their greeting; ${this.#arrivals.summary}`;
    const configured = this.#config.mqttBrokers.length;
    return [
      ...tcp,
      { part: "incoming", state: "up", detail: incoming },
      this.#network.status,
      {
        part: "brokers",
        state: "off",
        detail: `${configured} configured; this version has no signaling, so peers are reached by direct connects only`,
      },
      { part: "portmap", state: "off", detail: "this version asks no router to forward ports" },
    ];
  }

  async open(name: string, target: string, options: OpenOptions = {}): Promise<Connection> {
    this.#connections.reserve(name);
    try {
      this.#refuseWhenClosed();
      const peer = this.#resolve(target);
      const strategies = this.#config.strategies;
      const { signal } = this.#stopping;
      const dialling = dial(
        {
          world: this.#world,
          identity: this.#identity,
          signal,
          strategies,
          externals: this.#network.externals,
        },
        peer,
        options,
      );
      this.#opening.add(dialling);
      const dialled = await dialling.finally(() => this.#opening.delete(dialling));
      if (signal.aborted) {
        dialled.session.abort();
        this.#refuseWhenClosed();
      }
      return this.#opened(name, peer.id, dialled, options.service);
    } catch (error) {
      this.#connections.cancel(name);
      this.#refuseWhenClosed();
      throw error;
    }
  }

  connection(name: string): Connection {
    return this.#connections.get(name);
  }

  connections(): readonly Connection[] {
    return this.#connections.list();
  }

  /**
   * With a name: ends that connection, see `NodeApi`. Without: ends every connection, stops listening and gives the
   * data directory free; may be called more than once.
   */
  close(name?: string): Promise<void> {
    if (name !== undefined) return this.#closeConnection(name);
    this.#closed ??= this.#stop();
    return this.#closed;
  }

  async #closeConnection(name: string): Promise<void> {
    const closing = this.#connections.close(name);
    let waited = (): void => undefined;
    const timer = this.#world.time.after(CLOSE_WAIT_MS, () => waited(), { background: true });
    await Promise.race([closing, new Promise<void>((resolve) => (waited = resolve))]);
    timer.cancel();
  }

  accept(timeoutMs: number, signal?: AbortSignal): Promise<Connection | undefined> {
    return this.#arrivals.accept(timeoutMs, signal);
  }

  /** Gives every incoming connection from now on to `listener`, instead of the queue; returns how to stop that. */
  onConnection(listener: (connection: Connection) => void): () => void {
    return this.#arrivals.onConnection(listener);
  }

  subscribe(listener: (event: NodeEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  services(): readonly ServiceDescription[] {
    return this.#services.list();
  }

  putService(name: string, to: string, allow?: readonly string[]): ServiceDescription {
    return this.#services.put(name, to, allow);
  }

  deleteService(name: string): void {
    this.#services.delete(name);
  }

  async #stop(): Promise<void> {
    const reason = new P2pdError("closed", "the node was stopped");
    this.#stopping.abort();
    this.#network.close();
    this.#listener.close();
    this.#arrivals.stopWaiting();
    await Promise.allSettled(this.#opening);
    await Promise.all([this.#connections.closeAll(reason), this.#arrivals.close(reason)]);
    this.#listeners.clear();
    this.#identity.release();
  }

  #refuseWhenClosed(): void {
    if (this.#stopping.signal.aborted) throw new P2pdError("closed", "the node was stopped");
  }

  /** An address for what the user wrote. */
  #resolve(target: string): Address {
    if (target === "self" || target === this.id) return this.#ownAddress();
    if (isNodeId(target)) {
      throw new P2pdError(
        "no-such-peer",
        `nothing but its id is known of ${target}, and there is no signaling to look it up; open its address line`,
      );
    }
    const address = decodeAddress(target);
    return address.id === this.id ? this.#ownAddress() : address;
  }

  /** What an old line says of ourselves does not matter: we know where we listen. */
  #ownAddress(): Address {
    const family = this.#listener.has(4) ? 4 : 6;
    return {
      id: this.id,
      machine: this.#identity.machineId,
      brokers: [],
      nics: [
        {
          index: 0,
          family,
          address: family === 4 ? "127.0.0.1" : "::1",
          port: this.port,
          nat: "unknown",
          delta: "unknown",
          deltaValue: 0,
        },
      ],
    };
  }

  #opened(name: string, peerId: string, dialled: DialledSession, service?: string): Connection {
    const { session, path, timeline, beganAt } = dialled;
    const pipe = new Pipe(session, { time: this.#world.time });
    const connection = this.#put(pipe, {
      name,
      session,
      direction: "out",
      strategy: path.strategy,
      transport: path.transport,
      peerId,
      cipher: path.stream.cipher,
      rttMs: path.rttMs,
      timeline,
      beganAt,
      ...(service === undefined ? {} : { service }),
    });
    this.#emit("opened", { name, peer: peerId, path: connection.path });
    return connection;
  }

  #put(pipe: Pipe, origin: Origin): Connection {
    const connection = describeConnection(this.#world, this.#network, pipe, origin);
    this.#connections.put(connection);
    return connection;
  }

  #emit(event: NodeEvent["event"], data: NodeEvent["data"]): void {
    for (const listener of this.#listeners) listener({ event, data });
  }
}
