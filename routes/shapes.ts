/**
 * The JSON forms of what the node tells: connections and services, with the field names of P2PD's users.
 */
import type { Endpoint } from "../core/ip.ts";
import { formatEndpoint } from "../core/ip.ts";
import type { Connection, ServiceDescription } from "../core/node/node-api.ts";

export type Tuple = readonly [ip: string, port: number];

export function tupleOf({ ip, port }: Endpoint): Tuple {
  return [ip, port];
}

/** A connection as `open`, `con`, `cons` and `accept` show it. */
export function connectionShape(connection: Connection): Record<string, unknown> {
  const { pipe, nic, name } = connection;
  return {
    name,
    con_name: name,
    direction: connection.direction,
    peer: connection.peer,
    ...(connection.service === undefined ? {} : { service: connection.service }),
    strategy: connection.strategy,
    path: connection.path,
    transport: connection.transport,
    kind: pipe.kind,
    fd: pipe.fd,
    laddr: tupleOf(pipe.local),
    raddr: tupleOf(pipe.remote),
    route: connection.route,
    if: { name: nic.name, offset: nic.offset },
    cipher: connection.cipher,
    openedMs: connection.openedMs,
    rttMs: connection.rttMs,
    ...(connection.clock === undefined ? {} : { clock: connection.clock }),
    sent: pipe.sent,
    received: pipe.received,
    cost: connection.cost,
    timeline: connection.timeline,
  };
}

export function serviceShape(service: ServiceDescription): Record<string, unknown> {
  const { to, allow, ...rest } = service;
  return {
    ...rest,
    ...(to === undefined ? {} : { to: formatEndpoint(to) }),
    allow: allow ?? "everyone",
  };
}
