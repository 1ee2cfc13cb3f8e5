/**
 * What a router is, judged from what STUN servers saw: type, mapping, filtering and delta for UDP and TCP. Servers may
 * be dead, slow, mistaken or lying; what enough of them agree on counts, and doubt is settled for the stricter kind.
 * Gathering what is judged here is `core/stun/`'s part.
 */
import { type Endpoint, sameEndpoint, scopeOf } from "../ip.ts";
import { classifyDelta, externalRange } from "./delta.ts";
import type { Behaviour, Delta, NatKind, NatProfile } from "./nat-kind.ts";
import type { NatObservations, ServerView } from "./observations.ts";

const NO_DELTA: Delta = { type: "not-applicable", value: 0 };
const BLOCKED: NatKind = {
  type: "blocked",
  mapping: "unknown",
  filtering: "unknown",
  delta: NO_DELTA,
  portPreservation: false,
  portParity: false,
};
/** So many samples leave parity less than one chance in a thousand to come by accident. */
const FEWEST_FOR_PARITY = 10;

/**
 * The profile of one NIC address; undefined if no server answered over either protocol, which tells nothing.
 * - The external address is the one that most servers name, each having one voice for all its addresses.
 * - Filtering counts as open only where an answer came from an address that the port had never sent to.
 * - Filtering of TCP is that of UDP, marked so, where both map alike; else it is unknown, and taken for strict.
 */
export function classifyNat(udp: NatObservations, tcp: NatObservations): NatProfile | undefined {
  if (udp.views.length === 0 && tcp.views.length === 0) return undefined;
  const possible = [...udp.views, ...tcp.views].filter((view) => !isImpossible(view));
  const external = agreedAddress(possible, udp.local.ip);
  const udpKind = classifyOne(believable(udp, external));
  const believed = believable(tcp, external);
  const tcpKind = classifyOne(believed);
  const isSampled = classifyDelta(inOrder(believed.views)) !== undefined;
  return {
    ...(external === undefined ? {} : { external }),
    udp: udpKind ?? BLOCKED,
    tcp: tcpKind === undefined ? likeUdp(udpKind ?? BLOCKED) : withBehaviourOf(tcpKind, udpKind, isSampled),
  };
}

/** The address that more servers name than any other; of two that are even, our own public one. */
export function agreedAddress(views: readonly ServerView[], localIp: string): string | undefined {
  const voices = new Map<string, Set<Endpoint["ip"]>>();
  for (const view of views) {
    for (const { mapped } of view.seen) {
      const named = voices.get(mapped.ip) ?? new Set();
      voices.set(mapped.ip, named.add(voiceOf(view, views)));
    }
  }
  const [first, second] = [...voices].sort((a, b) => b[1].size - a[1].size);
  if (first === undefined) return undefined;
  if (first[1].size !== second?.[1].size) return first[0];
  return scopeOf(localIp) === "public" && voices.get(localIp)?.size === first[1].size ? localIp : undefined;
}

/** A server whose second address is listed as another server speaks once. */
function voiceOf({ endpoint, other }: ServerView, views: readonly ServerView[]): string {
  const ips = [endpoint.ip, ...(other === undefined ? [] : [other.ip])];
  const same = views.filter((view) => ips.includes(view.endpoint.ip) || view.other?.ip === endpoint.ip);
  return [...ips, ...same.map((view) => view.endpoint.ip)].sort()[0] as string;
}

/** Without the claims of servers that contradict the others or themselves; what they let be heard stays. */
function believable(observed: NatObservations, external: string | undefined): NatObservations {
  const views = observed.views.map((view) => {
    const agrees = external === undefined || view.seen.some(({ mapped }) => mapped.ip === external);
    return agrees && !isImpossible(view) ? view : { ...view, seen: [], samples: [] };
  });
  return { ...observed, views };
}

/** Two local ports cannot be the same external one to the same server. */
function isImpossible({ samples }: ServerView): boolean {
  return new Set(samples.map(({ externalPort }) => externalPort)).size < samples.length;
}

/** undefined: nobody answered. */
function classifyOne(observed: NatObservations): NatKind | undefined {
  if (observed.views.length === 0) return undefined;
  const filtering = judgeFiltering(observed.views);
  if (isUntranslated(observed)) {
    return {
      type: filtering === "endpoint-independent" ? "open-internet" : "symmetric-firewall",
      mapping: "endpoint-independent",
      filtering,
      delta: NO_DELTA,
      portPreservation: true,
      portParity: true,
    };
  }
  const mapping = judgeMapping(observed.views);
  const samples = observed.views.flatMap((view) => view.samples);
  const delta = judgeDelta(observed.views);
  const seen = samples.length > 0 ? { range: externalRange(samples) } : {};
  const isCone = mapping === "endpoint-independent";
  return {
    type: isCone ? coneOf(filtering) : "symmetric",
    mapping,
    filtering,
    delta,
    ...seen,
    ...(observed.hairpinned === undefined ? {} : { hairpinning: observed.hairpinned }),
    portPreservation: delta.type === "equal",
    portParity:
      samples.length >= FEWEST_FOR_PARITY &&
      samples.every(({ localPort, externalPort }) => (localPort - externalPort) % 2 === 0),
  };
}

function coneOf(filtering: Behaviour): NatKind["type"] {
  if (filtering === "endpoint-independent") return "full-cone";
  return filtering === "address-dependent" ? "restricted" : "port-restricted";
}

