/**
 * The front door on the API's port: reads the head of each connection's first request, keeps the requests for
 * pipes, and splices every other connection to the HTTP server behind it. Bounds what a client that never
 * finishes its head can cost. What becomes of a pipe's connection is the business of `pipe-connection.ts`.
 */
import { P2pdError, toP2pdError } from "../core/errors.ts";
import type { ByteStream, Timer, World } from "../core/net/world.ts";
import { refuseConnection } from "./raw-answer.ts";
import { createHeadReader, type PipeRequest } from "./request-head.ts";
import { type Splice, splice } from "./splice.ts";

export interface DoorLimits {
  readonly headOctets: number;
  readonly headTimeoutMs: number;
  /** Connections whose first head is not complete; beyond this the oldest of them is closed. */
  readonly unfinishedHeads: number;
  /** A connection on which nothing was said for so long after an answer is closed. */
  readonly keepAliveMs: number;
}

export const DOOR_LIMITS: DoorLimits = {
  headOctets: 16_384,
  headTimeoutMs: 10_000,
  unfinishedHeads: 1024,
  keepAliveMs: 120_000,
};

/** What the door has seen since it opened. */
export interface DoorCounts {
  connections: number;
  pipes: number;
  spliced: number;
  malformedHeads: number;
  oversizedHeads: number;
  lateHeads: number;
  crowdedOut: number;
  idled: number;
}

export interface DoorOptions {
  readonly time: World["time"];
  /** Connects to the HTTP server. */
  readonly connectInside: () => Promise<ByteStream>;
  /** Takes a connection whose request asks for a pipe; `early` came behind the head. */
  readonly takePipe: (request: PipeRequest, client: ByteStream, early: Uint8Array) => void;
  readonly limits?: DoorLimits;
}

export interface Door {
  /** To be given every connection that a listener accepts. */
  readonly accept: (client: ByteStream) => void;
  readonly counts: Readonly<DoorCounts>;
  /** Aborts the connections that have not finished their heads; the others have left the door. */
  close(): void;
}

interface Waiting {
  readonly client: ByteStream;
  readonly deadline: number;
}

export function createDoor({ time, connectInside, takePipe, limits = DOOR_LIMITS }: DoorOptions): Door {
  const counts: DoorCounts = {
    connections: 0,
    pipes: 0,
    spliced: 0,
    malformedHeads: 0,
    oversizedHeads: 0,
    lateHeads: 0,
    crowdedOut: 0,
    idled: 0,
  };
  // In order of age, so that one timer for the first serves all.
  const waiting = new Set<Waiting>();
  let timer: Timer | undefined;
  const spliced = new Map<ByteStream, Splice>();
  let sweepTimer: Timer | undefined;

  const watchDeadlines = (): void => {
    if (timer !== undefined) return;
    const [oldest] = waiting;
    if (oldest === undefined) return;
    timer = time.after(Math.max(0, oldest.deadline - time.now()), expire, { background: true });
  };
  const expire = (): void => {
    timer = undefined;
    for (const entry of waiting) {
      if (entry.deadline > time.now()) break;
      counts.lateHeads++;
      const reason = `the request head was not complete after ${limits.headTimeoutMs / 1000} s`;
      dismiss(entry, new P2pdError("timeout", reason), 408);
    }
    watchDeadlines();
  };
  const dismiss = (entry: Waiting, error: P2pdError, status: number): void => {
    waiting.delete(entry);
    refuseConnection(time, entry.client, error, status);
  };

  const accept = (client: ByteStream): void => {
    counts.connections++;
    const entry: Waiting = { client, deadline: time.now() + limits.headTimeoutMs };
    const [oldest] = waiting;
    if (oldest !== undefined && waiting.size >= limits.unfinishedHeads) {
      counts.crowdedOut++;
      const reason = `more than ${limits.unfinishedHeads} connections have sent no complete request head`;
      dismiss(oldest, new P2pdError("unavailable", reason), 503);
    }
    waiting.add(entry);
    watchDeadlines();
    const read = createHeadReader(limits.headOctets);
    let soFar: Uint8Array = new Uint8Array(0);
    client.attach({
      data(bytes) {
        soFar = soFar.length === 0 ? bytes : Buffer.concat([soFar, bytes]);
        const verdict = read(soFar);
        if (verdict.kind === "more") return;
        if (verdict.kind === "refuse") {
          if (verdict.status === 431) counts.oversizedHeads++;
          else counts.malformedHeads++;
          const code = verdict.status === 431 ? "too-large" : "bad-argument";
          dismiss(entry, new P2pdError(code, verdict.reason), verdict.status);
          return;
        }
        waiting.delete(entry);
        if (verdict.kind === "pass") {
          counts.spliced++;
          void passInside(client, soFar.subarray(verdict.start));
        } else {
          counts.pipes++;
          takePipe(verdict.request, client, soFar.subarray(verdict.end));
        }
      },
      drain() {},
      end() {
        waiting.delete(entry);
        client.end();
      },
      close() {
        waiting.delete(entry);
      },
    });
  };

  const passInside = async (client: ByteStream, early: Uint8Array): Promise<void> => {
    // While the way inside is being opened nothing more is read, and an end is remembered.
    let ended = false;
    let gone = false;
    const more: Uint8Array[] = [early];
    client.attach({
      data: (bytes) => void more.push(bytes),
      drain() {},
      end: () => (ended = true),
      close: () => (gone = true),
    });
    client.pause();
    let inside: ByteStream;
    try {
      inside = await connectInside();
    } catch (thrown) {
      if (!gone)
        refuseConnection(time, client, toP2pdError(thrown, "unavailable", "the API does not answer"), 503);
      return;
    }
    if (gone) {
      inside.abort();
      return;
    }
    let accepted = true;
    for (const bytes of more) accepted = inside.write(bytes);
    const state = splice(client, inside, () => spliced.delete(client));
    spliced.set(client, state);
    sweepTimer ??= time.after(limits.keepAliveMs, sweep, { background: true });
    if (ended) inside.end();
    if (accepted) client.resume();
  };

  /**
   * Closes what has been silent since the last sweep with its answers given. Whoever waits for an answer may
   * wait: for a message, for a connection.
   */
  const sweep = (): void => {
    sweepTimer = undefined;
    for (const [client, state] of spliced) {
      if (!state.isActive && state.isAnswered) {
        if (state.isDismissed) client.abort();
        else {
          counts.idled++;
          client.end();
        }
        state.isDismissed = true;
      }
      state.isActive = false;
    }
    if (spliced.size > 0) sweepTimer = time.after(limits.keepAliveMs, sweep, { background: true });
  };

  return {
    accept,
    counts,
    close() {
      timer?.cancel();
      timer = undefined;
      sweepTimer?.cancel();
      for (const { client } of waiting) client.abort();
      waiting.clear();
    },
  };
}
