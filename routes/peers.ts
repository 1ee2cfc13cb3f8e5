/** Routes of the address book: names for other nodes. */
import { t } from "elysia";
import { P2pdError } from "../core/errors.ts";
import type { NodeApi } from "../core/node/node-api.ts";
import { type Route, route } from "./route.ts";

const EXAMPLE_ID = "AgECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";
const FRIEND = { name: "friend", id: EXAMPLE_ID };
const peerName = t.String({
  minLength: 1,
  maxLength: 128,
  description: "The name in the address book.",
  examples: ["friend"],
});

export function peerRoutes(node: NodeApi): readonly Route[] {
  return [
    route({
      path: "/p2p/peers",
      aliases: ["/peers"],
      isSafe: true,
      group: "peers",
      summary: "The address book",
      description: "Names stand for ids or addresses, and may be given to `open`.",
      answer: { example: { error: 0, peers: [FRIEND] } },
      handle: () => ({ error: 0, peers: node.peers() }),
    }),
    route({
      verb: "PUT",
      path: "/p2p/peers/:name",
      aliases: ["/peers/:name"],
      params: t.Object({ name: peerName }),
      body: t.Object(
        {
          to: t.String({
            minLength: 1,
            maxLength: 8192,
            description: "The node's id or address.",
            examples: [EXAMPLE_ID],
          }),
        },
        { additionalProperties: false, examples: [{ to: EXAMPLE_ID }] },
      ),
      group: "peers",
      summary: "Notes a node under a name; replaces one of that name",
      answer: { example: { error: 0, ...FRIEND } },
      handle: ({ params, body }) => ({ error: 0, ...node.putPeer(params.name, body.to) }),
    }),
    route({
      path: "/p2p/peers/:name",
      aliases: ["/peers/:name"],
      params: t.Object({ name: peerName }),
      isSafe: true,
      group: "peers",
      summary: "One name of the address book",
      answer: { example: { error: 0, ...FRIEND } },
      handle: ({ params }) => {
        const peer = node.peers().find(({ name }) => name === params.name);
        if (peer === undefined)
          throw new P2pdError("no-such-peer", `the address book has no "${params.name}"`);
        return { error: 0, ...peer };
      },
    }),
    route({
      verb: "DELETE",
      path: "/p2p/peers/:name",
      aliases: ["/peers/:name"],
      params: t.Object({ name: peerName }),
      group: "peers",
      summary: "Forgets a name; connections go on",
      answer: { example: { error: 0, name: "friend", deleted: "friend" } },
      handle: ({ params }) => {
        node.deletePeer(params.name);
        return { error: 0, name: params.name, deleted: params.name };
      },
    }),
  ];
}
