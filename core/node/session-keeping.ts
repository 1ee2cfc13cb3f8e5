/**
 * Keeps the node's sessions going: knows each by its id and its peer's key, so that a RESUME finds it; looks for another
 * path when one is lost, and for a direct one while a relay carries it. What the two ends then say is the session's
 * business, how a peer is reached `dial.ts`'s.
 */
import type { Path } from "../connect/race.ts";
import { P2pdError } from "../errors.ts";
import type { World } from "../net/world.ts";
import { encodeNotResumed, type Resume } from "../wire/session-positions.ts";
import type { Reached, Target } from "./dial.ts";
import { idOfKey } from "./identity.ts";
import { lostAddresses } from "./lost-addresses.ts";
import type { OpenOptions } from "./node-api.ts";
import { part } from "./opening.ts";
import { PathSearch, RESUME_PLAN, UPGRADE_PLAN } from "./path-search.ts";
import type { Session, SessionKeeper } from "./session.ts";

/** The side that was called leaves the first tries to the caller, unless its own network has changed. */
const ACCEPTOR_DELAY_MS = 2000;
/** A path that was doubted for nothing is not replaced on a doubt for so long: it is slow, or loses much. */
const TRUST_MS = 30_000;

export interface KeepingOptions {
  readonly world: World;
  /** Finds a path to a node, on which nothing has been said. Rejects at the latest when the signal fires. */
  readonly reach: (target: Target, options: OpenOptions, signal: AbortSignal) => Promise<Reached>;
  /** A path was found dead: other parts of the network may be too. */
  readonly suspect: () => void;
}

/** What is to be known of a session to keep it. */
export interface KeptFacts {
  readonly peerId: string;
  /** How long another path is looked for, in milliseconds; 0: not at all. */
  readonly resumeForMs: number;
  /** How to reach the peer; where the peer has called, its id alone. */
  readonly target: Target;
  readonly options: OpenOptions;
  /** Of a relayed path: a direct one that may still come. */
  readonly later?: Promise<Path> | undefined;
}

/** Told what becomes of the path of one session. */
export interface PathTeller {
  interrupted(why: string): void;
  /** After so many milliseconds. */
  restored(interruptedMs: number): void;
  /** To another path; 0: nothing was interrupted. */
  moved(interruptedMs: number): void;
}

interface Kept extends KeptFacts {
  readonly session: Session;
  teller: PathTeller | undefined;
  trustedUntil: number;
  readonly resuming: PathSearch;
  readonly upgrading: PathSearch;
}

export class SessionKeeping implements SessionKeeper {
  readonly #options: KeepingOptions;
  readonly #kept = new Map<string, Kept>();
  #hasChanged = false;

  constructor(options: KeepingOptions) {
    this.#options = options;
  }

