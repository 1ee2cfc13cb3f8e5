/**
 * Lets QUIC, which owns its socket, run over an allocation: each peer of the allocation is stood for by a socket on
 * loopback, a door, and what comes through a door from the one endpoint inside goes to its peer, and back.
 */
import { P2pdError } from "../errors.ts";
import { type Endpoint, formatEndpoint, sameEndpoint } from "../ip.ts";
import type { UdpSocket, World } from "../net/world.ts";
import type { OpenTurn } from "../turn/open-turn.ts";

const LOOPBACK = "127.0.0.1";
/** Endpoints of one peer at a time: a NAT may give it another port. */
const MAX_DOORS = 8;
/** Doors that are being opened for who came by himself: each has a descriptor, and he may use a new port each time. */
const MAX_OPENING = 8;
/** Datagrams that wait until a door is there. */
const MAX_HELD = 16;
const RECEIVE_BUFFER = 1024 * 1024;

interface Door {
  readonly peer: Endpoint;
  /** Undefined until it is open. */
  socket: UdpSocket | undefined;
  readonly held: Uint8Array[];
  /** Whether the endpoint inside has said something to the peer: others make room first. */
  isAnswered: boolean;
  /** When it was last used, as the number of the datagram. */
  used: number;
}

export class RelayBridge {
  readonly #world: Pick<World, "openUdp">;
  readonly #turn: OpenTurn;
  readonly #inner: () => Endpoint;
  readonly #closed: (error: P2pdError) => void;
  readonly #doors = new Map<string, Door>();
  #count = 0;
  #opening = 0;
  #isClosed = false;

  /**
   * @param inner the endpoint on loopback that alone may speak through doors
   * @param closed the allocation has ended
   */
  constructor(
    world: Pick<World, "openUdp">,
    turn: OpenTurn,
    inner: () => Endpoint,
    closed: (error: P2pdError) => void,
  ) {
    this.#world = world;
    this.#turn = turn;
    this.#inner = inner;
    this.#closed = closed;
    turn.attach({
      message: (bytes, from) => this.#receive(bytes, from),
      closed: (error) => this.#closed(error),
    });
  }

  /** Opens the door of a peer; resolves with the endpoint on loopback that stands for it. */
  async open(peer: Endpoint): Promise<Endpoint> {
    const door = await this.#open(peer);
    if (door.socket === undefined) throw new P2pdError("closed", "the relay was given back");
    return door.socket.local;
  }

  /** The peer that a door stands for. */
  peerAt(local: Endpoint): Endpoint | undefined {
    for (const { peer, socket } of this.#doors.values())
      if (socket !== undefined && sameEndpoint(socket.local, local)) return peer;
    return undefined;
  }

  close(): void {
    this.#isClosed = true;
    for (const { socket } of this.#doors.values()) socket?.close();
    this.#doors.clear();
  }

  #receive(bytes: Uint8Array, from: Endpoint): void {
    if (this.#isClosed) return;
    const door = this.#doors.get(formatEndpoint(from));
    if (door?.socket !== undefined) {
      door.used = ++this.#count;
      door.socket.send(bytes, this.#inner());
    } else if (door !== undefined) {
      if (door.held.length < MAX_HELD) door.held.push(bytes.slice());
    } else if (this.#opening < MAX_OPENING) {
      const first = bytes.slice();
      this.#open(from, first).catch((thrown: unknown) => {
        this.#closed(
          new P2pdError("unavailable", "no socket on loopback for the relay", {}, { cause: thrown }),
        );
      });
    }
  }

  async #open(peer: Endpoint, ...held: Uint8Array[]): Promise<Door> {
    const name = formatEndpoint(peer);
    const door: Door = { peer, socket: undefined, held, isAnswered: false, used: ++this.#count };
    if (this.#doors.size >= MAX_DOORS) this.#closeOldest();
    this.#doors.set(name, door);
    this.#opening++;
    const socket = await this.#world
      .openUdp({ local: { ip: LOOPBACK, port: 0 }, receiveBufferBytes: RECEIVE_BUFFER })
      .finally(() => this.#opening--);
    if (this.#isClosed || this.#doors.get(name) !== door) {
      socket.close();
      return door;
    }
    door.socket = socket;
    socket.attach({
      message: (bytes, from) => {
        // Other programs of this machine may knock, too.
        if (!sameEndpoint(from, this.#inner())) return;
        door.used = ++this.#count;
        door.isAnswered = true;
        this.#turn.send(bytes, peer);
      },
    });
    for (const bytes of held.splice(0)) socket.send(bytes, this.#inner());
    // Until the channel is there, and if there is none, each datagram costs 36 octets in place of 4.
    this.#turn.bind(peer).catch(() => undefined);
    return door;
  }

  #closeOldest(): void {
    const [oldest] = [...this.#doors].sort(
      ([, a], [, b]) => Number(a.isAnswered) - Number(b.isAnswered) || a.used - b.used,
    );
    if (oldest === undefined) return;
    this.#doors.delete(oldest[0]);
    oldest[1].socket?.close();
  }
}
