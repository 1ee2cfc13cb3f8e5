/** Routes that tell of the program, this machine's NICs, and the node's address and state. */
import type { NodeApi } from "../core/node/node-api.ts";
import { t } from "elysia";
import { decodeAddress } from "../core/wire/address.ts";
import { explainAddress } from "../core/wire/explain-address.ts";
import { type Route, route } from "./route.ts";

/** `counts` is what the API has counted of its own clients. */
export function informationRoutes(
  node: NodeApi,
  counts: () => Readonly<Record<string, number>>,
): readonly Route[] {
  return [
    route({
      path: "/version",
      isSafe: true,
      group: "node",
      summary: "Title, author and version of the program",
      answer: { example: { title: "P2PD", author: "the P2PD authors", version: "0.1.0", error: 0 } },
      handle: () => ({ title: "P2PD", author: "the P2PD authors", version: node.version, error: 0 }),
    }),
    route({
      path: "/p2p/ifs",
      aliases: ["/ifs"],
      isSafe: true,
      group: "node",
      summary: "The NICs and their routes",
      description:
        "`rp` has the routes per family (2: IPv4, 10: IPv6): NIC addresses and the external addresses that they leave by. `nat` is null until it is known; its `families` have both protocols in full.",
      answer: {
        example: {
          error: 0,
          ifs: [
            {
              id: "eth0",
              name: "eth0",
              mac: "02:00:00:00:00:01",
              nic_no: 2,
              netiface_index: 0,
              is_default: { "2": true, "10": false },
              nat: {
                type: 5,
                nat_info: "port-restricted",
                delta: { type: 2, value: 0 },
                delta_info: "equal",
                families: {},
              },
              rp: {
                "2": [
                  {
                    af: 2,
                    nic_ips: [{ ip: "192.0.2.10", cidr: 24, af: 2 }],
                    ext_ips: [{ ip: "198.51.100.7", cidr: 32, af: 2 }],
                  },
                ],
                "10": [],
              },
            },
          ],
        },
      },
      handle: () => ({ error: 0, ifs: node.interfaces() }),
    }),
    route({
      path: "/p2p/addr",
      aliases: ["/addr"],
      isSafe: true,
      group: "node",
      summary: "The node's address, to be given to whoever shall connect",
      answer: { example: { addr: "p2pd1,…", id: "A…", error: 0 } },
      handle: () => ({ addr: node.address(), id: node.id, error: 0 }),
    }),
    route({
      path: "/p2p/addr/explain/:addr",
      aliases: ["/addr/explain/:addr"],
      params: t.Object({
        addr: t.String({
          minLength: 1,
          maxLength: 8192,
          description: "An address line, or `self`: this node's own.",
          examples: ["self"],
        }),
      }),
      isSafe: true,
      group: "node",
      summary: "What an address says, field by field",
      description:
        "`position` is that of a field's first character, from 1. A line that is wrong gets an error with the field, its position and what was expected there.",
      answer: {
        example: {
          error: 0,
          addr: "p2pd1~A…",
          address: { id: "A…", machine: "…", brokers: [], nics: [] },
          fields: [{ name: "version", position: 1, text: "p2pd1", meaning: "address line, version 1" }],
        },
      },
      handle: ({ params }) => {
        const addr = params.addr === "self" ? node.address() : params.addr;
        return { error: 0, addr, address: decodeAddress(addr), fields: explainAddress(addr) };
      },
    }),
    route({
      path: "/p2p/status",
      isSafe: true,
      group: "node",
      summary: "What is up, what is not, and why",
      description: "`api` counts what clients of the API did since it started.",
      answer: {
        example: {
          error: 0,
          id: "A…",
          version: "0.1.0",
          parts: [{ part: "listener", state: "up", detail: "TCP port 20000" }],
          connections: 1,
          api: { connections: 12, pipes: 1 },
        },
      },
      handle: () => ({
        error: 0,
        id: node.id,
        version: node.version,
        parts: node.status(),
        connections: node.connections().length,
        api: counts(),
      }),
    }),
  ];
}
