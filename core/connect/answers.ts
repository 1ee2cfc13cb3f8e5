/**
 * Paths that peers open because we asked them to by signal. Each is known by a token that only the two of us have
 * seen, and counts only if whoever brings it has proved the key of the peer that was asked.
 */
import { P2pdError } from "../errors.ts";
import type { BarePath } from "./race.ts";

/** What was asked of a peer. */
export interface Asked {
  readonly token: string;
  /** Names the request in messages about it. */
  readonly request: string;
  readonly peerId: string;
  readonly peerKey: Uint8Array;
  /** The peer says from which addresses it comes. */
  readonly comesFrom?: (ips: readonly string[]) => void;
}

interface Waiting extends Asked {
  readonly arrived: (path: BarePath) => void;
  readonly failed: (error: P2pdError) => void;
}

export class AwaitedAnswers {
  readonly #waiting = new Map<string, Waiting>();

  /** How many are waited for. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Resolves with the path that brings the token. Rejects with `aborted`, or with what `refused` was told. */
  expect(asked: Asked, signal: AbortSignal): Promise<BarePath> {
    const { promise, resolve, reject } = Promise.withResolvers<BarePath>();
    const giveUp = (): void => settle(() => reject(new P2pdError("aborted", "opening was given up")));
    const settle = (how: () => void): void => {
      this.#waiting.delete(asked.token);
      signal.removeEventListener("abort", giveUp);
      how();
    };
    this.#waiting.set(asked.token, {
      ...asked,
      arrived: (path) => settle(() => resolve(path)),
      failed: (error) => settle(() => reject(error)),
    });
    signal.addEventListener("abort", giveUp, { once: true });
    if (signal.aborted) giveUp();
    return promise;
  }

  /** Hands over a path that brings a token. False: nobody waits for it, or its peer is not the one that was asked. */
  arrived(token: string, path: BarePath): boolean {
    const waiting = this.#waiting.get(token);
    if (waiting === undefined || Buffer.compare(waiting.peerKey, path.stream.peerKey) !== 0) return false;
    waiting.arrived(path);
    return true;
  }

  /** The peer says that it cannot. */
  refused(request: string, peerId: string, text: string): void {
    for (const waiting of this.#waiting.values()) {
      if (waiting.request === request && waiting.peerId === peerId)
        waiting.failed(new P2pdError("refused", text));
    }
  }

  /** The peer says from which addresses it comes. */
  comesFrom(request: string, peerId: string, ips: readonly string[]): void {
    for (const waiting of this.#waiting.values()) {
      if (waiting.request === request && waiting.peerId === peerId) waiting.comesFrom?.(ips);
    }
  }
}
