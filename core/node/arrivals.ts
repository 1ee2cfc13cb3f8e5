/**
 * What becomes of sessions that peers began: a service takes those that name one, a connection of the node to itself
 * is answered, and all others wait under a name of their own until somebody takes them. Who may knock at all is the
 * listener's business.
 */
import { P2pdError } from "../errors.ts";
import type { Path } from "../connect/race.ts";
import type { SecureStream, World } from "../net/world.ts";
import { encodeReset, type Hello } from "../wire/session-frame.ts";
import { AcceptQueue } from "./accept-queue.ts";
import type { Channel } from "./channel.ts";
import type { Connections } from "./connections.ts";
import type { Origin } from "./describe-connection.ts";
import { channelOf, type Mode } from "./datagram-channel.ts";
import { answerEcho, echoUntilTaken } from "./echo-answer.ts";
import { idOfKey } from "./identity.ts";
import type { Connection, NodeEvent, OpenOptions } from "./node-api.ts";
import { type Arrival, type Opening, part, readOpening } from "./opening.ts";
import { Pipe } from "./pipe.ts";
import type { Services } from "./services.ts";
import { Session } from "./session.ts";
import type { SessionKeeping } from "./session-keeping.ts";

/** Incoming connections that may wait to be taken. */
const ACCEPT_LIMIT = 256;

export interface ArrivalsOptions {
  readonly world: World;
  /** Our own id. */
  readonly id: string;
  readonly services: Services;
  readonly connections: Connections;
  readonly keeping: SessionKeeping;
  /** How long a lost path of what peers began is replaced, in milliseconds. */
  readonly resumeForMs: number;
  /** Makes a connection of a session and puts it under its reserved name. */
  readonly put: (pipe: Pipe, origin: Origin) => Connection;
  readonly emit: (event: NodeEvent["event"], data: NodeEvent["data"]) => void;
}

/** An incoming connection that waits to be taken. */
interface Untaken {
  readonly connection: Connection;
  readonly take: () => void;
}

export class Arrivals {
  readonly #options: ArrivalsOptions;
  readonly #untaken: AcceptQueue<Untaken>;
  readonly #takers = new Set<(connection: Connection) => void>();
  /** Far ends of connections to this very node, and sessions of services: nobody's connections. */
  readonly #serving = new Set<Session>();
  /** Of paths on which a peer that we came to has not spoken yet. */
  readonly #silent = new Set<SecureStream>();
  #isClosed = false;

  constructor(options: ArrivalsOptions) {
    this.#options = options;
    this.#untaken = new AcceptQueue(options.world.time, ACCEPT_LIMIT);
  }

  /** How many wait, and how many had to make room, in words. */
  get summary(): string {
    return `${this.#untaken.length} wait to be taken, ${this.#untaken.refused} had to make room`;
  }

  async accept(timeoutMs: number, signal?: AbortSignal): Promise<Connection | undefined> {
    const next = await this.#untaken.next(timeoutMs, signal);
    next?.take();
    return next?.connection;
  }

  /** Gives every incoming connection from now on to `listener`, instead of the queue; returns how to stop that. */
  onConnection(listener: (connection: Connection) => void): () => void {
    this.#takers.add(listener);
    return () => {
      this.#takers.delete(listener);
    };
  }

  /** A peer has said what it wants on a path. */
  opened(opening: Opening, arrival: Arrival): void {
    if (opening.type === "hello") this.#greeted(opening.hello, arrival);
    else if (opening.type === "resume") this.#options.keeping.resume(arrival.path, opening.resume);
    else this.#refuse(arrival.path, `${opening.type.toUpperCase()} came where a greeting was due`);
  }

