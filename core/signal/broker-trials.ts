/**
 * The connections to one broker that are being made, a few beside each other: a router that is away lets each hang for
 * seconds, and one begun a moment after it is back is faster than those begun before. The first that is let in counts.
 * Falls back from MQTT 5 to 3.1.1, and goes by another NIC where there is one. When to try is `broker-link.ts`'s part.
 */
import { P2pdError } from "../errors.ts";
import type { World } from "../net/world.ts";
import { type BrokerConnection, startBrokerConnection } from "./broker-connection.ts";
import type { Broker } from "./broker-url.ts";
import type { MqttVersion } from "./mqtt-session.ts";
import { waysOut } from "./ways-out.ts";

const TRIALS_MAX = 3;

export interface BrokerTrialsOptions {
  readonly broker: Broker;
  readonly timeoutMs: number;
  readonly interfaces?: readonly string[] | undefined;
  readonly topics: () => Iterable<string>;
  /** The broker's address, where its name need not be waited for. */
  readonly known: () => string | undefined;
}

export interface TrialEvents {
  /** It was let in, `rttMs` after it asked, and is no trial any more; the others were given up. */
  opened(connection: BrokerConnection, rttMs: number): void;
  /** One has ended; `left` are still under way. */
  failed(error: P2pdError, left: number): void;
  ready(connection: BrokerConnection): void;
  heard(connection: BrokerConnection): void;
  message(connection: BrokerConnection, topic: string, payload: Uint8Array): void;
  subscribed(connection: BrokerConnection, topic: string, refusal?: string): void;
  /** One that was let in has ended. */
  closed(connection: BrokerConnection, error: P2pdError): void;
}

export interface BrokerTrials {
  readonly count: number;
  /** Begins another one, in place of the oldest that hangs where there are too many. */
  begin(): void;
  /** Gives all of them up. */
  drop(reason: P2pdError): void;
}

export function createBrokerTrials(
  world: World,
  { broker, timeoutMs, interfaces, topics, known }: BrokerTrialsOptions,
  events: TrialEvents,
): BrokerTrials {
  const trials = new Set<BrokerConnection>();
  let version: MqttVersion = 5;
  let canTie = true;
  /** Since one was let in. */
  let begun = 0;

  /** The next NIC, in turn. */
  function nextWay(): string | undefined {
    const ways = canTie ? waysOut(world.nics(), interfaces) : [undefined];
    return ways[begun++ % ways.length];
  }

  function start(device: string | undefined): void {
    const knownIp = known();
    const trial = startBrokerConnection(
      world,
      {
        broker,
        version,
        timeoutMs,
        topics,
        ...(device === undefined ? {} : { device }),
        ...(knownIp === undefined ? {} : { known: knownIp }),
      },
      {
        opened(rttMs) {
          if (!trials.delete(trial)) return;
          begun = 0;
          drop(new P2pdError("aborted", "another try was faster"));
          events.opened(trial, rttMs);
        },
        ready: () => events.ready(trial),
        heard: () => events.heard(trial),
        message: (topic, payload) => events.message(trial, topic, payload),
        subscribed: (topic, refusal) => events.subscribed(trial, topic, refusal),
        closed(error, isRefusal) {
          if (trials.delete(trial)) failed(trial, error, isRefusal);
          else events.closed(trial, error);
        },
      },
    );
    trials.add(trial);
  }

  function failed(trial: BrokerConnection, error: P2pdError, isRefusal: boolean): void {
    const isTieRefused = error.code === "unsupported" || error.detail["system"] === "EPERM";
    if (trial.device !== undefined && isTieRefused) canTie = false;
    if (isRefusal) version = trial.version === 5 ? 4 : 5;
    if (isRefusal && trial.version === 5) start(trial.device);
    else events.failed(error, trials.size);
  }

  function drop(reason: P2pdError): void {
    for (const trial of trials) {
      trials.delete(trial);
      trial.abort(reason);
    }
  }

  return {
    get count() {
      return trials.size;
    },
    begin() {
      if (trials.size >= TRIALS_MAX) {
        const hanging = [...trials].find(({ isReached }) => !isReached);
        // Those that have reached the broker need no company.
        if (hanging === undefined) return;
        trials.delete(hanging);
        hanging.abort(new P2pdError("aborted", "another try has begun"));
      }
      start(nextWay());
    },
    drop,
  };
}
