/**
 * Finds out how a router maps, filters and picks ports, from packets alone: sockets in an inside host and at
 * three endpoints of two public addresses. It shares no code with the NAT engine and is not told what the
 * router was configured to be, save the range of ports that distances wrap in.
 */
import type { Endpoint } from "../../../core/ip.ts";
import { INTERNET } from "../../nat/topologies.ts";
import { connectTcp, listenTcp, openUdp } from "../bare-sockets.ts";
import type { BareSocket, BareTcp } from "../bare-sockets.ts";

export type Protocol = "udp" | "tcp";

/** What a probe saw, in the words of the settings. */
export interface Observed {
  /** `none`: packets leave unchanged. */
  readonly mapping:
    | "none"
    | "endpoint-independent"
    | "address-dependent"
    | "address-and-port-dependent"
    | "blocked";
  /** `open`: an endpoint that never sent anything is reached. */
  readonly filtering:
    | "open"
    | "endpoint-independent"
    | "address-dependent"
    | "address-and-port-dependent"
    | "blocked";
  readonly delta: string;
}

/** Where a probe works. */
export interface ProbeSite {
  /** Namespaces of the inside host and of the internet. */
  readonly inside: string;
  readonly outside: string;
  /** The inside host's address, of the family to be probed. */
  readonly insideIp: string;
  /** The router's range of external ports. */
  readonly ports: readonly [low: number, high: number];
}

/** How long a packet that is not hindered may take on a busy machine, and the first of many is waited for. */
const ARRIVES_MS = 2000;
const FIRST_MS = 400;
/** For what is here already and only has to be taken notice of. */
const JUST_NOW_MS = 5;

let lastPort = 20_000;

/** A port that no probe of this run has used. */
export function freshPort(step = 1): number {
  lastPort += step;
  if (lastPort > 60_000) lastPort = 20_000 + (lastPort % 7);
  return lastPort;
}

const SERVERS = (ip: string): readonly [a1: Endpoint, a2: Endpoint, b1: Endpoint] => {
  const at = ip.includes(":") ? INTERNET.serverIp6 : INTERNET.serverIp4;
  const [one, two] = [freshPort(), freshPort()];
  return [
    { ip: at(20), port: one },
    { ip: at(20), port: two },
    { ip: at(21), port: one },
  ];
};

/** Opened sockets, closed together. */
class Opened implements Disposable {
  readonly #sockets: BareSocket[] = [];

  add<T extends BareSocket>(socket: T): T {
    this.#sockets.push(socket);
    return socket;
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets) socket.close();
  }
}

/** All that can be seen of a router for one protocol. */
export function probe(site: ProbeSite, protocol: Protocol): Observed {
  const delta = probeDelta(site, protocol);
  if (delta === undefined) return { mapping: "blocked", filtering: "blocked", delta: "blocked" };
  return { delta, mapping: probeMapping(site, protocol), filtering: probeFiltering(site, protocol) };
}

/**
 * Sends from local ports of an inside host to one server and returns the external endpoint of each, in order;
 * undefined if nothing arrives at all.
 */
export function mappingsOf(
  site: ProbeSite,
  protocol: Protocol,
  locals: readonly number[],
): Endpoint[] | undefined {
  using opened = new Opened();
  const [server] = SERVERS(site.insideIp);
  if (protocol === "udp") {
    const outer = opened.add(openUdp(site.outside, server));
    const seen: Endpoint[] = [];
    for (const port of locals) {
      opened.add(openUdp(site.inside, { ip: site.insideIp, port })).send(server, "probe");
      const arrived = outer.receive(seen.length === 0 ? FIRST_MS : ARRIVES_MS);
      if (arrived === undefined) return undefined;
      seen.push(arrived.from);
    }
    return seen;
  }
  const listener = opened.add(listenTcp(site.outside, server));
  const seen: Endpoint[] = [];
  for (const port of locals) {
    opened.add(connectTcp(site.inside, { ip: site.insideIp, port }, server));
    const arrived = listener.accept(seen.length === 0 ? FIRST_MS : ARRIVES_MS);
    if (arrived === undefined) return undefined;
    opened.add(arrived);
    seen.push(arrived.remote);
  }
  return seen;
}

/** Local ports whose gaps tell the five deltas apart: three neighbours, jumps both ways, neighbours again. */
const PATTERN = [0, 1, 2, 40, 41, 17, 18, 19, 90, 70];

export function probeDelta(site: ProbeSite, protocol: Protocol): string | undefined {
  const base = freshPort(100);
  const locals = PATTERN.map((offset) => base + offset);
  freshPort(100);
  const seen = mappingsOf(site, protocol, locals);
  return seen === undefined ? undefined : nameDelta(locals, seen, site);
}

/** Names the rule that a series of mapped ports follows. */
function nameDelta(
  locals: readonly number[],
  seen: readonly Endpoint[],
  { ports: [low, high], insideIp }: ProbeSite,
): string {
  const size = high - low + 1;
  const distance = (from: number, to: number): number => {
    const ahead = (((to - from) % size) + size) % size;
    return ahead > size / 2 ? ahead - size : ahead;
  };
  if (seen.every(({ ip, port }, i) => ip === insideIp && port === locals[i])) return "untranslated";
  const mapped = seen.map(({ port }) => port);
  if (mapped.some((port) => port < low || port > high)) return `out of range: ${mapped.join(" ")}`;
  if (mapped.every((port, i) => port === locals[i])) return "equal";
  const offsets = new Set(mapped.map((port, i) => distance(locals[i] as number, port)));
  if (offsets.size === 1) return "preserving";
  const steps = mapped.slice(1).map((port, i) => distance(mapped[i] as number, port));
  if (new Set(steps).size === 1) return `independent ${steps[0]}`;
  const isNeighbour = (i: number): boolean => (locals[i + 1] as number) === (locals[i] as number) + 1;
  const beside = new Set(steps.filter((_, i) => isNeighbour(i)));
  const apart = steps.filter((_, i) => !isNeighbour(i));
  const [step] = beside;
  if (beside.size === 1 && step !== undefined && !apart.includes(step)) return `dependent ${step}`;
  return new Set(mapped).size === mapped.length && beside.size > 2
    ? "random"
    : `no rule: ${mapped.join(" ")}`;
}

