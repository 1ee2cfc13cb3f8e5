/**
 * A node: one key, one listener, what it offers and the connections it has. Puts the parts together and keeps the
 * rules between them; each part's own rules are in its own file.
 */
import manifest from "../../package.json" with { type: "json" };
import { P2pdError } from "../errors.ts";
import { createLog, type Log } from "../log.ts";
import type { World } from "../net/world.ts";
import { Arrivals } from "./arrivals.ts";
import { Connections } from "./connections.ts";
import { describeConnection, type Origin } from "./describe-connection.ts";
import { type Identity, openIdentity } from "./identity.ts";
import { Listener } from "./listener.ts";
import type { NatReport } from "./nat-report.ts";
import { NatWatch } from "./nat-watch.ts";
import { Network } from "./network.ts";
import type {
  Connection,
  NodeApi,
  NodeEvent,
  OpenOptions,
  PeerDescription,
  ServiceDescription,
  StatusPart,
} from "./node-api.ts";
import type { NodeConfig } from "./node-config.ts";
import { Outgoing } from "./outgoing.ts";
import { composeAddress } from "./own-address.ts";
import { tellPathStory } from "./path-story.ts";
import { Peers } from "./peers.ts";
import type { Pipe } from "./pipe.ts";
import { PortMapping } from "./port-mapping.ts";
import type { PortMappingReport } from "./port-mapping-report.ts";
import { Punching } from "./punching.ts";
import { Services } from "./services.ts";
import { SessionKeeping } from "./session-keeping.ts";
import type { Signals } from "./signals.ts";
import { startSignals } from "./start-signals.ts";

const SILENT = createLog({ level: "error", format: "text", wallMs: () => 0, write: () => undefined });
/** How long `close` waits for the peer before it lets that go on behind it. */
const CLOSE_WAIT_MS = 500;

export class Node implements NodeApi {
  readonly version = manifest.version;
  readonly #world: World;
  readonly #identity: Identity;
  readonly #services: Services;
  readonly #peers: Peers;
  readonly #connections: Connections;
  readonly #arrivals: Arrivals;
  readonly #listeners = new Set<(event: NodeEvent) => void>();
  readonly #stopping = new AbortController();
  readonly #keeping: SessionKeeping;
  readonly #outgoing: Outgoing;
  #listener!: Listener;
  #network!: Network;
  #nat!: NatWatch;
  #signals!: Signals;
  #portMapping!: PortMapping;
  #punching!: Punching;
  #closed: Promise<void> | undefined;

