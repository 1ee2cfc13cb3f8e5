/** What tests do with nodes and connections again and again. */
import type { P2pdError } from "../../../core/errors.ts";
import type { Node } from "../../../core/node/node.ts";
import type { Connection, NodeEvent } from "../../../core/node/node-api.ts";

export async function ask(connection: Connection, text: string, at = connection): Promise<string> {
  await connection.pipe.send(text);
  return receive(at);
}

export async function receive({ pipe }: Connection): Promise<string> {
  return new TextDecoder().decode((await pipe.recv("all", 5000)).bytes);
}

export function record(node: Node): NodeEvent[] {
  const events: NodeEvent[] = [];
  node.subscribe((told) => events.push(told));
  return events;
}

export function event(node: Node, name: NodeEvent["event"]): Promise<NodeEvent> {
  return new Promise((resolve) => {
    const stop = node.subscribe((told) => {
      if (told.event !== name) return;
      stop();
      resolve(told);
    });
  });
}

export async function failure(promise: Promise<unknown>): Promise<P2pdError> {
  return promise.then(
    () => {
      throw new Error("it did not fail");
    },
    (error: unknown) => error as P2pdError,
  );
}

export async function until(isTrue: () => boolean): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let left = 3000;
  const look = (): void => {
    if (isTrue()) resolve();
    else if (left-- === 0) reject(new Error("it did not come to be"));
    else setTimeout(look, 5);
  };
  look();
  return promise;
}
