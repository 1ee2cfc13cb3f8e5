/** Routes that carry messages over a connection: text, octets, and queues of what arrives. */
import { t } from "elysia";
import { P2pdError, toP2pdError } from "../core/errors.ts";
import type { NodeApi } from "../core/node/node-api.ts";
import type { Message, Pipe } from "../core/node/pipe.ts";
import { compilePattern } from "../core/node/subscription-pattern.ts";
import { badArgument } from "./errors.ts";
import { connectionName, millisecondsOf, type Route, route, timeoutSeconds } from "./route.ts";
import { tupleOf } from "./shapes.ts";

/** How long a receive waits that names no timeout, as in P2PD. */
const DEFAULT_WAIT_MS = 2000;

const patterns = {
  msg_p: t.Optional(
    t.String({ maxLength: 512, description: "Regular expression that messages must match." }),
  ),
  addr_p: t.Optional(
    t.String({ maxLength: 512, description: "Regular expression that the sender's `IP:port` must match." }),
  ),
};

const receiving = t.Object({
  timeout: timeoutSeconds(
    "How long to wait, in seconds. Absent: 2, and error 6 after that; 0: does not wait.",
  ),
  sub: t.Optional(
    t.String({ minLength: 1, maxLength: 1100, description: "Name of the subscription to receive from." }),
  ),
  ...patterns,
});

interface Receiving {
  readonly timeout?: string;
  readonly sub?: string;
  readonly msg_p?: string;
  readonly addr_p?: string;
}

const RECEIVING_DETAILS =
  "Messages of a subscription are taken by its name, `sub`. With `msg_p` or `addr_p` and no `sub`, the queue of just these patterns is used; it is made by the first such request and gathers from then on.";

export function exchangeRoutes(node: NodeApi): readonly Route[] {
  const pipeOf = (name: string): Pipe => node.connection(name).pipe;
  return [
    route({
      path: "/p2p/send/:name/:text",
      aliases: ["/send/:name/:text"],
      params: t.Object({
        name: connectionName(),
        text: t.String({ minLength: 1, maxLength: 16_384, examples: ["ECHO hello"] }),
      }),
      group: "messages",
      summary: "Sends text",
      description: "Answers when the connection took it.",
      answer: { example: { error: 0, name: "con", con_name: "con", sent: 10 } },
      handle: async ({ params: { name, text } }) => {
        const bytes = new TextEncoder().encode(text);
        await pipeOf(name).send(bytes);
        return { error: 0, name, con_name: name, sent: bytes.length };
      },
    }),
    route({
      path: "/p2p/recv/:name",
      aliases: ["/recv/:name"],
      params: t.Object({ name: connectionName() }),
      query: receiving,
      takesPairs: true,
      group: "messages",
      summary: "Receives the next message as text",
      description: `\`encoding\` is \`utf-8\`, or \`latin1\` where the octets are no UTF-8. ${RECEIVING_DETAILS}`,
      answer: {
        example: {
          error: 0,
          name: "con",
          con_name: "con",
          client_tup: ["127.0.0.1", 20000],
          data: "hello",
          encoding: "utf-8",
        },
      },
      handle: async ({ params: { name }, query, request }) => {
        const { bytes, from } = await receive(() => pipeOf(name), query, request.signal);
        return { error: 0, name, con_name: name, client_tup: tupleOf(from), ...textOf(bytes) };
      },
    }),
    route({
      verb: "POST",
      path: "/p2p/binary/:name",
      aliases: ["/binary/:name"],
      params: t.Object({ name: connectionName() }),
      group: "messages",
      summary: "Sends the octets of the body",
      description:
        "Of any length; read no faster than the connection takes them. On a connection of datagrams each is at most 65,507 octets.",
      answer: { example: { error: 0, name: "con", con_name: "con", sent: 4096 } },
      handle: async ({ params: { name }, request }) => {
        const sent = await sendBody(pipeOf(name), request);
        return { error: 0, name, con_name: name, sent };
      },
    }),
    route({
      path: "/p2p/binary/:name",
      aliases: ["/binary/:name"],
      params: t.Object({ name: connectionName() }),
      query: receiving,
      takesPairs: true,
      group: "messages",
      summary: "Receives the next message as octets",
      description: `The sender is in the header \`x-client-tup\`. ${RECEIVING_DETAILS}`,
      answer: { type: "application/octet-stream", example: "hello" },
      handle: async ({ params: { name }, query, request }) => {
        const { bytes, from } = await receive(() => pipeOf(name), query, request.signal);
        return new Response(bytes, {
          headers: {
            "content-type": "application/octet-stream",
            "x-client-tup": JSON.stringify(tupleOf(from)),
          },
        });
      },
    }),
    ...(["GET", "DELETE"] as const).map((verb) =>
      route({
        verb,
        path: "/p2p/sub/:name",
        aliases: ["/sub/:name"],
        params: t.Object({ name: connectionName() }),
        query: t.Object({
          name: t.Optional(
            t.String({
              minLength: 1,
              maxLength: 1100,
              description: "The subscription's name.",
              examples: ["greetings"],
            }),
          ),
          ...(verb === "GET" ? patterns : {}),
        }),
        takesPairs: true,
        group: "messages",
        summary:
          verb === "GET"
            ? "Opens a queue for the messages that match"
            : "Removes a queue and what waits in it",
        description:
          "As path pairs (`/name/S/msg_p/RE/addr_p/RE`) or query. Without `name`, a GET lists the connection's queues.",
        answer: {
          example: {
            error: 0,
            name: "con",
            con_name: "con",
            sub_name: "greetings",
            ...(verb === "GET" ? { sub: ["^hello", ""] } : { unsub: "greetings" }),
          },
        },
        handle: ({ params: { name }, query }) => {
          const pipe = pipeOf(name);
          const names = { error: 0, name, con_name: name };
          if (query.name === undefined) {
            if (verb === "GET") return { ...names, subs: pipe.subscriptions() };
            throw badArgument("name", "", "the name of a subscription, as /name/S or ?name=S");
          }
          if (verb === "DELETE") {
            pipe.unsubscribe(query.name);
            return { ...names, sub_name: query.name, unsub: query.name };
          }
          const { msg_p = "", addr_p = "" } = query as Receiving;
          open(pipe, query.name, msg_p, addr_p);
          return { ...names, sub_name: query.name, sub: [msg_p, addr_p] };
        },
      }),
    ),
  ];
}

