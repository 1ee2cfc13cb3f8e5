/** Routes that tell which routers stand between this machine and the internet, and what follows from that. */
import { t } from "elysia";
import type { NodeApi } from "../core/node/node-api.ts";
import { type Route, route } from "./route.ts";

const PROTOCOL = {
  type: "port-restricted",
  typeNumber: 5,
  delta: { type: "equal", typeNumber: 2, value: 0 },
  mapping: "endpoint-independent",
  filtering: "address-and-port-dependent",
  range: [2301, 64_911],
  hairpinning: false,
  portPreservation: true,
  portParity: true,
};

const EXAMPLE = {
  error: 0,
  nics: [
    {
      name: "eth0",
      families: [
        {
          family: 4,
          address: "192.168.1.7",
          external: "198.51.100.7",
          nat: { udp: PROTOCOL, tcp: { ...PROTOCOL, inferred: "filtering" } },
          elapsedMs: 412,
          servers: { asked: 3, answered: 3 },
        },
      ],
    },
  ],
  advice: ["eth0, IPv4, seen as 198.51.100.7: a port-restricted NAT …"],
};

export function natRoutes(node: NodeApi): readonly Route[] {
  return [
    route({
      path: "/p2p/nat",
      aliases: ["/nat"],
      query: t.Object({
        wait: t.Optional(
          t.Union([t.Literal("true"), t.Literal("false")], {
            description: "false: answers with what is known already.",
            examples: ["false"],
          }),
        ),
      }),
      isSafe: true,
      group: "node",
      summary: "The NATs in front of the NICs, and what will work, in words",
      description:
        "Waits for what is being measured. Each protocol has its type, how the external port of a new mapping is picked (`delta`), and RFC 4787's words; `nat` is null where nothing is known, and `msg` says why. `docs/nat.md` explains it.",
      answer: { example: EXAMPLE },
      handle: async ({ query }) => ({ error: 0, ...(await node.nat(query.wait !== "false")) }),
    }),
    route({
      verb: "POST",
      path: "/p2p/nat/refresh",
      aliases: ["/nat/refresh"],
      group: "node",
      summary: "Measures the NATs again",
      description: "Answers as `GET /p2p/nat` when that is done.",
      answer: { example: EXAMPLE },
      handle: async () => ({ error: 0, ...(await node.refreshNat()) }),
    }),
  ];
}
