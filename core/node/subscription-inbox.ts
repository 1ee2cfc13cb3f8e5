/**
 * Where the messages of one pipe go: "all", the named queues, the listeners. Keeps the policy that the pipe
 * promises; knows the channel only by two verbs, pause and resume.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import type { Time } from "../net/world.ts";
import { type QueueLimits, SubscriptionQueue } from "./subscription-queue.ts";
import {
  checkSubscriptionName,
  type Message,
  matchTexts,
  type Subscription,
  stateless,
} from "./subscription.ts";

/** A queue of a pipe at the moment of asking. */
export interface SubscriptionState {
  readonly name: string;
  readonly message: string;
  readonly sender: string;
  readonly waiting: number;
  readonly waitingBytes: number;
  readonly dropped: number;
}

export interface InboxOptions {
  /** A message that only "all" took may not be lost: pause instead. */
  readonly lossless: boolean;
  readonly limits: QueueLimits;
  readonly time: Time;
  readonly pause: () => void;
  readonly resume: () => void;
  /** A listener threw. */
  readonly failed: (error: P2pdError) => void;
}

/** Subscriptions that one pipe may have. */
export const MAX_SUBSCRIPTIONS = 64;

const ANY = /(?:)/;

interface Queue extends Subscription {
  readonly queue: SubscriptionQueue;
}

export class SubscriptionInbox {
  readonly #options: InboxOptions;
  readonly #all: SubscriptionQueue;
  readonly #named = new Map<string, Queue>();
  readonly #listeners = new Set<(message: Message) => void>();
  #droppedBefore = 0;
  #paused = false;
  #ended = false;

  constructor(options: InboxOptions) {
    this.#options = options;
    this.#all = new SubscriptionQueue(options.limits, options.time);
  }

  /** Messages dropped so far, those of subscriptions that are gone included. */
  get dropped(): number {
    let sum = this.#droppedBefore + this.#all.dropped;
    for (const { queue } of this.#named.values()) sum += queue.dropped;
    return sum;
  }

  subscribe(subscription: Subscription): void {
    const { name } = subscription;
    checkSubscriptionName(name);
    if (this.#named.has(name)) {
      throw new P2pdError("subscription-exists", `there is a subscription "${name}" already`);
    }
    if (this.#named.size >= MAX_SUBSCRIPTIONS) {
      throw new P2pdError("bad-argument", `a pipe has at most ${MAX_SUBSCRIPTIONS} subscriptions`);
    }
    const queue = new SubscriptionQueue(this.#options.limits, this.#options.time);
    if (this.#ended) queue.end();
    const message = stateless(subscription.message);
    const sender = stateless(subscription.sender);
    this.#named.set(name, { name, message, sender, queue });
  }

  unsubscribe(name: string): void {
    if (name === "all") checkSubscriptionName(name);
    const queue = this.#find(name);
    queue.end();
    this.#droppedBefore += queue.dropped;
    this.#named.delete(name);
  }

  states(): readonly SubscriptionState[] {
    const all: Queue = { name: "all", message: ANY, sender: ANY, queue: this.#all };
    return [all, ...this.#named.values()].map(({ name, message, sender, queue }) => ({
      name,
      message: message.source,
      sender: sender.source,
      waiting: queue.size,
      waitingBytes: queue.bytes,
      dropped: queue.dropped,
    }));
  }

  /** The next message of a queue; undefined if there is none and none may be waited for. */
  async next(name: string, timeoutMs: number, signal?: AbortSignal): Promise<Message | undefined> {
    const queue = this.#find(name);
    const message = timeoutMs === 0 ? queue.take() : await queue.next(timeoutMs, signal);
    this.#resumeIfRead();
    return message;
  }

  /** Everything that waits in "all", oldest first. */
  *drain(): Generator<Message, void, undefined> {
    for (let message = this.#all.take(); message !== undefined; message = this.#all.take()) yield message;
  }

  /** Adds a listener, who gets what waits in "all" as well; returns how to remove it. */
  listen(listener: (message: Message) => void): () => void {
    this.#listeners.add(listener);
    if (this.#all.size > 0) {
      queueMicrotask(() => {
        this.#flush();
      });
    }
    return () => {
      this.#listeners.delete(listener);
    };
  }

  /** Sorts one message. */
  receive(message: Message): void {
    const shared = this.#toNamed(message) || !this.#options.lossless;
    // What waits for a listener's first turn must reach it before this one does.
    if (this.#listeners.size > 0 && this.#all.size === 0) {
      if (this.#all.hasWaiter) this.#all.push(message, true);
      this.#tell(message);
      return;
    }
    this.#all.push(message, shared);
    if (!shared && this.#all.over && !this.#paused) {
      this.#paused = true;
      this.#options.pause();
    }
  }

  /** Nothing more will come. What waits can still be taken. */
  end(): void {
    this.#ended = true;
    this.#all.end();
    for (const { queue } of this.#named.values()) queue.end();
  }

  #toNamed(message: Message): boolean {
    if (this.#named.size === 0) return false;
    const texts = matchTexts(message);
    let taken = false;
    for (const entry of this.#named.values()) {
      if (!entry.sender.test(texts.sender) || !entry.message.test(texts.message)) continue;
      entry.queue.push(message, true);
      taken = true;
    }
    return taken;
  }

  #tell(message: Message): void {
    for (const listener of this.#listeners) {
      try {
        listener(message);
      } catch (thrown) {
        this.#listeners.clear();
        this.#options.failed(toP2pdError(thrown, "internal", "a message listener threw"));
        return;
      }
    }
  }

  #flush(): void {
    while (this.#listeners.size > 0) {
      const message = this.#all.take();
      if (message === undefined) break;
      this.#tell(message);
    }
    this.#resumeIfRead();
  }

  #resumeIfRead(): void {
    if (!this.#paused || !this.#all.belowHalf) return;
    this.#paused = false;
    this.#options.resume();
  }

  #find(name: string): SubscriptionQueue {
    const queue = name === "all" ? this.#all : this.#named.get(name)?.queue;
    if (queue !== undefined) return queue;
    throw new P2pdError("no-such-subscription", `the pipe has no subscription "${name.slice(0, 128)}"`);
  }
}