function open(pipe: Pipe, name: string, msg_p: string, addr_p: string): void {
  const message = compilePattern(msg_p, "message (msg_p)");
  const sender = compilePattern(addr_p, "sender (addr_p)");
  pipe.subscribe({ name, message, sender });
}

/** The next message as the query wants it; rejects with `nothing-received` or `receive-timeout`. */
async function receive(find: () => Pipe, query: Receiving, signal: AbortSignal): Promise<Message> {
  const waitMs = millisecondsOf(query.timeout) ?? DEFAULT_WAIT_MS;
  const pipe = find();
  const queue = query.sub ?? implicitQueue(pipe, query);
  try {
    return await pipe.recv(queue, waitMs, signal);
  } catch (thrown) {
    const error = toP2pdError(thrown);
    if (error.code !== "receive-timeout" || query.timeout !== undefined) throw error;
    throw new P2pdError("nothing-received", `nothing was received in ${DEFAULT_WAIT_MS / 1000} s`);
  }
}

/** The queue of these patterns, which is made where there is none. */
function implicitQueue(pipe: Pipe, { msg_p, addr_p }: Receiving): string {
  if (msg_p === undefined && addr_p === undefined) return "all";
  const name = `/${msg_p ?? ""}/ from /${addr_p ?? ""}/`;
  if (!pipe.subscriptions().some((state) => state.name === name)) open(pipe, name, msg_p ?? "", addr_p ?? "");
  return name;
}

function textOf(bytes: Uint8Array): { data: string; encoding: "utf-8" | "latin1" } {
  try {
    return {
      data: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes),
      encoding: "utf-8",
    };
  } catch {
    return { data: Buffer.from(bytes).toString("latin1"), encoding: "latin1" };
  }
}

/** Octets sent. Rejects with `bad-argument` when the client goes away before its body is complete. */
async function sendBody(pipe: Pipe, request: Request): Promise<number> {
  let sent = 0;
  const reader = request.body?.getReader();
  const length = Number(request.headers.get("content-length") ?? Number.NaN);
  for (;;) {
    const piece = await reader?.read().catch((thrown: unknown) => {
      throw new P2pdError("bad-argument", `the body ended after ${sent} octets: ${String(thrown)}`, { sent });
    });
    if (piece?.value !== undefined && piece.value.length > 0) {
      await pipe.send(piece.value);
      sent += piece.value.length;
    }
    if (piece === undefined || piece.done) break;
  }
  if (sent < length)
    throw new P2pdError("bad-argument", `the body has ${sent} octets; its content-length says ${length}`, {
      sent,
    });
  return sent;
}