/** One local port to three remote endpoints: which of them see the same external endpoint. */
export function probeMapping(site: ProbeSite, protocol: Protocol): Observed["mapping"] {
  using opened = new Opened();
  const servers = SERVERS(site.insideIp);
  const local = { ip: site.insideIp, port: freshPort(10) };
  const udp = protocol === "udp" ? opened.add(openUdp(site.inside, local)) : undefined;
  const seen = servers.map((server) => {
    if (udp !== undefined) {
      const outer = opened.add(openUdp(site.outside, server));
      udp.send(server, "probe");
      return outer.receive(ARRIVES_MS)?.from;
    }
    const listener = opened.add(listenTcp(site.outside, server));
    opened.add(connectTcp(site.inside, local, server));
    const accepted = listener.accept(ARRIVES_MS);
    return accepted === undefined ? undefined : opened.add(accepted).remote;
  });
  const [a1, a2, b1] = seen.map((endpoint) =>
    endpoint === undefined ? undefined : `${endpoint.ip} ${endpoint.port}`,
  );
  if (a1 === undefined || a2 === undefined || b1 === undefined) return "blocked";
  if (a1 === `${local.ip} ${local.port}` && a1 === a2 && a1 === b1) return "none";
  if (a1 === a2 && a1 === b1) return "endpoint-independent";
  if (a1 === a2) return "address-dependent";
  return a2 === b1 || a1 === b1 ? "blocked" : "address-and-port-dependent";
}

export function probeFiltering(site: ProbeSite, protocol: Protocol): Observed["filtering"] {
  return protocol === "udp" ? probeUdpFiltering(site) : probeTcpFiltering(site);
}

/**
 * Sends to a mapped endpoint from elsewhere, then from where it must be let in: what has not arrived by then
 * was dropped, since the way keeps order. No waiting for silence.
 */
function probeUdpFiltering(site: ProbeSite): Observed["filtering"] {
  using opened = new Opened();
  const [a1, a2, b1] = SERVERS(site.insideIp).map((server) => opened.add(openUdp(site.outside, server)));
  if (a1 === undefined || a2 === undefined || b1 === undefined) return "blocked";
  const silent = opened.add(openUdp(site.inside, { ip: site.insideIp, port: freshPort(10) }));
  const inner = opened.add(openUdp(site.inside, { ip: site.insideIp, port: freshPort(10) }));
  inner.send(a1.local, "probe");
  const mapped = a1.receive(ARRIVES_MS)?.from;
  if (mapped === undefined) return "blocked";
  b1.send(silent.local, "uninvited");
  b1.send(mapped, "other address");
  a2.send(mapped, "other port");
  a1.send(mapped, "expected");
  const heard = new Set<string>();
  for (let got = inner.receive(ARRIVES_MS); got !== undefined; got = inner.receive(ARRIVES_MS)) {
    heard.add(got.text);
    if (got.text === "expected") break;
  }
  if (!heard.has("expected")) return "blocked";
  if (silent.receive(0) !== undefined) return "open";
  if (heard.has("other address")) return "endpoint-independent";
  return heard.has("other port") ? "address-dependent" : "address-and-port-dependent";
}

function probeTcpFiltering(site: ProbeSite): Observed["filtering"] {
  using opened = new Opened();
  const [a1, a2, b1] = SERVERS(site.insideIp);
  const listener = opened.add(listenTcp(site.outside, a1));
  const local = { ip: site.insideIp, port: freshPort(10) };
  const inner = opened.add(connectTcp(site.inside, local, a1));
  const accepted = listener.accept(ARRIVES_MS);
  if (accepted === undefined) return "blocked";
  const mapped = opened.add(accepted).remote;
  opened.add(listenTcp(site.inside, local));
  const silent = opened.add(listenTcp(site.inside, { ip: site.insideIp, port: freshPort(10) }));
  const tries = [
    opened.add(connectTcp(site.outside, b1, silent.local)),
    opened.add(connectTcp(site.outside, b1, mapped)),
    opened.add(connectTcp(site.outside, a2, mapped)),
  ];
  if (!settle(inner, accepted)) return "blocked";
  const [uninvited, otherAddress, otherPort] = tries.map((one) => one.connected(JUST_NOW_MS));
  if (uninvited === 0) return "open";
  if (otherAddress === 0) return "endpoint-independent";
  return otherPort === 0 ? "address-dependent" : "address-and-port-dependent";
}

/**
 * Sends a word there and back over a connection that stands. The way keeps order, so whatever was sent before
 * has met its fate, and its answer is here, when this returns; false if the connection does not carry.
 */
export function settle(inner: BareTcp, outer: BareTcp): boolean {
  outer.write("?");
  if (inner.read(ARRIVES_MS) === undefined) return false;
  inner.write("!");
  return outer.read(ARRIVES_MS) !== undefined;
}
