/**
 * The race of all attempts to reach a peer. Attempts stand in lanes: those of one lane start one after another in
 * short steps (RFC 8305 section 5), lanes run beside each other. The first authenticated path wins, the others are
 * stopped and closed, and nothing of them stays. Behind a path on a relay the search for a direct one goes on. What an
 * attempt does is in the files of the strategies.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import type { SecureStream, Time } from "../net/world.ts";

export type Strategy = "direct" | "reverse" | "punch" | "relay";

/** A connection to the peer that has proved its key, by whichever strategy it came. */
export interface BarePath {
  readonly transport: "tcp" | "udp";
  readonly stream: SecureStream;
  /** About one round trip, in milliseconds. */
  readonly rttMs: number;
}

/** One with what is told of it. */
export interface Path extends BarePath {
  readonly strategy: Strategy;
  readonly candidate: string;
  /** What carries it where that is not the transport alone: `turn-udp`, `turn-tcp`, `turn-tls`. */
  readonly via?: string;
}

/** As users are told of it: `punch/udp`, `relay/turn-tcp`. */
export function pathName({ strategy, transport, via }: Path): string {
  return `${strategy}/${via ?? transport}`;
}

/** A step of an attempt, for the connection's timeline. */
export type Note = (event: string, detail: string) => void;

export interface AttemptContext {
  /** Fires when the race is over; whatever the attempt has opened is closed then. */
  readonly signal: AbortSignal;
  /** Milliseconds until the race ends, at least 1. */
  readonly leftMs: () => number;
  readonly note: Note;
}

export interface Attempt {
  readonly strategy: Strategy;
  /** Whom or what it tries, for people. */
  readonly candidate: string;
  /** How long it has the field before the next one of its lane starts beside it; 0: they start together. */
  readonly leadMs: number;
  /** Rejects with a P2pdError whose text says what a person could do. */
  run(context: AttemptContext): Promise<Path>;
}

export interface FailedAttempt {
  readonly strategy: Strategy;
  readonly candidate: string;
  readonly reason: string;
}

export type NoteAttempt = (strategy: Strategy, candidate: string, event: string, detail: string) => void;

/** A lane that waits until the others have had their chance. */
export interface Reserve {
  readonly lane: readonly Attempt[];
  /** It begins then at the latest, or when all other lanes have failed; 0: at once, beside them. */
  readonly afterMs: number;
  /** Resolves, with the reason, when the others are not worth waiting for. */
  readonly soon: Promise<string>;
}

/** What a race came to. */
export interface Won {
  readonly path: Path;
  /**
   * Of a relayed path: the first direct one. Rejects like `race`. Who does not want it aborts the race's signal, and
   * what has come all the same.
   */
  readonly later?: Promise<Path>;
}

