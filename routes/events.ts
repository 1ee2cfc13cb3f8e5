/** The stream of events (`text/event-stream`), with a bound on what a slow client may leave unread. */
import type { World } from "../core/net/world.ts";
import type { NodeApi } from "../core/node/node-api.ts";
import { type Route, route } from "./route.ts";

export interface EventLimits {
  /** Octets that may wait for one client; one that leaves more unread is dropped. */
  readonly unreadOctets: number;
  /** A comment is sent so often, so that both sides notice when the other is gone. */
  readonly heartbeatMs: number;
}

export const EVENT_LIMITS: EventLimits = { unreadOctets: 262_144, heartbeatMs: 15_000 };

export interface EventCounts {
  eventClients: number;
  slowEventClients: number;
}

export function eventRoutes(
  world: World,
  node: NodeApi,
  counts: EventCounts,
  limits: EventLimits = EVENT_LIMITS,
): readonly Route[] {
  return [
    route({
      path: "/p2p/events",
      aliases: ["/events"],
      group: "connections",
      summary: "A stream of events: ready, incoming, opened, closed, network, status",
      description: `Server-sent events, as \`EventSource\` reads them. A client that leaves ${limits.unreadOctets} octets unread is dropped.`,
      answer: { type: "text/event-stream", example: 'event: closed\ndata: {"name":"con"}\n\n' },
      handle: () =>
        new Response(eventStream(world, node, counts, limits), {
          headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
        }),
    }),
  ];
}

function eventStream(world: World, node: NodeApi, counts: EventCounts, limits: EventLimits): ReadableStream {
  const encoder = new TextEncoder();
  let stop = (): void => {};
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        counts.eventClients++;
        let timer = world.time.after(limits.heartbeatMs, beat, { background: true });
        const unsubscribe = node.subscribe(({ event, data }) =>
          send(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`),
        );
        stop = () => {
          stop = () => {};
          unsubscribe();
          timer.cancel();
          counts.eventClients--;
        };
        function send(text: string): void {
          controller.enqueue(encoder.encode(text));
          if ((controller.desiredSize ?? 1) > 0) return;
          counts.slowEventClients++;
          stop();
          controller.error(new Error("the client does not read its events"));
        }
        function beat(): void {
          timer = world.time.after(limits.heartbeatMs, beat, { background: true });
          send(": still here\n\n");
        }
        send(": events follow\n\n");
      },
      cancel: () => stop(),
    },
    new ByteLengthQueuingStrategy({ highWaterMark: limits.unreadOctets }),
  );
}