  /** A peer to whom we connected at its wish speaks now, as if it had come by itself. Rejects when it leaves. */
  async connected({ path, ...rest }: Arrival): Promise<void> {
    const bare = path.stream;
    this.#silent.add(bare);
    if (this.#isClosed) bare.abort(stopped());
    try {
      const { opening, stream } = await readOpening(bare, this.#options.world.time);
      if (this.#isClosed) stream.abort(stopped());
      else this.opened(opening, { path: { ...path, stream }, ...rest });
    } finally {
      this.#silent.delete(bare);
    }
  }

  #greeted(hello: Hello, arrival: Arrival): void {
    const { path } = arrival;
    const { service, mode } = hello;
    const { time } = this.#options.world;
    const session = new Session({ role: "acceptor", time, id: hello.session, path, mode });
    const channel = channelOf(session, mode);
    if (channel === undefined) return;
    const peerId = idOfKey(path.stream.peerKey);
    if (peerId !== this.#options.id && !this.#keep(session, peerId, mode)) return;
    if (service !== undefined) {
      this.#serve(session);
      void this.#options.services.serve(session, channel, service, peerId);
    } else if (peerId === this.#options.id) {
      this.#serve(session);
      session.welcome();
      answerEcho(channel);
    } else {
      this.#incoming(session, channel, peerId, arrival);
    }
  }

  /** False: refused, as the peer has a session of that name already. */
  #keep(session: Session, peerId: string, mode: Mode): boolean {
    const { keeping, resumeForMs } = this.#options;
    const options: OpenOptions = mode === "datagrams" ? { transport: "udp" } : {};
    const isNew = keeping.keep(session, { peerId, resumeForMs, target: { id: peerId }, options });
    if (!isNew) session.refuse({ code: "protocol", text: "a session of that name exists" });
    return isNew;
  }

  #refuse({ stream }: Path, text: string): void {
    part(stream, this.#options.world.time, encodeReset({ code: "protocol", text }));
  }

  /** Whoever waits for a connection gets none, and no peer that we came to is heard any more. */
  stopWaiting(): void {
    this.#isClosed = true;
    this.#untaken.close();
    for (const stream of this.#silent) stream.abort(stopped());
  }

  /** Ends what is served at the moment. */
  async close(reason: P2pdError): Promise<void> {
    this.stopWaiting();
    const served = [...this.#serving];
    const gone = served.map((session) => session.closed);
    for (const session of served) session.abort(reason);
    this.#takers.clear();
    await Promise.all(gone);
  }

  #serve(session: Session): void {
    this.#serving.add(session);
    void session.closed.then(() => this.#serving.delete(session));
  }

  #incoming(
    session: Session,
    bare: Channel,
    peerId: string,
    { path, beganAt, cost, timeline: before = [] }: Arrival,
  ): void {
    const { world, connections, put, emit } = this.#options;
    session.welcome();
    const channel = echoUntilTaken(bare);
    const pipe = new Pipe(channel, { time: world.time });
    const name = connections.reserveIncoming();
    const { strategy, candidate, stream } = path;
    const ms = before.at(-1)?.ms ?? 0;
    const timeline = [...before, { ms, strategy, candidate, event: "accepted", detail: stream.cipher }];
    const connection = put(pipe, { name, session, direction: "in", peerId, timeline, beganAt, cost });
    emit("incoming", { name, peer: peerId, path: connection.path });
    const [taker] = this.#takers;
    if (taker !== undefined) {
      channel.take();
      for (const listener of this.#takers) listener(connection);
      return;
    }
    const untaken = { connection, take: () => channel.take() };
    void pipe.closed.then(() => this.#untaken.remove(untaken));
    const refused = this.#untaken.put(untaken);
    if (refused === undefined) return;
    const { name: oldest } = refused.connection;
    const detail = `${oldest} was refused: ${ACCEPT_LIMIT} connections wait already`;
    emit("status", { part: "incoming", detail });
    const reason = new P2pdError("unavailable", "the peer takes no connections at the moment");
    void refused.connection.pipe.close(reason);
  }
}

function stopped(): P2pdError {
  return new P2pdError("closed", "the node was stopped");
}
