/**
 * The address book: names for other nodes, kept in the data directory. A name stands for an id, or for an address
 * line where the peer leaves no record on brokers.
 */
import { chmodSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { P2pdError, toP2pdError } from "../errors.ts";
import { decodeAddress, isNodeId } from "../wire/address.ts";
import type { PeerDescription } from "./node-api.ts";

const FILE = "peers.json";
const MAX_PEERS = 4096;
/** Names that mean something of their own, or vanish from a URL path. */
const RESERVED: readonly string[] = ["self", "all", ".", ".."];

export class Peers {
  readonly #path: string;
  readonly #peers = new Map<string, PeerDescription>();

  /** Reads the book, if there is one. Throws `corrupt-file`, `configuration`. */
  constructor(dataDir: string) {
    this.#path = join(dataDir, FILE);
    for (const [name, to] of Object.entries(readBook(this.#path))) {
      try {
        this.#peers.set(checkName(name), describe(name, to));
      } catch (thrown) {
        throw corrupt(this.#path, toP2pdError(thrown).message, thrown);
      }
    }
  }

  list(): readonly PeerDescription[] {
    return [...this.#peers.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  get(name: string): PeerDescription | undefined {
    return this.#peers.get(name);
  }

  /** The first name of a node. */
  nameOf(id: string): string | undefined {
    return this.list().find((peer) => peer.id === id)?.name;
  }

  /**
   * Notes a node, in place of one of that name.
   * @param to its id or address line
   * @throws P2pdError `bad-argument`, `reserved-name`, `configuration` (the file cannot be written)
   */
  put(name: string, to: string): PeerDescription {
    const peer = describe(checkName(name), to);
    if (!this.#peers.has(name) && this.#peers.size >= MAX_PEERS)
      throw new P2pdError(
        "bad-argument",
        `the address book has ${MAX_PEERS} names already; delete one first`,
      );
    const before = this.#peers.get(name);
    this.#peers.set(name, peer);
    this.#save(() => (before === undefined ? this.#peers.delete(name) : this.#peers.set(name, before)));
    return peer;
  }

  /** Throws `no-such-peer`, `configuration`. */
  delete(name: string): void {
    const before = this.#peers.get(name);
    if (before === undefined)
      throw new P2pdError("no-such-peer", `the address book has no ${show(name)}`, {
        name: name.slice(0, 64),
      });
    this.#peers.delete(name);
    this.#save(() => this.#peers.set(name, before));
  }

  /** Writes a new file beside the old one and puts it in its place: a reader finds one or the other, whole. */
  #save(undo: () => unknown): void {
    const book = Object.fromEntries(this.list().map(({ name, id, address }) => [name, address ?? id]));
    const draft = `${this.#path}.new`;
    try {
      writeFileSync(draft, `${JSON.stringify(book, null, 2)}\n`, { mode: 0o600, flush: true });
      chmodSync(draft, 0o600);
      renameSync(draft, this.#path);
    } catch (thrown) {
      undo();
      throw toP2pdError(thrown, "configuration", `the address book ${this.#path} cannot be written`);
    }
  }
}

function checkName(name: string): string {
  if (RESERVED.includes(name))
    throw new P2pdError("reserved-name", `the name "${name}" is reserved; choose another`, { name });
  if (/^[A-Za-z0-9_.-]{1,64}$/.test(name) && !isNodeId(name)) return name;
  throw new P2pdError(
    "bad-argument",
    `the name ${show(name)} is not 1 to 64 of A-Z a-z 0-9 _ . -, or is an id`,
  );
}

function describe(name: string, to: string): PeerDescription {
  if (isNodeId(to)) return { name, id: to };
  return { name, id: decodeAddress(to).id, address: to };
}

function readBook(path: string): Record<string, string> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw toP2pdError(thrown, "configuration", `the address book ${path} cannot be read`);
  }
  let book: unknown;
  try {
    book = JSON.parse(text);
  } catch (thrown) {
    throw corrupt(path, "it is no JSON", thrown);
  }
  const isBook =
    typeof book === "object" && book !== null && Object.values(book).every((to) => typeof to === "string");
  if (!isBook) throw corrupt(path, "it is no object of names with addresses");
  return book as Record<string, string>;
}

function corrupt(path: string, why: string, cause?: unknown): P2pdError {
  return new P2pdError(
    "corrupt-file",
    `the address book ${path} is not usable: ${why}. Mend it, or move it away to begin a new one`,
    { path },
    { cause },
  );
}

function show(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
}
