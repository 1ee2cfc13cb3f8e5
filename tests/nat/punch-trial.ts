/**
 * A punch between two NAT engines, without sockets: gathers as a node would, computes the plan, carries out its shots
 * at the times at which offer and answer let each side begin, and says whether a packet got through and its answer
 * back. What a machine of `core/connect/` adds, such as keys, is left out.
 */
import type { Endpoint } from "../../core/ip.ts";
import { gatherNeeds } from "../../core/nat/gather-needs.ts";
import type { NatKind } from "../../core/nat/nat-kind.ts";
import { planPunch } from "../../core/nat/plan-punch.ts";
import {
  ANY_PORT,
  type NoPunch,
  type PunchPart,
  type PunchPlan,
  type PunchSide,
  UNKNOWN_PORT,
} from "../../core/nat/punch-plan.ts";
import { type NatConfiguration, parseConfiguration } from "./configurations.ts";
import { createNatEngine, type NatEngine } from "./engine.ts";
import { type SeededRandom, seededRandom } from "./seeded-random.ts";
import { changeSettings, type NatSettingsChange } from "./settings.ts";
import { createTimeHeap } from "./time-heap.ts";

export type Protocol = "udp" | "tcp";

export interface TrialOptions {
  readonly protocol: Protocol;
  readonly seed: number;
  /** Laid over the settings of both routers. */
  readonly change?: NatSettingsChange;
}

export interface TrialResult {
  readonly plan: PunchPlan | NoPunch;
  readonly opened: boolean;
  /** Packets that both sides sent before the path was open, or in all. */
  readonly packets: number;
}

interface Player {
  readonly engine: NatEngine;
  readonly hostIp: string;
  readonly kind: NatKind;
  readonly random: SeededRandom;
}

interface Packet {
  readonly at: number;
  readonly from: 0 | 1;
  readonly localPort: number;
  readonly remotePort: number;
}

/** One way from a host to its router's outer side and on to a broker or STUN server; to the other host it is twice. */
const ONE_WAY_MS = 25;
/** For so long other hosts have made mappings, where any do. */
const START_MS = 30_000;
const STUN_SERVER: Endpoint = { ip: "5.44.1.10", port: 3478 };
/** Repeated shots: probes of UDP, and TCP's own retransmissions. */
const REPEATS_MS: Readonly<Record<Protocol, readonly number[]>> = {
  udp: [0, 100, 200, 400],
  tcp: [0, 1000, 3000],
};
/** Between two packets of a search. */
const SEARCH_GAP_MS = 2;
const SYN = { syn: true, ack: false, fin: false, rst: false };
const SYN_ACK = { syn: true, ack: true, fin: false, rst: false };

/** One punch from behind a router of configuration `a` (the caller) to one behind `b`. */
export function tryPunch(a: string, b: string, options: TrialOptions): TrialResult {
  const players = [player(a, 0, options), player(b, 1, options)] as const;
  const caller = gather(players[0], options.protocol, START_MS);
  const offerAt = caller.readyAt + 2 * ONE_WAY_MS;
  const called = gather(players[1], options.protocol, offerAt);
  const plan = planPunch(options.protocol, caller.side, called.side);
  if ("impossible" in plan) return { plan, opened: false, packets: 0 };
  const starts = [called.readyAt + 2 * ONE_WAY_MS, called.readyAt] as const;
  return { plan, ...carryOut(plan, players, starts, options.protocol) };
}

/** What a perfect detector says of a configuration whose first mapping it has seen. */
function kindOf(
  { type, settings }: NatConfiguration,
  protocol: Protocol,
  engine: NatEngine,
  hostIp: string,
): NatKind {
  const { mapping, filtering, delta, blocked } = settings[protocol];
  const range = settings.ports;
  const common = { portPreservation: delta.kind === "equal", portParity: delta.kind === "equal" };
  if (blocked || settings.mode !== "nat") {
    return {
      ...common,
      type: blocked ? "blocked" : type,
      mapping: "endpoint-independent",
      filtering: settings.mode === "open" ? "endpoint-independent" : filtering,
      delta: { type: "not-applicable", value: 0 },
    };
  }
  return {
    ...common,
    type: type === "blocked" ? "port-restricted" : type,
    mapping,
    filtering,
    delta: {
      type: delta.kind,
      value:
        "step" in delta ? delta.step : delta.kind === "preserving" ? seenOffset(engine, hostIp, protocol) : 0,
    },
    range,
  };
}

function seenOffset(engine: NatEngine, hostIp: string, protocol: Protocol): number {
  return (mapped(engine, protocol, { ip: hostIp, port: 20_000 }, STUN_SERVER, START_MS - 5000) ?? 0) - 20_000;
}

function player(name: string, index: number, { protocol, seed, change }: TrialOptions): Player {
  const configuration = parseConfiguration(name);
  const random = seededRandom(seed).fork(`${index} ${name}`);
  const settings = changeSettings(configuration.settings, {
    ...change,
    seed: random.between(0, 0xffff_ffff),
  });
  const engine = createNatEngine(settings, `5.44.10.${10 + index}`);
  const hostIp = settings.mode === "nat" ? `192.168.${10 + index}.100` : `5.46.${10 + index}.100`;
  engine.advance(0);
  engine.advance(START_MS - 5000);
  return { engine, hostIp, kind: kindOf({ ...configuration, settings }, protocol, engine, hostIp), random };
}

