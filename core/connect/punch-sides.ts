/**
 * What the two ends of a punch have in common: gathering their side of each pair, and running the plans of all pairs
 * and protocols beside each other once both sides are known.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, familyOf } from "../ip.ts";
import { gatherNeeds } from "../nat/gather-needs.ts";
import { type NatKind, UNTRANSLATED } from "../nat/nat-kind.ts";
import type { PunchBudget } from "../nat/punch-budget.ts";
import { planPunch } from "../nat/plan-punch.ts";
import { type PunchPart, type PunchPlan, type PunchSide, UNKNOWN_PORT } from "../nat/punch-plan.ts";
import type { Credentials, World } from "../net/world.ts";
import type { SignalPunchPair } from "../wire/signal-punch.ts";
import { type GatheredTcp, gatherTcpSide } from "./gather-tcp.ts";
import { type GatheredUdp, gatherUdpSide } from "./gather-udp.ts";
import type { PunchCost } from "./punch-cost.ts";
import { MAX_SEARCH_SYNS, MAX_SYNS, PUNCH_TCP_MS } from "./punch-limits.ts";
import type { PunchPlace } from "./punch-pairs.ts";
import { punchTcp } from "./punch-tcp.ts";
import { punchUdp } from "./punch-udp.ts";
import type { BarePath, Note } from "./race.ts";
import type { WarmPort } from "./warm-ports.ts";

export type Transport = "tcp" | "udp";

/** What both ends need of the node. */
export interface PunchSetting {
  readonly world: World;
  readonly credentials: Credentials;
  /** STUN servers by address, those first that answered last. */
  readonly servers: (family: 4 | 6) => Promise<readonly Endpoint[]>;
  /** Takes over the port that was kept warm at a place, if there is one. */
  readonly warm: (place: PunchPlace) => WarmPort | undefined;
  /** How often a path from a place must show a sign of life, in milliseconds. */
  readonly keepAliveMs: (place: PunchPlace) => number;
  /** What one open may cost this side. */
  readonly budget: PunchBudget;
}

export interface PunchedPath extends BarePath {
  readonly candidate: string;
}

/** Our side of one pair. */
export interface GatheredPair {
  readonly place: PunchPlace;
  readonly near: boolean;
  readonly udp?: GatheredUdp;
  readonly tcp?: GatheredTcp;
  close(): void;
}

export interface GatherPairOptions {
  readonly place: PunchPlace;
  readonly near: boolean;
  readonly transports: readonly Transport[];
  /** Whether TCP is gathered even where that takes a server's answer, which comes later than over UDP. */
  readonly isTcpWorthIt: boolean;
  /** Whether a sample that was taken before will do. */
  readonly isWarmWelcome: boolean;
  /** Adds what is sent to servers. */
  readonly cost: PunchCost;
  readonly signal: AbortSignal;
  readonly note: Note;
}

/** Gathers what can be; what cannot is told. Rejects with `aborted`. */
export async function gatherPair(
  { world, servers, warm }: PunchSetting,
  { place, near, transports, isTcpWorthIt, isWarmWelcome, cost, signal, note }: GatherPairOptions,
): Promise<GatheredPair> {
  const { ip: localIp, device, profile } = place;
  const external = profile?.external ?? localIp;
  const known = near ? [] : await servers(familyOf(localIp));
  const common = { localIp, device, cost, signal, note, ip: near ? localIp : external };
  const attempt = async <T>(name: string, gather: () => Promise<T> | undefined): Promise<T | undefined> => {
    try {
      return await gather();
    } catch (thrown) {
      if (!signal.aborted) note("not gathered", `${name} from ${localIp}: ${toP2pdError(thrown).message}`);
      return undefined;
    }
  };
  const [udp, tcp] = await Promise.all([
    attempt("UDP", () => {
      if (!transports.includes("udp") || world.openQuic === undefined) return undefined;
      const kind = usable(near, profile?.udp);
      const kept = isWarmWelcome ? () => warm(place) : undefined;
      return gatherUdpSide(world, { ...common, kind, servers: known, warm: kept });
    }),
    attempt("TCP", async () => {
      if (!transports.includes("tcp")) return undefined;
      const kind = usable(near, profile?.tcp);
      if (gatherNeeds(kind).samples > 0 && !isTcpWorthIt) return undefined;
      return gatherTcpSide(world, { ...common, kind, servers: known });
    }),
  ]);
  const close = (): void => {
    udp?.close();
    tcp?.close();
  };
  if (signal.aborted) {
    close();
    throw new P2pdError("aborted", "opening was given up");
  }
  return {
    place,
    near,
    ...(udp === undefined ? {} : { udp }),
    ...(tcp === undefined ? {} : { tcp }),
    close,
  };
}

