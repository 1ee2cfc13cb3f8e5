/**
 * What the two ends of a punch have in common: gathering their side of each pair, and running the plans of all pairs
 * and protocols beside each other once both sides are known.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, familyOf } from "../ip.ts";
import { UNTRANSLATED } from "../nat/nat-kind.ts";
import { planPunch } from "../nat/plan-punch.ts";
import { type PunchPlan, type PunchSide, UNKNOWN_PORT } from "../nat/punch-plan.ts";
import type { Credentials, SecureStream, World } from "../net/world.ts";
import type { SignalPunchPair } from "../wire/signal-punch.ts";
import { type GatheredUdp, gatherUdpSide } from "./gather-udp.ts";
import { MAX_PACKETS } from "./punch-limits.ts";
import type { PunchPlace } from "./punch-pairs.ts";
import { punchUdp } from "./punch-udp.ts";
import type { Note } from "./race.ts";

export type Transport = "tcp" | "udp";

/** What both ends need of the node. */
export interface PunchSetting {
  readonly world: World;
  readonly credentials: Credentials;
  /** STUN servers by address, those first that answered last. */
  readonly servers: (family: 4 | 6) => Promise<readonly Endpoint[]>;
}

/** Our side of one pair. */
export interface GatheredPair {
  readonly place: PunchPlace;
  readonly near: boolean;
  readonly udp?: GatheredUdp;
  close(): void;
}

export interface PunchedPath {
  readonly stream: SecureStream;
  readonly transport: Transport;
  readonly candidate: string;
  readonly rttMs: number;
}

/** Gathers what can be; what cannot is told. Rejects with `aborted`. */
export async function gatherPair(
  { world, servers }: PunchSetting,
  { place, near }: { readonly place: PunchPlace; readonly near: boolean },
  transports: readonly Transport[],
  signal: AbortSignal,
  note: Note,
): Promise<GatheredPair> {
  const { ip: localIp, device, profile } = place;
  const external = profile?.external ?? localIp;
  const known = near ? [] : await servers(familyOf(localIp));
  const common = { localIp, device, signal, note, servers: known, ip: near ? localIp : external };
  let udp: GatheredUdp | undefined;
  if (transports.includes("udp") && world.openQuic !== undefined) {
    try {
      const kind = near ? UNTRANSLATED : profile?.udp;
      if (kind === undefined) throw new P2pdError("unavailable", "nothing is known of the NAT yet");
      if (kind.type === "blocked") throw new P2pdError("unavailable", "UDP is blocked here");
      udp = await gatherUdpSide(world, { ...common, kind });
    } catch (thrown) {
      if (signal.aborted) throw thrown;
      note("not gathered", `UDP from ${localIp}: ${toP2pdError(thrown).message}`);
    }
  }
  if (signal.aborted) udp?.close();
  return {
    place,
    near,
    ...(udp === undefined ? {} : { udp }),
    close() {
      udp?.close();
    },
  };
}

export interface RunPlansOptions {
  readonly role: "caller" | "called";
  readonly peerKey: Uint8Array;
  /** Of the probes. */
  readonly key: Uint8Array;
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
 * One promise for each pair and protocol that has a plan, in the order in which they are likely to succeed; each
 * settles as `punchUdp` does. Why there is no plan is told and returned.
 */
export function runPlans(
  { world, credentials }: PunchSetting,
  pairs: readonly PairOfSides[],
  options: RunPlansOptions,
): { readonly running: readonly Promise<PunchedPath>[]; readonly impossible: readonly string[] } {
  const { role, note, accepted, signal, key, peerKey } = options;
  const running: Promise<PunchedPath>[] = [];
  const impossible: string[] = [];
  const plans = pairs.flatMap((pair) => {
    const { own, theirs } = pair;
    if (own.udp === undefined || theirs.udp === undefined) return [];
    const plan = planFor(role, "udp", own.udp.side, theirs.udp);
    if (typeof plan !== "string") return [{ pair, gathered: own.udp, side: theirs.udp, plan }];
    note("impossible", plan);
    impossible.push(plan);
    own.udp.close();
    return [];
  });
  // One search is as much as a router should bear at a time.
  const [search] = plans.filter(({ plan }) => plan.method === "search");
  for (const { pair, gathered, side, plan } of plans) {
    if (plan.method === "search" && (search?.plan !== plan || plans.length > 1 + searches(plans))) {
      note("left out", "a search costs too much beside a plan that needs none");
      gathered.close();
      continue;
    }
    const [part, other] = role === "caller" ? [plan.caller, plan.called] : [plan.called, plan.caller];
    note("predicted", describePlan("UDP", plan, part, side.ip));
    const punched = punchUdp(world, {
      role,
      method: plan.method,
      part,
      other,
      remoteIp: side.ip,
      localIp: pair.own.place.ip,
      device: pair.own.place.device,
      gathered,
      key,
      credentials,
      expectedKey: peerKey,
      maxPackets: Math.floor(MAX_PACKETS / plans.length),
      signal,
      note,
      accepted: (path) => accepted?.({ ...path, transport: "udp" }),
    });
    running.push(
      punched.then(({ stream, candidate, rttMs, packets }) => {
        note("punched", `${candidate}, ${packets} datagrams besides the handshake's`);
        return { stream, candidate, rttMs, transport: "udp" as const };
      }),
    );
  }
  return { running, impossible };
}

function searches(plans: readonly { readonly plan: PunchPlan }[]): number {
  return plans.filter(({ plan }) => plan.method === "search").length - 1;
}

function planFor(
  role: "caller" | "called",
  protocol: Transport,
  own: PunchSide,
  theirs: PunchSide,
): PunchPlan | string {
  const plan = role === "caller" ? planPunch(protocol, own, theirs) : planPunch(protocol, theirs, own);
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
