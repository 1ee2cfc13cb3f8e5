/**
 * The links that there are: those to our own brokers, kept for good, and those to peers' brokers, made when a signal
 * has to go there, bounded in number and closed when they were not used for a while. All of them hear our inbox, so
 * that an answer comes back over the broker that the question went through.
 */
import type { Log } from "../log.ts";
import type { Timer, World } from "../net/world.ts";
import type { AddressBroker } from "../wire/address.ts";
import { type BrokerLink, type BrokerStatus, createBrokerLink } from "./broker-link.ts";
import { type Broker, formatBroker } from "./broker-url.ts";

/** Links to brokers that are not ours. */
export const BORROWED_MAX = 16;
const BORROWED_IDLE_MS = 120_000;

export interface BrokerLinksOptions {
  readonly own: readonly Broker[];
  readonly log: Log;
  /** Topic that every link hears. */
  readonly inbox: string;
  readonly message: (payload: Uint8Array, via: string) => void;
  /** Names of the NICs that may be used beside the system's choice; absent: all. */
  readonly interfaces?: readonly string[] | undefined;
  /** After each connection. */
  readonly connected: (link: BrokerLink, isOwn: boolean) => void;
  /** A connection went dead, or is doubted. */
  readonly lost: () => void;
  /** One of our own brokers is in another state. */
  readonly ownChanged: () => void;
}

export interface BrokerLinks {
  readonly own: readonly BrokerLink[];
  /** The links to these brokers, made where they are missing; to our own if none are named. */
  to(brokers: readonly AddressBroker[]): readonly BrokerLink[];
  /** The link of that name, if there is one. */
  named(name: string): BrokerLink | undefined;
  /** Asks every broker for a sign of life, soon; see `BrokerLink.suspect`. */
  suspect(): void;
  /** An external address is another one; see `BrokerLink.distrust`. */
  distrust(): void;
  /** The network is back: who waits need not wait for its time. */
  wake(): void;
  /** After a NIC changed. */
  check(): void;
  status(): readonly BrokerStatus[];
  close(): void;
}

export function createBrokerLinks(world: World, options: BrokerLinksOptions): BrokerLinks {
  const { time } = world;
  const { log } = options;
  const links = new Map<string, BrokerLink>();
  /** When each was used last, the longest ago first. */
  const borrowed = new Map<string, number>();
  let sweep: Timer | undefined;
  let isClosed = false;

  function open(broker: Broker, isOwn: boolean): BrokerLink {
    const link = createBrokerLink(world, {
      broker,
      ...(options.interfaces === undefined ? {} : { interfaces: options.interfaces }),
      isCutOff: () => ![...links.values()].some(({ isConnected }) => isConnected),
      connected: (of) => options.connected(of, isOwn),
      lost: options.lost,
      changed(of) {
        const { url, state, error } = of.status();
        const facts = { broker: url, state, ...(error === undefined ? {} : { error }) };
        // What ended the last attempt was told when it did.
        log[error === undefined || state === "connecting" ? "debug" : "info"]("signaling", facts);
        if (isOwn) options.ownChanged();
      },
    });
    link.subscribe(options.inbox, (payload) => options.message(payload, link.name));
    links.set(link.name, link);
    return link;
  }

  function discard(name: string): void {
    borrowed.delete(name);
    links.get(name)?.close();
    links.delete(name);
  }

  function borrow(broker: AddressBroker): BrokerLink {
    const { scheme, host, port, path } = broker;
    const name = formatBroker(broker);
    const known = links.get(name);
    if (known === undefined && borrowed.size >= BORROWED_MAX) {
      discard(borrowed.keys().next().value as string);
    }
    borrowed.delete(name);
    borrowed.set(name, time.now());
    scheduleSweep();
    return known ?? open({ scheme, host, port, path }, false);
  }

  function scheduleSweep(): void {
    sweep ??= time.after(
      BORROWED_IDLE_MS,
      () => {
        sweep = undefined;
        for (const [name, usedMs] of borrowed) {
          if (time.now() - usedMs >= BORROWED_IDLE_MS) discard(name);
        }
        if (borrowed.size > 0) scheduleSweep();
      },
      { background: true },
    );
  }

  for (const broker of options.own) if (!links.has(formatBroker(broker))) open(broker, true);
  const own = [...links.values()];

  return {
    own,
    to(brokers) {
      if (isClosed) return [];
      if (brokers.length === 0) return own;
      const names = new Map(brokers.map((broker) => [formatBroker(broker), broker]));
      return [...names].map(([name, broker]) => own.find((link) => link.name === name) ?? borrow(broker));
    },
    named: (name) => links.get(name),
    suspect() {
      for (const link of links.values()) link.suspect();
    },
    distrust() {
      for (const link of links.values()) link.distrust();
    },
    wake() {
      for (const link of links.values()) link.wake();
    },
    check() {
      for (const link of links.values()) link.check();
    },
    status: () => [...links.values()].map((link) => link.status()),
    close() {
      isClosed = true;
      sweep?.cancel();
      for (const link of links.values()) link.close();
      links.clear();
    },
  };
}