/** What the other side is told of a pair. */
export function sidesOf({ udp, tcp }: GatheredPair): Pick<SignalPunchPair, "udp" | "tcp"> {
  return { ...(udp === undefined ? {} : { udp: udp.side }), ...(tcp === undefined ? {} : { tcp: tcp.side }) };
}

function usable(near: boolean, kind: NatKind | undefined): NatKind {
  if (near) return UNTRANSLATED;
  if (kind === undefined) throw new P2pdError("unavailable", "nothing is known of the NAT yet");
  if (kind.type === "blocked") throw new P2pdError("unavailable", "it is blocked here");
  return kind;
}

export interface RunPlansOptions {
  readonly role: "caller" | "called";
  readonly peerKey: Uint8Array;
  /** Of the probes. */
  readonly key: Uint8Array;
  /** What both sides allow for these plans. */
  readonly budget: PunchBudget;
  /** Adds what is sent. */
  readonly cost: PunchCost;
  readonly signal: AbortSignal;
  readonly note: Note;
  /** Of the called side: a path on which the caller has proved its key. */
  readonly accepted?: (path: PunchedPath) => void;
}

/** Each pair of ours with what the other side said of it. */
export interface PairOfSides {
  readonly own: GatheredPair;
  readonly theirs: SignalPunchPair;
}

/**
 * One promise for each pair and protocol that has a plan; each settles as `punchUdp` and `punchTcp` do. Why there is no
 * plan is told and returned.
 */
export function runPlans(
  setting: PunchSetting,
  pairs: readonly PairOfSides[],
  options: RunPlansOptions,
): {
  readonly running: readonly Promise<PunchedPath>[];
  readonly impossible: readonly string[];
  /** Of the best plan that is no search, 0 to 1. */
  readonly chance: number;
} {
  const { role, budget, note } = options;
  const impossible: string[] = [];
  const jobs = pairs.flatMap((pair) =>
    (["udp", "tcp"] as const).flatMap((transport): Job[] => {
      const [own, theirs] = [pair.own[transport], pair.theirs[transport]];
      if (own === undefined || theirs === undefined) return [];
      const plan = planFor(role, transport, own.side, theirs, budget);
      if (typeof plan !== "string") return [{ pair, transport, plan, remoteIp: theirs.ip }];
      note("impossible", plan);
      impossible.push(plan);
      own.close();
      return [];
    }),
  );
  // One search is as much as a router should bear, and only where nothing is foreseen.
  const search = jobs.some(({ plan }) => plan.method !== "search")
    ? undefined
    : jobs.find(({ plan }) => plan.method === "search");
  const chosen = jobs.filter((job) => job.plan.method !== "search" || job === search);
  for (const { pair, transport } of jobs.filter((job) => !chosen.includes(job))) {
    note("left out", `a search over ${transport.toUpperCase()}, beside a plan that costs less`);
    pair.own[transport]?.close();
  }
  const packets = Math.floor(budget.packets / chosen.length);
  const running = chosen.map((job) => {
    const [part] = partsOf(role, job.plan);
    note("predicted", describePlan(job.transport.toUpperCase(), job.plan, part, job.remoteIp));
    const share = { ...options, budget: { ...budget, packets } };
    return job.transport === "udp" ? runUdp(setting, job, share) : runTcp(setting, job, share);
  });
  const chances = chosen.map(({ plan }) => (plan.method === "search" ? 0 : plan.probability));
  return { running, impossible, chance: Math.max(0, ...chances) };
}