function gather(
  { engine, hostIp, kind, random }: Player,
  protocol: Protocol,
  now: number,
): { readonly side: PunchSide; readonly readyAt: number } {
  const needs = gatherNeeds(kind);
  const [low, high] = needs.within ?? [32_768, 60_999];
  const first = random.between(low, high - needs.samples - needs.spare);
  const samples = Array.from({ length: needs.samples }, (_, i) => {
    const externalPort = mapped(engine, protocol, { ip: hostIp, port: first + i }, STUN_SERVER, now);
    if (externalPort === undefined) throw new Error(`${engine.externalIp} maps nothing`);
    return { localPort: first + i, externalPort };
  });
  const spare = Array.from({ length: needs.spare }, (_, i) => first + needs.samples + i);
  const ip = engine.settings.mode === "nat" ? engine.externalIp : hostIp;
  return { side: { kind, ip, samples, spare }, readyAt: needs.samples > 0 ? now + 2 * ONE_WAY_MS : now };
}

function mapped(
  engine: NatEngine,
  protocol: Protocol,
  source: Endpoint,
  destination: Endpoint,
  now: number,
): number | undefined {
  const verdict = engine.outbound(now, { protocol, source, destination, flags: SYN });
  return verdict.action === "forward" ? verdict.source.port : undefined;
}

function carryOut(
  plan: PunchPlan,
  players: readonly [Player, Player],
  starts: readonly [number, number],
  protocol: Protocol,
): { readonly opened: boolean; readonly packets: number } {
  const parts = [plan.caller, plan.called] as const;
  const queue = createTimeHeap<Packet>();
  for (const from of [0, 1] as const)
    for (const packet of packetsOf(parts[from], plan.method, protocol, starts[from], players[from].random))
      queue.push({ ...packet, from });
  const sockets = [socketsOf(parts, 0, protocol), socketsOf(parts, 1, protocol)] as const;
  let packets = 0;
  // As if without delay, which is the harder case: packets that cross each other find both filters open.
  for (let packet = queue.pop(); packet !== undefined; packet = queue.pop()) {
    packets++;
    const [sender, receiver] = [players[packet.from], players[packet.from === 0 ? 1 : 0]];
    const source = { ip: sender.hostIp, port: packet.localPort };
    const theirs = receiver.engine.settings.mode === "nat" ? receiver.engine.externalIp : receiver.hostIp;
    const destination = { ip: theirs, port: packet.remotePort };
    const out = sender.engine.outbound(packet.at, { protocol, source, destination, flags: SYN });
    if (out.action !== "forward") continue;
    const inward = { protocol, source: out.source, destination: out.destination, flags: SYN };
    const arrival = receiver.engine.inbound(packet.at, inward);
    if (arrival.action !== "forward") continue;
    if (!sockets[packet.from === 0 ? 1 : 0](arrival.destination.port, out.source.port)) continue;
    const answer = receiver.engine.outbound(packet.at, {
      protocol,
      source: arrival.destination,
      destination: out.source,
      flags: SYN_ACK,
    });
    if (answer.action !== "forward") continue;
    const back = sender.engine.inbound(packet.at, {
      protocol,
      source: answer.source,
      destination: answer.destination,
      flags: SYN_ACK,
    });
    const isSame = back.action === "forward" && back.destination.port === packet.localPort;
    if (isSame && answer.source.port === packet.remotePort) return { opened: true, packets };
  }
  return { opened: false, packets };
}

/** The shots of one side with their times; `ANY_PORT` becomes a port nobody else has. */
function packetsOf(
  { shots }: PunchPart,
  method: PunchPlan["method"],
  protocol: Protocol,
  start: number,
  random: SeededRandom,
): readonly Omit<Packet, "from">[] {
  const firstFree = random.between(1024, 30_000);
  return shots.flatMap(({ localPort, remotePort }, i) => {
    const port = localPort === ANY_PORT ? firstFree + i : localPort;
    const repeats = method === "search" ? [i * SEARCH_GAP_MS] : REPEATS_MS[protocol];
    return repeats.map((delay) => ({ at: start + delay, localPort: port, remotePort }));
  });
}

/** Whether a packet from `remotePort` at `localPort` meets a socket of side `own` that will answer it. */
function socketsOf(
  parts: readonly [PunchPart, PunchPart],
  own: 0 | 1,
  protocol: Protocol,
): (localPort: number, remotePort: number) => boolean {
  const { shots } = parts[own];
  const isListening = parts[own === 0 ? 1 : 0].appearsAs.includes(UNKNOWN_PORT);
  const isSearching = shots.some(({ localPort }) => localPort === ANY_PORT);
  return (localPort, remotePort) => {
    if (isSearching && shots.some((shot) => shot.remotePort === remotePort)) return true;
    if (protocol === "udp" || isListening) return shots.some((shot) => shot.localPort === localPort);
    return shots.some((shot) => shot.localPort === localPort && shot.remotePort === remotePort);
  };
}