  /** How many are kept, and how many of them have no path at the moment. */
  get counts(): { readonly sessions: number; readonly interrupted: number } {
    const interrupted = [...this.#kept.values()].filter(({ session }) => session.isInterrupted).length;
    return { sessions: this.#kept.size, interrupted };
  }

  /** From now on the session is kept, until it is over. False: its peer has one of that name already. */
  keep(session: Session, facts: KeptFacts): boolean {
    const key = keyOf(session.id, facts.peerId);
    if (this.#kept.has(key)) return false;
    const { time } = this.#options.world;
    const kept: Kept = {
      ...facts,
      session,
      teller: undefined,
      trustedUntil: 0,
      resuming: new PathSearch(time, RESUME_PLAN, (signal) => this.#tryToResume(kept, signal)),
      upgrading: new PathSearch(time, UPGRADE_PLAN, (signal) => this.#tryToUpgrade(kept, signal)),
    };
    this.#kept.set(key, kept);
    session.keep(this, facts.resumeForMs);
    if (facts.later === undefined) this.#upgrade(kept);
    else this.#takeLater(kept, facts.later);
    return true;
  }

  /** Tells what becomes of the session's path from now on. */
  follow(session: Session, teller: PathTeller): void {
    const kept = this.#of(session);
    if (kept !== undefined) kept.teller = teller;
  }

  /** A peer goes on with a session on this path. */
  resume(path: Path, resume: Resume): void {
    const kept = this.#kept.get(keyOf(resume.session, idOfKey(path.stream.peerKey)));
    if (kept === undefined) part(path.stream, this.#options.world.time, encodeNotResumed("unknown"));
    else kept.session.takeOver(path, resume);
  }

  /**
   * NICs or addresses have changed: what leaves by an address that is gone is lost, of the rest a sign is asked.
   * @param hasMoved we are seen under another address: tries that have just begun have told peers the old one
   */
  networkChanged(hasMoved: boolean): void {
    const nics = this.#options.world.nics();
    const isLost = lostAddresses(nics);
    this.#hasChanged = true;
    for (const kept of this.#kept.values()) {
      const { ip } = kept.session.local;
      if (!kept.session.isInterrupted && isLost(ip)) {
        const text = `the network changed: the address ${ip} is gone from this machine`;
        kept.session.interrupt(new P2pdError("unreachable", text));
      } else this.#lookAgain(kept, hasMoved);
    }
    this.#hasChanged = false;
  }

  /** The network is there again, or is seen under another address. */
  networkBack(): void {
    for (const kept of this.#kept.values()) this.#lookAgain(kept);
  }

  /** Looks for nothing any more. */
  close(): void {
    for (const { resuming, upgrading } of this.#kept.values()) {
      resuming.stop();
      upgrading.stop();
    }
  }

  /** A path that is found now may be needed in a moment; should this one live, it is not. */
  doubted(session: Session): void {
    const kept = this.#of(session);
    if (kept === undefined || this.#options.world.time.now() < kept.trustedUntil) return;
    this.#options.suspect();
    this.#seek(kept);
  }

  interrupted(session: Session, why: P2pdError): void {
    const kept = this.#of(session);
    kept?.teller?.interrupted(why.message);
    this.#options.suspect();
    if (kept !== undefined) this.#seek(kept);
  }

  restored(session: Session, interruptedMs: number): void {
    const kept = this.#of(session);
    kept?.resuming.stop();
    if (kept === undefined) return;
    kept.trustedUntil = this.#options.world.time.now() + TRUST_MS;
    if (interruptedMs > 0) kept.teller?.restored(interruptedMs);
    this.#upgrade(kept);
  }

  moved(session: Session, interruptedMs: number): void {
    const kept = this.#of(session);
    kept?.resuming.stop();
    kept?.upgrading.stop();
    kept?.teller?.moved(interruptedMs);
    if (kept !== undefined) this.#upgrade(kept);
  }

  over(session: Session): void {
    const kept = this.#of(session);
    if (kept === undefined) return;
    kept.resuming.stop();
    kept.upgrading.stop();
    this.#kept.delete(keyOf(session.id, kept.peerId));
  }

  #seek({ session, resuming, upgrading }: Kept): void {
    upgrading.stop();
    resuming.begin(session.role === "dialer" || this.#hasChanged ? 0 : ACCEPTOR_DELAY_MS);
  }

  #of(session: Session): Kept | undefined {
    return this.#kept.get(keyOf(session.id, idOfKey(session.path.stream.peerKey)));
  }

  #lookAgain({ session, resuming, upgrading }: Kept, isNews = false): void {
    session.probe();
    resuming.again(isNews);
    upgrading.again();
  }

  /** The caller looks for a direct path while a relay carries the session. */
  #upgrade({ session, upgrading, resumeForMs }: Kept): void {
    if (session.role !== "dialer" || !isRelayed(session) || resumeForMs === 0) return;
    if (!session.isOver && !session.isInterrupted) upgrading.begin();
  }

  /** The direct path that an open is still looking for saves the first tries. */
  #takeLater(kept: Kept, later: Promise<Path>): void {
    const take = async (): Promise<void> => {
      const path = await later;
      await kept.session.welcomed.catch(() => undefined);
      await move(kept.session, path, () => isRelayed(kept.session));
    };
    take().catch(() => this.#upgrade(kept));
  }

  async #tryToResume({ session, target, options }: Kept, signal: AbortSignal): Promise<void> {
    const { path, later, stop } = await this.#options.reach(target, options, signal);
    if (later !== undefined) {
      // The search for a direct path begins anew once the session is on its relay.
      stop();
      later.then(
        ({ stream }) => stream.abort(),
        () => undefined,
      );
    }
    await move(session, path, () => !signal.aborted);
  }

  async #tryToUpgrade({ session, target, options }: Kept, signal: AbortSignal): Promise<void> {
    const { path } = await this.#options.reach(target, { ...options, relay: "never" }, signal);
    await move(session, path, () => !signal.aborted && isRelayed(session));
  }
}

function isRelayed({ path }: Session): boolean {
  return path.strategy === "relay";
}

async function move(session: Session, path: Path, isWanted: () => boolean): Promise<void> {
  if (isWanted()) return session.moveTo(path);
  const reason = new P2pdError("aborted", "the session has another path by now");
  path.stream.abort(reason);
  throw reason;
}

function keyOf(session: string, peerId: string): string {
  return `${session} ${peerId}`;
}
