/** Routes for local TCP ports that are offered to peers by name. */
import { t } from "elysia";
import { P2pdError } from "../core/errors.ts";
import type { NodeApi } from "../core/node/node-api.ts";
import { type Route, route } from "./route.ts";
import { serviceShape } from "./shapes.ts";

const SSH = { name: "ssh", kind: "tcp", to: "127.0.0.1:22", allow: "everyone", connections: 0, bytes: 0 };
const serviceName = t.String({
  minLength: 1,
  maxLength: 128,
  description: "The service's name.",
  examples: ["ssh"],
});

export function serviceRoutes(node: NodeApi): readonly Route[] {
  return [
    route({
      path: "/p2p/services",
      aliases: ["/services"],
      isSafe: true,
      group: "services",
      summary: "What peers may ask for by name",
      description: "`echo` and `discard` are built in and open to all peers.",
      answer: {
        example: {
          error: 0,
          services: [{ name: "echo", kind: "echo", allow: "everyone", connections: 0, bytes: 0 }, SSH],
        },
      },
      handle: () => ({ error: 0, services: node.services().map(serviceShape) }),
    }),
    route({
      verb: "PUT",
      path: "/p2p/services/:name",
      aliases: ["/services/:name"],
      params: t.Object({ name: serviceName }),
      body: t.Object(
        {
          to: t.String({
            minLength: 1,
            maxLength: 256,
            description: "IP:port of the local service.",
            examples: ["127.0.0.1:22"],
          }),
          allow: t.Optional(
            t.Array(t.String({ minLength: 1, maxLength: 256 }), {
              maxItems: 1000,
              description: "Ids that may use it; absent: every peer.",
            }),
          ),
        },
        { additionalProperties: false, examples: [{ to: "127.0.0.1:22" }] },
      ),
      group: "services",
      summary: "Offers a local TCP port to peers; replaces a service of that name",
      answer: { example: { error: 0, ...SSH } },
      handle: ({ params, body }) => ({
        error: 0,
        ...serviceShape(node.putService(params.name, body.to, body.allow)),
      }),
    }),
    route({
      path: "/p2p/services/:name",
      aliases: ["/services/:name"],
      params: t.Object({ name: serviceName }),
      isSafe: true,
      group: "services",
      summary: "One service",
      answer: { example: { error: 0, ...SSH } },
      handle: ({ params }) => {
        const service = node.services().find(({ name }) => name === params.name);
        if (service === undefined)
          throw new P2pdError("no-such-service", `there is no service "${params.name}"`);
        return { error: 0, ...serviceShape(service) };
      },
    }),
    route({
      verb: "DELETE",
      path: "/p2p/services/:name",
      aliases: ["/services/:name"],
      params: t.Object({ name: serviceName }),
      group: "services",
      summary: "Offers it no longer; connections that use it go on",
      answer: { example: { error: 0, name: "ssh", deleted: "ssh" } },
      handle: ({ params }) => {
        node.deleteService(params.name);
        return { error: 0, name: params.name, deleted: params.name };
      },
    }),
  ];
}
