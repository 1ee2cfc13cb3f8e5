/**
 * What a broker keeps for those who subscribe later: the last message of each topic, found by its name, within bounds.
 * When there is no room the oldest goes; who still needs it publishes it again. Nobody fills more than his share.
 */

export interface RetainedMessage {
  readonly topic: string;
  readonly payload: Uint8Array | string;
}

export interface RetainedBounds {
  readonly messages: number;
  /** Octets of topics and payloads together. */
  readonly octets: number;
  /** Which part of both one owner may fill, above 0 and up to 1; beyond that his own oldest goes. */
  readonly share: number;
}

export interface RetainedMessages<Message extends RetainedMessage> {
  /** Keeps it for `owner` in place of its topic's last one; an empty payload takes that away. */
  store(message: Message, owner: string): void;
  get(topic: string): Message | undefined;
  readonly count: number;
  readonly octets: number;
  /** How many were dropped for want of room. */
  readonly dropped: number;
}

export function createRetainedMessages<Message extends RetainedMessage>(
  bounds: RetainedBounds,
): RetainedMessages<Message> {
  // In the order of storing.
  const byTopic = new Map<string, { readonly message: Message; readonly owner: string }>();
  /** What each owner has: topics in the order of storing. */
  const byOwner = new Map<string, { readonly topics: Set<string>; octets: number }>();
  const ownMessages = Math.max(1, Math.floor(bounds.messages * bounds.share));
  const ownOctets = Math.floor(bounds.octets * bounds.share);
  let octets = 0;
  let dropped = 0;

  function remove(topic: string): void {
    const standing = byTopic.get(topic);
    if (standing === undefined) return;
    const size = sizeOf(standing.message);
    byTopic.delete(topic);
    octets -= size;
    const own = byOwner.get(standing.owner);
    if (own === undefined) return;
    own.topics.delete(topic);
    own.octets -= size;
    if (own.topics.size === 0) byOwner.delete(standing.owner);
  }

  function drop(oldestOf: Iterable<string>): void {
    const [oldest] = oldestOf;
    remove(oldest as string);
    dropped++;
  }

  return {
    store(message, owner) {
      remove(message.topic);
      if (message.payload.length === 0) return;
      const size = sizeOf(message);
      if (size > ownOctets) {
        dropped++;
        return;
      }
      for (let own = byOwner.get(owner); own !== undefined; own = byOwner.get(owner)) {
        if (own.topics.size < ownMessages && own.octets + size <= ownOctets) break;
        drop(own.topics);
      }
      while (byTopic.size >= bounds.messages || octets + size > bounds.octets) drop(byTopic.keys());
      // A view of a larger chunk would keep all of that.
      const payload = typeof message.payload === "string" ? message.payload : Buffer.from(message.payload);
      byTopic.set(message.topic, { message: { ...message, payload }, owner });
      const own = byOwner.get(owner) ?? { topics: new Set(), octets: 0 };
      own.topics.add(message.topic);
      own.octets += size;
      byOwner.set(owner, own);
      octets += size;
    },
    get: (topic) => byTopic.get(topic)?.message,
    get count() {
      return byTopic.size;
    },
    get octets() {
      return octets;
    },
    get dropped() {
      return dropped;
    },
  };
}

function sizeOf({ topic, payload }: RetainedMessage): number {
  return topic.length + (typeof payload === "string" ? Buffer.byteLength(payload) : payload.length);
}
