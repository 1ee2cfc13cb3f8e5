/**
 * What a broker keeps for those who subscribe later: the last message of each topic, found by its name, within bounds.
 * When there is no room the oldest goes; who still needs it publishes it again.
 */

export interface RetainedMessage {
  readonly topic: string;
  readonly payload: Uint8Array | string;
}

export interface RetainedBounds {
  readonly messages: number;
  /** Octets of topics and payloads together. */
  readonly octets: number;
}

export interface RetainedMessages<Message extends RetainedMessage> {
  /** Keeps it in place of its topic's last one; an empty payload takes that away. */
  store(message: Message): void;
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
  const byTopic = new Map<string, Message>();
  let octets = 0;
  let dropped = 0;

  function remove(topic: string): void {
    const standing = byTopic.get(topic);
    if (standing === undefined) return;
    byTopic.delete(topic);
    octets -= sizeOf(standing);
  }

  return {
    store(message) {
      remove(message.topic);
      if (message.payload.length === 0) return;
      const size = sizeOf(message);
      if (size > bounds.octets) {
        dropped++;
        return;
      }
      while (byTopic.size >= bounds.messages || octets + size > bounds.octets) {
        const [oldest] = byTopic.keys();
        remove(oldest as string);
        dropped++;
      }
      // A view of a larger chunk would keep all of that.
      const payload = typeof message.payload === "string" ? message.payload : Buffer.from(message.payload);
      byTopic.set(message.topic, { ...message, payload });
      octets += size;
    },
    get: (topic) => byTopic.get(topic),
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
