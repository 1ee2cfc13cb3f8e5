/** Routes that tell of forwarded ports and pin holes, and ask the routers anew. */
import type { NodeApi } from "../core/node/node-api.ts";
import {
  describePortMapping,
  type ForwardedPort,
  type PortMappingReport,
} from "../core/node/port-mapping-report.ts";
import { type Route, route } from "./route.ts";

const EXAMPLE = {
  error: 0,
  state: "on",
  places: [
    {
      nic: "eth0",
      family: 4,
      ip: "192.168.1.5",
      gateway: "192.168.1.1",
      state: "mapped",
      mappings: [
        {
          protocol: "pcp",
          transport: "tcp",
          internal: ["192.168.1.5", 20_000],
          external: ["198.51.100.7", 20_000],
          lifetimeSeconds: 7200,
        },
      ],
      externalIp: "198.51.100.7",
      doubleNat: false,
      reachable: "likely",
      why: "servers see the router's own address 198.51.100.7",
      outcomes: { pcp: "mapped", "nat-pmp": "another protocol was faster" },
      mappedAfterMs: 12,
      renewsInMs: 3_590_000,
    },
  ],
  packets: { sent: 4, requests: 0, answered: 4, ignored: 0 },
  summary: ["eth0 IPv4: 192.168.1.1 forwards TCP 198.51.100.7:20000 by PCP"],
};

const DESCRIPTION =
  "For each address of a NIC with a gateway: what its router forwards, by which protocol, and how the others fared. " +
  "`reachable` is `verified` once a peer has connected from the internet, `likely` where the router's address is the one " +
  "that servers see, `no` where another NAT stands above the router (`doubleNat`), else `unknown`, or `none`.";

export function portMappingRoutes(node: NodeApi): readonly Route[] {
  return [
    route({
      path: "/p2p/portmap",
      aliases: ["/portmap"],
      isSafe: true,
      group: "node",
      summary: "Forwarded ports and pin holes",
      description: DESCRIPTION,
      answer: { example: EXAMPLE },
      handle: () => portMappingShape(node.portMapping()),
    }),
    route({
      verb: "POST",
      path: "/p2p/portmap/refresh",
      aliases: ["/portmap/refresh"],
      group: "node",
      summary: "Asks the routers anew and waits for what they say",
      description:
        "A router that does not answer is waited for 3 s at most. The answer is that of `GET /p2p/portmap`.",
      answer: { example: EXAMPLE },
      handle: async () => portMappingShape(await node.refreshPortMapping()),
    }),
  ];
}

function portMappingShape(report: PortMappingReport): Record<string, unknown> {
  return {
    error: 0,
    ...report,
    places: report.places.map((place) => ({ ...place, mappings: place.mappings.map(mappingShape) })),
    summary: describePortMapping(report),
  };
}

function mappingShape({ internal, external, ...rest }: ForwardedPort): Record<string, unknown> {
  return {
    ...rest,
    internal: [internal.ip, internal.port],
    external: [external.ip ?? null, external.port],
  };
}
