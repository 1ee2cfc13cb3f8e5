/**
 * The table of connections by name. A name is taken from the moment it is asked for; a connection that its peer or
 * the network ended stays until what it received was read, or for a minute.
 */
import { P2pdError } from "../errors.ts";
import type { Time } from "../net/world.ts";
import type { Connection } from "./node-api.ts";

/** Names that mean something of their own, or vanish from a URL path. */
const RESERVED: readonly string[] = ["self", "all", ".", ".."];
const KEEP_UNREAD_MS = 60_000;
const LOOK_AGAIN_MS = 500;

export type OnLost = (connection: Connection, reason: P2pdError | undefined) => void;

export class Connections {
  readonly #names = new Map<string, Connection | undefined>();
  /** Those whose name is forgotten and that are not closed yet. */
  readonly #closing = new Set<Connection>();
  #incoming = 0;

  /** @param lost told of every connection that ended, by whichever side */
  constructor(
    readonly time: Time,
    readonly lost: OnLost,
  ) {}

  /** Takes a name for a connection to come. Throws `bad-argument`, `reserved-name`, `name-taken`. */
  reserve(name: string): void {
    if (!/^[A-Za-z0-9_.~-]{1,64}$/.test(name)) {
      const shown = JSON.stringify(name.length > 64 ? `${name.slice(0, 64)}…` : name);
      throw new P2pdError("bad-argument", `the name ${shown} is not 1 to 64 of A-Z a-z 0-9 _ . ~ -`, {
        name: name.slice(0, 64),
      });
    }
    if (RESERVED.includes(name)) {
      throw new P2pdError("reserved-name", `the name "${name}" is reserved; choose another`, { name });
    }
    if (this.#names.has(name)) {
      throw new P2pdError(
        "name-taken",
        `a connection named "${name}" exists; close it or choose another name`,
        { name },
      );
    }
    this.#names.set(name, undefined);
  }

  /** Takes the next free one of `in-1`, `in-2`, … */
  reserveIncoming(): string {
    let name: string;
    do name = `in-${++this.#incoming}`;
    while (this.#names.has(name));
    this.#names.set(name, undefined);
    return name;
  }

  /** Gives a reserved name free. */
  cancel(name: string): void {
    if (this.#names.get(name) === undefined) this.#names.delete(name);
  }

  /** Puts a connection under its reserved name. */
  put(connection: Connection): void {
    this.#names.set(connection.name, connection);
    void connection.pipe.closed.then((reason) => {
      this.#closing.delete(connection);
      this.lost(connection, reason);
      this.#forgetOnceRead(connection, this.time.now() + KEEP_UNREAD_MS);
    });
  }

  /** Throws `no-such-connection`. */
  get(name: string): Connection {
    const connection = this.#names.get(name);
    if (connection === undefined) {
      const shown = JSON.stringify(name.length > 64 ? `${name.slice(0, 64)}…` : name);
      throw new P2pdError("no-such-connection", `there is no connection named ${shown}`, {
        name: name.slice(0, 64),
      });
    }
    return connection;
  }

  list(): readonly Connection[] {
    return [...this.#names.values()].filter((connection) => connection !== undefined);
  }

  /** Forgets the name now and closes; resolves when that is done. Throws `no-such-connection`. */
  async close(name: string): Promise<void> {
    const connection = this.get(name);
    this.#names.delete(name);
    this.#closing.add(connection);
    await connection.pipe.close();
  }

  /** Ends everything at once. */
  async closeAll(reason: P2pdError): Promise<void> {
    const all = [...this.list(), ...this.#closing];
    this.#names.clear();
    await Promise.all(all.map(({ pipe }) => pipe.close(reason)));
  }

  #forgetOnceRead(connection: Connection, latest: number): void {
    if (this.#names.get(connection.name) !== connection) return;
    const unread = connection.pipe.subscriptions().some(({ waiting }) => waiting > 0);
    if (!unread || this.time.now() >= latest) {
      this.#names.delete(connection.name);
      return;
    }
    this.time.after(LOOK_AGAIN_MS, () => this.#forgetOnceRead(connection, latest), { background: true });
  }
}