interface Job {
  readonly pair: PairOfSides;
  readonly transport: Transport;
  readonly plan: PunchPlan;
  readonly remoteIp: string;
}

async function runUdp(
  { world, credentials, keepAliveMs }: PunchSetting,
  { pair: { own }, plan, remoteIp }: Job,
  { role, peerKey, key, budget, cost, signal, note, accepted }: RunPlansOptions,
): Promise<PunchedPath> {
  const [part, other] = partsOf(role, plan);
  const signMs = keepAliveMs(own.place);
  const { stream, candidate, rttMs, packets } = await punchUdp(world, {
    role,
    method: plan.method,
    part,
    other,
    remoteIp,
    localIp: own.place.ip,
    device: own.place.device,
    gathered: own.udp as GatheredUdp,
    key,
    credentials,
    keepAliveMs: signMs,
    expectedKey: peerKey,
    budget,
    cost,
    signal,
    note,
    accepted: (path) => accepted?.({ ...path, transport: "udp" }),
  });
  const signs = `a sign of life every ${signMs / 1000} s`;
  note("punched", `${candidate}, ${packets} datagrams besides the handshake's; ${signs}`);
  return { stream, candidate, rttMs, transport: "udp" };
}

async function runTcp(
  { world, credentials }: PunchSetting,
  { pair: { own }, plan, remoteIp }: Job,
  { role, peerKey, budget, cost, signal, note, accepted }: RunPlansOptions,
): Promise<PunchedPath> {
  const [part] = partsOf(role, plan);
  const gathered = own.tcp as GatheredTcp;
  const { stream, candidate, rttMs, syns } = await punchTcp(world, {
    role,
    method: plan.method,
    part,
    remoteIp,
    localIp: own.place.ip,
    device: own.place.device,
    ports: gathered.ports,
    // A server is about halfway.
    rttMs: gathered.rttMs === undefined ? undefined : 2 * gathered.rttMs,
    maxSyns: Math.min(budget.packets, plan.method === "search" ? MAX_SEARCH_SYNS : MAX_SYNS),
    timeoutMs: Math.min(budget.ms, PUNCH_TCP_MS[plan.method]),
    cost,
    credentials,
    expectedKey: peerKey,
    signal,
    note,
  }).finally(() => gathered.close());
  note("punched", `${candidate}, ${syns} SYNs`);
  const path = { stream, candidate, rttMs, transport: "tcp" } as const;
  accepted?.(path);
  return path;
}

function partsOf(role: "caller" | "called", plan: PunchPlan): readonly [own: PunchPart, other: PunchPart] {
  return role === "caller" ? [plan.caller, plan.called] : [plan.called, plan.caller];
}

function planFor(
  role: "caller" | "called",
  protocol: Transport,
  own: PunchSide,
  theirs: PunchSide,
  budget: PunchBudget,
): PunchPlan | string {
  const [caller, called] = role === "caller" ? [own, theirs] : [theirs, own];
  const plan = planPunch(protocol, caller, called, budget);
  return "impossible" in plan ? plan.impossible : plan;
}

/** So that a wrong prediction can be studied: what leaves from where, and how it should look from outside. */
function describePlan(name: string, plan: PunchPlan, part: PunchPlan["caller"], ip: string): string {
  const shots = part.shots.slice(0, 6).map(({ localPort, remotePort }, i) => {
    const seen = part.appearsAs[i] ?? UNKNOWN_PORT;
    const as = seen === UNKNOWN_PORT ? "" : ` as ${seen}`;
    return `${localPort === 0 ? "any" : localPort}${as} -> ${remotePort}`;
  });
  const more = part.shots.length > shots.length ? `, … ${part.shots.length} in all` : "";
  const percent = (100 * plan.probability).toFixed(0);
  return `${name} ${plan.method} to ${ip}, ${percent} %: ${shots.join(", ")}${more} (${plan.reason})`;
}
