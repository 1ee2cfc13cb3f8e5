/**
 * The description of pipes for whoever asks the HTTP server. The front door answers these requests itself; one
 * arrives here only on a connection that has carried other requests.
 */
import { t } from "elysia";
import { badArgument, errorResponse } from "./errors.ts";
import { connectionName, type Route, route } from "./route.ts";

export function pipeRoutes(): readonly Route[] {
  return [
    route({
      path: "/p2p/pipe/:name",
      aliases: ["/p2p/tunnel/:name", "/pipe/:name", "/tunnel/:name"],
      params: t.Object({ name: connectionName() }),
      group: "messages",
      summary: "Turns the HTTP connection itself into a two-way relay",
      description:
        "Three forms. A plain GET on a new connection: no answer, raw octets at once. With `Upgrade: p2pd`: `101 Switching Protocols` first. As a WebSocket: octets in binary messages, text is taken too. Needs a connection of its own, and a page can use the WebSocket only, so that pressing it here answers 421 or 400.",
      answer: { type: "application/octet-stream", example: "" },
      handle: ({ request }) =>
        errorResponse(
          badArgument(
            "the connection",
            request.url,
            "one that has carried no other request; open a new connection for a pipe",
          ),
          421,
        ),
    }),
  ];
}
