/**
 * Replies that were given, kept for a while: when a copy of the question comes over another broker, or the question
 * is asked again because the reply was lost, the same reply goes out once more and nobody has to think again.
 */
import type { BrokerLinks } from "./broker-links.ts";

const KEPT_MAX = 256;

interface Reply {
  readonly via: Set<string>;
  topic?: string;
  envelope?: Uint8Array;
}

export interface Replies {
  /** A question came over these brokers. */
  expect(from: string, messageId: string, via: ReadonlySet<string>): void;
  /** This is its reply: it goes where the question came from. */
  give(from: string, messageId: string, topic: string, envelope: Uint8Array): void;
  /** The question came once more. */
  again(from: string, messageId: string, via: string): void;
}

export function createReplies(links: Pick<BrokerLinks, "named">): Replies {
  const replies = new Map<string, Reply>();
  const nameOf = (from: string, messageId: string): string => `${from} ${messageId}`;

  return {
    expect(from, messageId, via) {
      if (replies.size >= KEPT_MAX) replies.delete(replies.keys().next().value as string);
      replies.set(nameOf(from, messageId), { via: new Set(via) });
    },
    give(from, messageId, topic, envelope) {
      const reply = replies.get(nameOf(from, messageId));
      if (reply === undefined) return;
      reply.topic = topic;
      reply.envelope = envelope;
      for (const name of reply.via) links.named(name)?.publish(topic, envelope);
    },
    again(from, messageId, via) {
      const reply = replies.get(nameOf(from, messageId));
      if (reply === undefined) return;
      reply.via.add(via);
      if (reply.topic === undefined || reply.envelope === undefined) return;
      links.named(via)?.publish(reply.topic, reply.envelope);
    },
  };
}
