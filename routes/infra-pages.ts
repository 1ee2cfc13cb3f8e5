/** How the servers of `p2pd infra` fare, in three forms: JSON, Prometheus' text format, and a page for people. */
import type { Infra } from "../core/infra/infra.ts";
import { formatEndpoint } from "../core/ip.ts";

/** A figure under the name by which it is collected. */
interface Figure {
  readonly name: string;
  readonly kind: "gauge" | "counter";
  readonly help: string;
  readonly value: number;
  readonly labels?: string;
}

/** The state as JSON has it. `nowMs` is monotonic. */
export function infraStatus(infra: Infra, nowMs: number): Record<string, unknown> {
  const { broker, turn, limits } = infra;
  return {
    error: 0,
    uptimeSeconds: Math.floor((nowMs - infra.startedMs) / 1000),
    listening: infra.listening.map(({ server, endpoint }) => ({ server, at: formatEndpoint(endpoint) })),
    ...(turn === undefined
      ? {}
      : {
          turn: {
            allocations: turn.server.allocations.all.size,
            maxAllocations: limits.allocations,
            connections: turn.streams.count,
            peerConnections: turn.server.connections.count,
            ...turn.server.counts,
            errors: Object.fromEntries(turn.server.counts.errors),
          },
        }),
    ...(broker === undefined
      ? {}
      : {
          broker: {
            clients: broker.clients,
            maxClients: limits.clients,
            ...broker.counts,
            retained: broker.retained.count,
            retainedOctets: broker.retained.octets,
            retainedDropped: broker.retained.dropped,
          },
        }),
  };
}

function figuresOf(infra: Infra, nowMs: number): Figure[] {
  const figures: Figure[] = [];
  const add = (kind: Figure["kind"], name: string, help: string, value: number, labels?: string): void => {
    figures.push({
      kind,
      name: `p2pd_infra_${name}`,
      help,
      value,
      ...(labels === undefined ? {} : { labels }),
    });
  };
  add("gauge", "uptime_seconds", "Time since the start", Math.floor((nowMs - infra.startedMs) / 1000));
  const { broker, turn } = infra;
  if (turn !== undefined) {
    const { counts, allocations, connections } = turn.server;
    add("gauge", "turn_allocations", "Allocations that stand", allocations.all.size);
    add("gauge", "turn_client_connections", "Connections of clients over TCP and TLS", turn.streams.count);
    add("gauge", "turn_peer_connections", "Connections with peers over TCP", connections.count);
    add("counter", "turn_allocated_total", "Allocations that were made", counts.allocated);
    add("counter", "turn_expired_total", "Allocations that were not refreshed", counts.expired);
    add("counter", "stun_bindings_total", "Binding requests that were answered", counts.bindings);
    add("counter", "malformed_total", "Datagrams and messages that are none", counts.malformed);
    add("counter", "limited_total", "Requests beyond their sender's share", counts.limited);
    const packets = "Datagrams that were relayed";
    add("counter", "turn_packets_total", packets, counts.packetsToPeers, 'to="peer"');
    add("counter", "turn_packets_total", packets, counts.packetsToClients, 'to="client"');
    const octets = "Octets that were relayed";
    add("counter", "turn_octets_total", octets, counts.octetsToPeers, 'to="peer"');
    add("counter", "turn_octets_total", octets, counts.octetsToClients, 'to="client"');
    const dropped = "Data that was not relayed";
    add("counter", "turn_dropped_total", dropped, counts.dropNoPermission, 'why="no permission"');
    add("counter", "turn_dropped_total", dropped, counts.dropNoChannel, 'why="no channel"');
    add("counter", "turn_dropped_total", dropped, counts.dropOwnAddress, 'why="own address"');
    add("counter", "turn_dropped_total", dropped, counts.dropSlowClient, 'why="slow client"');
    for (const [code, count] of counts.errors) {
      add("counter", "turn_errors_total", "Errors that were answered", count, `code="${code}"`);
    }
  }
  if (broker !== undefined) {
    add("gauge", "broker_clients", "Clients of the broker", broker.clients);
    add("gauge", "broker_retained", "Messages that are retained", broker.retained.count);
    add("gauge", "broker_retained_octets", "Octets of those and of their topics", broker.retained.octets);
    add(
      "counter",
      "broker_retained_dropped_total",
      "Retained messages that made room",
      broker.retained.dropped,
    );
    add("counter", "broker_published_total", "Messages that came", broker.counts.published);
    add("counter", "broker_delivered_total", "Messages that went to subscribers", broker.counts.delivered);
    add("counter", "broker_refused_total", "Clients that were turned away", broker.counts.refused);
  }
  return figures;
}

/** Prometheus' text format, version 0.0.4. */
export function infraMetrics(infra: Infra, nowMs: number): string {
  let last = "";
  const lines: string[] = [];
  for (const { name, kind, help, value, labels } of figuresOf(infra, nowMs)) {
    if (name !== last) lines.push(`# HELP ${name} ${help}.`, `# TYPE ${name} ${kind}`);
    last = name;
    lines.push(`${name}${labels === undefined ? "" : `{${labels}}`} ${value}`);
  }
  return `${lines.join("\n")}\n`;
}

/** A page that renews itself every five seconds and loads nothing from elsewhere. */
export function infraPage(infra: Infra, nowMs: number): string {
  const servers = infra.listening
    .map(({ server, endpoint }) => `<tr><td>${server}</td><td>${formatEndpoint(endpoint)}</td></tr>`)
    .join("");
  const figures = figuresOf(infra, nowMs)
    .map(({ help, labels, value }) => {
      const what = labels === undefined ? help : `${help} (${labels.replaceAll('"', "").replace("=", ": ")})`;
      return `<tr><td>${what}</td><td>${value.toLocaleString("en")}</td></tr>`;
    })
    .join("");
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<title>P2PD infra</title><style>body{font:16px system-ui;margin:2em auto;max-width:44em;padding:0 1em}
table{border-collapse:collapse;width:100%;margin-bottom:2em}td{border-bottom:1px solid #8884;padding:.3em 0}
td+td{text-align:right;font-variant-numeric:tabular-nums}</style></head><body><h1>P2PD infra</h1>
<h2>Servers</h2><table>${servers}</table><h2>Figures</h2><table>${figures}</table>
<p><a href="/status">JSON</a> · <a href="/metrics">Prometheus</a></p></body></html>
`;
}