export interface RaceOptions {
  readonly lanes: readonly (readonly Attempt[])[];
  /** Lanes that are found out while the race runs; it does not end before they are there. */
  readonly more?: readonly Promise<readonly (readonly Attempt[])[]>[];
  readonly reserve?: Reserve | undefined;
  /** For all of it. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  readonly note: NoteAttempt;
}

/** Attempts end by themselves at the deadline; one that does not is left behind after this. */
const DEADLINE_GRACE_MS = 100;

/**
 * Resolves with the winner; when that is a relayed path, the other attempts go on. Rejects with `connect-failed`, whose
 * `detail.attempts` has every attempt and why it failed, or with `aborted`.
 */
export function race(time: Time, options: RaceOptions): Promise<Won> {
  const { lanes, more = [], timeoutMs, signal, note } = options;
  const { promise, resolve, reject } = Promise.withResolvers<Won>();
  const losing = new AbortController();
  const relays = new AbortController();
  const deadline = time.now() + timeoutMs;
  const failed: FailedAttempt[] = [];
  const running = new Set<Attempt>();
  /** Has not begun yet. */
  let reserve = options.reserve;
  /** Lanes that run or are still to come. */
  let hopes = lanes.length + more.length + (reserve === undefined ? 0 : 1);
  let isOver = false;
  /** There once a relayed path has won. */
  let later: PromiseWithResolvers<Path> | undefined;

  const finish = (settle: () => void): void => {
    if (isOver) return;
    isOver = true;
    guard.cancel();
    patience?.cancel();
    signal?.removeEventListener("abort", giveUp);
    settle();
    losing.abort();
    relays.abort();
  };
  const end = (error: P2pdError): void => finish(() => (later ?? { reject }).reject(error));
  const fail = (): void => end(noPath(failed));
  const giveUp = (): void => end(new P2pdError("aborted", "opening was given up"));
  const loseHope = (): void => {
    hopes--;
    if (hopes === 0) fail();
    else if (hopes === 1) begin("nothing else is left to try");
  };
  const begin = (why: string): void => {
    if (reserve === undefined || isOver) return;
    const { lane } = reserve;
    reserve = undefined;
    patience?.cancel();
    note("relay", "", "begins", why);
    void runLane(lane);
  };
  const guard = time.after(timeoutMs + DEADLINE_GRACE_MS, () => {
    for (const { strategy, candidate } of running)
      failed.push({ strategy, candidate, reason: `no result within ${timeoutMs} ms` });
    fail();
  });
  const afterMs = reserve?.afterMs ?? 0;
  const patience = afterMs > 0 ? time.after(afterMs, () => begin(`no path within ${afterMs} ms`)) : undefined;

  const isStopped = ({ strategy }: Pick<Attempt, "strategy">): boolean =>
    isOver || (later !== undefined && strategy === "relay");

  const won = (path: Path): void => {
    if (isStopped(path)) path.stream.abort(new P2pdError("aborted", "another path was faster"));
    else if (later !== undefined) {
      const { resolve: found } = later;
      finish(() => found(path));
    } else if (path.strategy === "relay") {
      later = Promise.withResolvers<Path>();
      later.promise.catch(() => undefined);
      resolve({ path, later: later.promise });
      relays.abort();
    } else finish(() => resolve({ path }));
  };

  const run = async (attempt: Attempt): Promise<void> => {
    const { strategy, candidate } = attempt;
    running.add(attempt);
    try {
      const path = await attempt.run({
        signal: strategy === "relay" ? relays.signal : losing.signal,
        leftMs: () => Math.max(1, deadline - time.now()),
        note: (event, detail) => note(strategy, candidate, event, detail),
      });
      won(path);
    } catch (thrown) {
      const { code, message } = toP2pdError(thrown, "connect-failed");
      if (isStopped(attempt) && code === "aborted") note(strategy, candidate, "stopped", "");
      else {
        note(strategy, candidate, "failed", message);
        failed.push({ strategy, candidate, reason: message });
      }
    } finally {
      running.delete(attempt);
    }
  };

  const runLane = async (lane: readonly Attempt[]): Promise<void> => {
    const started: Promise<void>[] = [];
    for (const attempt of lane) {
      if (isStopped(attempt)) break;
      const attempted = run(attempt);
      started.push(attempted);
      if (attempt.leadMs > 0) await lead(time, attempt.leadMs, attempted);
    }
    await Promise.all(started);
    loseHope();
  };

  signal?.addEventListener("abort", giveUp, { once: true });
  if (signal?.aborted === true) giveUp();
  else if (hopes === 0) fail();
  for (const lane of lanes) void runLane(lane);
  if (lanes.length === 0) begin("nothing else may be tried");
  else if (afterMs === 0) begin("at once");
  void reserve?.soon.then(begin);
  for (const coming of more) {
    coming.then(
      (found) => {
        hopes += found.length;
        for (const lane of found) void runLane(lane);
        loseHope();
      },
      () => loseHope(),
    );
  }
  return promise;
}

/** Waits until an attempt has had its time, or has failed before that. */
function lead(time: Time, leadMs: number, attempted: Promise<void>): Promise<void> {
  return new Promise((resolve) => {
    const timer = time.after(leadMs, resolve);
    void attempted.then(() => {
      timer.cancel();
      resolve();
    });
  });
}

function noPath(attempts: readonly FailedAttempt[]): P2pdError {
  return new P2pdError("connect-failed", "no attempt reached the peer", { attempts });
}
