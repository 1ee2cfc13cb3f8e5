/** Routes that open, show, await and close connections. */
import { t } from "elysia";
import { P2pdError } from "../core/errors.ts";
import type { NodeApi, OpenOptions, Strategy } from "../core/node/node-api.ts";
import { badArgument, INFO_UNKNOWN_NUMBER } from "./errors.ts";
import { connectionName, millisecondsOf, type Route, route, timeoutSeconds } from "./route.ts";
import { connectionShape } from "./shapes.ts";

const STRATEGIES: readonly Strategy[] = ["direct", "reverse", "punch", "relay"];
/** As long as `accept` waits where it is not told. */
const ACCEPT_MS = 3_600_000;

const EXAMPLE = {
  error: 0,
  name: "con",
  con_name: "con",
  direction: "out",
  peer: { id: "A…" },
  strategy: "direct",
  path: "direct/tcp",
  transport: "tcp",
  kind: "stream",
  fd: 14,
  laddr: ["127.0.0.1", 40112],
  raddr: ["127.0.0.1", 20000],
  route: { af: 2, nic_ips: ["127.0.0.1"], ext_ips: ["127.0.0.1"] },
  if: { name: "lo", offset: 0 },
  cipher: "TLS_AES_128_GCM_SHA256",
  openedMs: 4.1,
  rttMs: 0.2,
  sent: 0,
  received: 0,
  cost: { packets: 0, datagrams: 0, syns: 0, stunRequests: 0 },
  timeline: [{ ms: 0.3, strategy: "direct", candidate: "127.0.0.1:20000", event: "connect", detail: "" }],
};

export function connectionRoutes(node: NodeApi): readonly Route[] {
  return [
    route({
      path: "/p2p/open/:name/:addr",
      aliases: ["/open/:name/:addr"],
      params: t.Object({
        name: connectionName(),
        addr: t.String({
          minLength: 1,
          maxLength: 8192,
          description: "An address, a node's id, a name of the address book, or `self`.",
          examples: ["self"],
        }),
      }),
      query: t.Object({
        service: t.Optional(
          t.String({ minLength: 1, maxLength: 128, description: "Name of the peer's service." }),
        ),
        strategies: t.Optional(
          t.String({ maxLength: 128, description: "Some of direct, reverse, punch, relay; with commas." }),
        ),
        relay: t.Optional(
          t.Union([t.Literal("never"), t.Literal("last"), t.Literal("first")], {
            description: "When a TURN server may carry it: never, last, first; as configured unless given.",
          }),
        ),
        transport: t.Optional(t.Union([t.Literal("tcp"), t.Literal("udp")])),
        timeout: timeoutSeconds("How long to try, in seconds."),
        resumeFor: timeoutSeconds(
          "How long another path is sought when the connection has lost its own, in seconds; 0: not at all.",
        ),
      }),
      takesPairs: true,
      group: "connections",
      summary: "Opens a connection and keeps it under a name",
      description:
        "All strategies that may work race; the first path on which the peer proves its key wins. A failure (error 3) lists every attempt with its reason.",
      answer: { example: EXAMPLE },
      handle: async ({ params, query }) => {
        const timeoutMs = millisecondsOf(query.timeout);
        const resumeForMs = millisecondsOf(query.resumeFor, "resumeFor");
        const options: OpenOptions = {
          ...(query.service === undefined ? {} : { service: query.service }),
          ...(query.transport === undefined ? {} : { transport: query.transport }),
          ...(query.relay === undefined ? {} : { relay: query.relay }),
          ...(query.strategies === undefined ? {} : { strategies: strategiesOf(query.strategies) }),
          ...(timeoutMs === undefined ? {} : { timeoutMs }),
          ...(resumeForMs === undefined ? {} : { resumeForMs }),
        };
        return { error: 0, ...connectionShape(await node.open(params.name, params.addr, options)) };
      },
    }),
    route({
      path: "/p2p/con/:name",
      aliases: ["/con/:name", "/info/:name", "/p2p/info/:name"],
      params: t.Object({ name: connectionName() }),
      isSafe: true,
      group: "connections",
      summary: "A connection: its path, its peer, and what it has carried",
      answer: { example: EXAMPLE },
      handle: ({ params, alias, status }) => {
        try {
          return { error: 0, ...connectionShape(node.connection(params.name)) };
        } catch (thrown) {
          const isUnknown = thrown instanceof P2pdError && thrown.code === "no-such-connection";
          if (!isUnknown || alias !== "/info/:name") throw thrown;
          status(404);
          return { error: INFO_UNKNOWN_NUMBER, code: thrown.code, msg: `con ${params.name} does not exist` };
        }
      },
    }),
    route({
      path: "/p2p/cons",
      aliases: ["/cons"],
      isSafe: true,
      group: "connections",
      summary: "All connections",
      answer: { example: { error: 0, cons: [EXAMPLE] } },
      handle: () => ({ error: 0, cons: node.connections().map(connectionShape) }),
    }),
    route({
      path: "/p2p/accept",
      aliases: ["/accept"],
      query: t.Object({ timeout: timeoutSeconds("How long to wait, in seconds; an hour by default.") }),
      takesPairs: true,
      group: "connections",
      summary: "Waits for the next incoming connection and names it",
      description:
        "Connections that ask for a service go there and are not seen here. Nothing is lost when the client goes away while it waits.",
      answer: { example: { ...EXAMPLE, name: "in-1", con_name: "in-1", direction: "in" } },
      handle: async ({ query, request }) => {
        const timeoutMs = millisecondsOf(query.timeout) ?? ACCEPT_MS;
        const connection = await node.accept(timeoutMs, request.signal);
        if (connection !== undefined) return { error: 0, ...connectionShape(connection) };
        throw new P2pdError("receive-timeout", `no connection came in ${timeoutMs / 1000} s`);
      },
    }),
    ...(["GET", "DELETE"] as const).map((verb) =>
      route({
        verb,
        path: verb === "GET" ? "/p2p/close/:name" : "/p2p/con/:name",
        aliases: verb === "GET" ? ["/close/:name"] : ["/con/:name"],
        params: t.Object({ name: connectionName() }),
        group: "connections",
        summary: "Closes a connection and forgets its name",
        answer: { example: { error: 0, closed: "con" } },
        handle: async ({ params }) => {
          await node.close(params.name);
          return { error: 0, name: params.name, con_name: params.name, closed: params.name };
        },
      }),
    ),
  ];
}

function strategiesOf(list: string): readonly Strategy[] {
  return list.split(",").map((text) => {
    const strategy = STRATEGIES.find((known) => known === text.trim());
    if (strategy === undefined)
      throw badArgument("strategies", list, `some of ${STRATEGIES.join(", ")}, with commas`);
    return strategy;
  });
}