  private constructor(world: World, config: NodeConfig, identity: Identity) {
    this.#world = world;
    this.#identity = identity;
    this.#services = new Services(world);
    this.#peers = new Peers(config.dataDir);
    this.#connections = new Connections(world.time, (connection, reason) => {
      this.#emit("closed", {
        name: connection.name,
        peer: connection.peer.id,
        reason: reason?.message ?? "",
      });
    });
    this.#outgoing = new Outgoing({
      world,
      config,
      identity,
      connections: this.#connections,
      peers: this.#peers,
      stopping: this.#stopping.signal,
      parts: () => ({
        network: this.#network,
        listener: this.#listener,
        signals: this.#signals,
        keeping: this.#keeping,
        punching: this.#punching,
      }),
      put: (pipe, origin) => this.#put(pipe, origin),
      emit: (event, data) => this.#emit(event, data),
    });
    this.#keeping = new SessionKeeping({
      world,
      reach: (target, options, signal) => this.#outgoing.reach(target, options, signal),
      suspect: () => this.#signals.suspect(),
    });
    this.#arrivals = new Arrivals({
      world,
      id: identity.id,
      services: this.#services,
      connections: this.#connections,
      keeping: this.#keeping,
      resumeForMs: config.resumeForMs,
      put: (pipe, origin) => this.#put(pipe, origin),
      emit: (event, data) => this.#emit(event, data),
    });
    for (const { name, to, allow } of config.services ?? []) this.#services.put(name, to, allow);
  }

  /**
   * Starts a node; what it learns of the network it learns later. Rejects with `configuration`, `corrupt-file`
   * (see `openIdentity`), `bad-argument` (a configured service) or `address-in-use` (the configured port).
   */
  static async start(world: World, config: NodeConfig, options: { log?: Log } = {}): Promise<Node> {
    const identity = openIdentity(config.dataDir, world);
    try {
      const node = new Node(world, config, identity);
      node.#listener = await Listener.open(world, {
        credentials: identity.credentials,
        machineId: identity.machineId,
        ...(config.listenPort === undefined ? {} : { port: config.listenPort }),
        ...(config.interfaces === undefined ? {} : { interfaces: config.interfaces }),
        opened: (opening, path, beganAt) => {
          node.#portMapping.arrived(path.stream.local, path.stream.remote);
          if (opening.type === "answer") node.#signals.answered(opening.answer.token, path);
          else node.#arrivals.opened(opening, { path, beganAt });
        },
      });
      node.#network = new Network(world, {
        stunServers: config.stunServers,
        ...(config.interfaces === undefined ? {} : { interfaces: config.interfaces }),
        moved: () => node.#signals.moved(),
        changed: (hasMoved) => {
          node.#nat.check();
          node.#portMapping.update();
          node.#networkChanged();
          node.#keeping.networkChanged(hasMoved);
        },
      });
      node.#nat = new NatWatch(world, {
        stunServers: config.stunServers,
        nics: () => node.#network.interfaces.map(({ nic }) => nic),
        used: () => node.#network.used.map(({ nic }) => nic),
        externalOf: (ip, family) => node.#network.externalOf(ip, family),
        changed: () => node.#networkChanged(),
        advice: () => node.#portMapping.advice,
      });
      node.#portMapping = new PortMapping(world, {
        config,
        listener: node.#listener,
        network: node.#network,
        log: options.log ?? SILENT,
        changed: () => node.#networkChanged(),
      });
      node.#punching = new Punching(world, {
        ...config,
        credentials: identity.credentials,
        network: node.#network,
        nat: node.#nat,
        forwarded: () => node.#portMapping.endpoints(),
      });
      node.#signals = startSignals(world, {
        config,
        identity,
        listener: node.#listener,
        network: node.#network,
        nat: node.#nat,
        punching: node.#punching,
        arrivals: node.#arrivals,
        log: options.log ?? SILENT,
        address: () => node.address(),
        signal: node.#stopping.signal,
        tell: (brokers) => node.#emit("status", { ...brokers }),
      });
      node.#signals.onBack(() => {
        node.#portMapping.networkIsBack();
        node.#keeping.networkBack();
      });
      node.#signals.publish();
      node.#nat.check();
      node.#listener.hear();
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

  /** Port that the node listens on, TCP and UDP. */
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
      brokers: this.#signals.brokers,
      natOf: (ip) => this.#nat.profileOf(ip),
      forwarded: this.#portMapping.endpoints(),
    });
  }

  interfaces(): ReturnType<NodeApi["interfaces"]> {
    return this.#network.interfaces.map((nic) => ({ ...nic.describe(), nat: this.#nat.ofNic(nic.name) }));
  }

  nat(wait = true): Promise<NatReport> {
    return this.#nat.report(wait);
  }

  refreshNat(): Promise<NatReport> {
    return this.#nat.refresh();
  }

  status(): readonly StatusPart[] {
    return [
      ...this.#listener.status(this.#arrivals.summary),
      this.#network.status,
      this.#nat.status,
      ...this.#signals.status(),
      this.#portMapping.status,
    ];
  }

  portMapping(): PortMappingReport {
    return this.#portMapping.report();
  }

  refreshPortMapping(): Promise<PortMappingReport> {
    return this.#portMapping.refresh();
  }

  open(name: string, target: string, options: OpenOptions = {}): Promise<Connection> {
    return this.#outgoing.open(name, target, options);
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

  peers(): readonly PeerDescription[] {
    return this.#peers.list();
  }

  putPeer(name: string, to: string): PeerDescription {
    return this.#peers.put(name, to);
  }

  deletePeer(name: string): void {
    this.#peers.delete(name);
  }

  async #stop(): Promise<void> {
    const reason = new P2pdError("closed", "the node was stopped");
    this.#stopping.abort();
    this.#keeping.close();
    this.#network.close();
    this.#nat.close();
    this.#punching.close();
    this.#signals.close();
    this.#listener.close();
    this.#arrivals.stopWaiting();
    const unmapped = this.#portMapping.close();
    await this.#outgoing.settled();
    await Promise.all([this.#connections.closeAll(reason), this.#arrivals.close(reason)]);
    await Promise.all([this.#listener.free(), unmapped, this.#signals.giveBack()]);
    this.#listeners.clear();
    this.#identity.release();
  }

  #networkChanged(): void {
    this.#punching.update();
    this.#emit("network", { addr: this.address() });
    this.#signals.publish();
  }

  #put(pipe: Pipe, origin: Origin): Connection {
    const context = {
      world: this.#world,
      network: this.#network,
      signals: this.#signals,
      peers: this.#peers,
    };
    const connection = describeConnection(context, pipe, origin);
    this.#connections.put(connection);
    const emit = this.#emit.bind(this);
    this.#keeping.follow(origin.session, tellPathStory({ ...origin, time: this.#world.time, emit }));
    return connection;
  }

  #emit(event: NodeEvent["event"], data: NodeEvent["data"]): void {
    for (const listener of this.#listeners) listener({ event, data });
  }
}