/** One that heard is proof; that others were silent may be those servers' fault. */
function judgeFiltering(views: readonly ServerView[]): Behaviour {
  if (views.some(({ fromOtherAddress }) => fromOtherAddress === "heard")) return "endpoint-independent";
  const refusing = views.filter(({ fromOtherAddress }) => fromOtherAddress === "silent");
  if (views.some(({ fromOtherPort }) => fromOtherPort === "heard")) {
    return refusing.length > 0 ? "address-dependent" : "unknown";
  }
  return refusing.length > 0 ? "address-and-port-dependent" : "unknown";
}

function isUntranslated({ local, views }: NatObservations): boolean {
  const telling = views.filter(({ seen }) => seen.length > 0);
  const same = telling.filter(({ seen }) => seen.every(({ mapped }) => sameEndpoint(mapped, local)));
  return same.length > telling.length / 2;
}

/**
 * Two servers at different addresses that name the same endpoint prove that the mapping depends on neither. Else each
 * server's own addresses are compared; of opinions that are even the stricter one counts.
 */
function judgeMapping(views: readonly ServerView[]): Behaviour {
  const telling = views.filter(({ seen }) => seen.length > 0);
  const firsts = telling.map(({ seen }) => seen[0] as ServerView["seen"][number]);
  const agree = firsts.some((one, i) =>
    firsts
      .slice(i + 1)
      .some((two) => one.remote.ip !== two.remote.ip && sameEndpoint(one.mapped, two.mapped)),
  );
  if (agree) return "endpoint-independent";
  const opinions = telling.map(({ seen }) => compareSeen(seen)).filter((opinion) => opinion !== "unknown");
  const strictest = [
    "address-and-port-dependent",
    "address-dependent",
    "endpoint-independent",
  ] as const satisfies readonly Behaviour[];
  const count = (behaviour: Behaviour): number => opinions.filter((one) => one === behaviour).length;
  const [most] = [...strictest].sort((a, b) => count(b) - count(a));
  if (most !== undefined && count(most) > 0) return most;
  return firsts.length > 1 ? "address-and-port-dependent" : "unknown";
}

/** What the endpoints of one server saw of one local port. */
function compareSeen(seen: ServerView["seen"]): Behaviour {
  const pairs = seen.flatMap((one, i) => seen.slice(i + 1).map((two) => [one, two] as const));
  const [near, far] = [true, false].map((isNear) =>
    pairs
      .filter(([one, two]) => (one.remote.ip === two.remote.ip) === isNear)
      .map(([one, two]) => sameEndpoint(one.mapped, two.mapped)),
  ) as [boolean[], boolean[]];
  if (near.includes(false)) return "address-and-port-dependent";
  if (far.length === 0) return "unknown";
  if (!far.includes(false)) return "endpoint-independent";
  return near.length > 0 ? "address-dependent" : "address-and-port-dependent";
}

/**
 * Each server's samples have one vote. Of votes that are even, the one for a rule counts, for none comes by chance; and
 * `equal` before others, for a server that made its answers up could not know the local ports.
 */
export function judgeDelta(views: readonly ServerView[]): Delta {
  const verdicts = views.flatMap((view) => {
    const delta = classifyDelta(view.samples);
    return delta === undefined ? [] : [{ view, delta }];
  });
  if (verdicts.length === 0) return classifyDelta(inOrder(views)) ?? { type: "random", value: 0 };
  const votes = new Map<string, { delta: Delta; views: ServerView[] }>();
  for (const { view, delta } of verdicts) {
    // Where offsets wrap, servers may have seen different ones of the same rule.
    const key = delta.type === "preserving" ? delta.type : `${delta.type} ${delta.value}`;
    const vote = votes.get(key) ?? { delta, views: [] };
    votes.set(key, vote);
    vote.views.push(view);
  }
  const weight = ({ delta: { type } }: { delta: Delta }): number =>
    type === "equal" ? 2 : Number(type !== "random");
  const [winner] = [...votes.values()].sort(
    (a, b) => b.views.length - a.views.length || weight(b) - weight(a),
  ) as [{ delta: Delta; views: ServerView[] }];
  const together = classifyDelta(inOrder(winner.views));
  return together?.type === winner.delta.type ? together : winner.delta;
}

function inOrder(views: readonly ServerView[]): ServerView["samples"] {
  return views.flatMap(({ samples }) => samples).sort((a, b) => a.position - b.position);
}

/** TCP where no server spoke it: routers that treat the protocols alike are the rule. */
function likeUdp(udp: NatKind): NatKind {
  return udp.type === "blocked" ? BLOCKED : { ...udp, inferred: "all" };
}

/**
 * RFC 5780 has no way to test how TCP is filtered, one address of one server none to tell how it is mapped, and servers
 * that take few connections none to tell how ports are picked.
 */
function withBehaviourOf(tcp: NatKind, udp: NatKind | undefined, isSampled: boolean): NatKind {
  if (udp === undefined) return tcp;
  const { type, mapping, filtering, delta } = udp;
  const mayMapAlike = tcp.mapping === "unknown" || tcp.mapping === mapping;
  if (!isSampled && tcp.delta.type !== "not-applicable" && mayMapAlike) return likeUdp(udp);
  if (delta.type !== tcp.delta.type || !mayMapAlike) return tcp;
  if (tcp.mapping !== mapping) return { ...tcp, type, mapping, filtering, inferred: "behaviour" };
  return filtering === "unknown" ? tcp : { ...tcp, type, filtering, inferred: "filtering" };
}
