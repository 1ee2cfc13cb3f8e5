/**
 * Our side of a UDP punch, before the plan: local ports that are bound, and where the router's present mappings of
 * them are, learnt from a STUN server. The sockets stay open, and so do the mappings, until the punch takes them
 * over. What the samples mean, and how many are needed, is decided in `core/nat/`.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, formatEndpoint } from "../ip.ts";
import { gatherNeeds } from "../nat/gather-needs.ts";
import type { NatKind } from "../nat/nat-kind.ts";
import type { PunchSample, PunchSide } from "../nat/punch-plan.ts";
import type { UdpSocket, World } from "../net/world.ts";
import { type BindingResult, bindingRequest } from "../stun/binding.ts";
import { attachStun } from "../stun/stun-socket.ts";
import { openPorts } from "./open-ports.ts";
import type { PunchCost } from "./punch-cost.ts";
import type { Note } from "./race.ts";
import type { WarmPort } from "./warm-ports.ts";

export interface GatherUdpOptions {
  readonly localIp: string;
  readonly device?: string | undefined;
  /** What the router does to UDP; `UNTRANSLATED` where there is none between the two. */
  readonly kind: NatKind;
  /** Address that the other side is told. */
  readonly ip: string;
  /** The first is asked for everything, the next ones when it fails. */
  readonly servers: readonly Endpoint[];
  /** A port that is mapped already, if there is one. */
  readonly warm?: (() => WarmPort | undefined) | undefined;
  /** Adds what is sent to servers. */
  readonly cost: PunchCost;
  readonly signal: AbortSignal;
  readonly note: Note;
}

export interface GatheredUdp {
  readonly side: PunchSide;
  /** By local port. */
  readonly sockets: ReadonlyMap<number, UdpSocket>;
  close(): void;
}

type GatherWorld = Pick<World, "time" | "randomBytes" | "openUdp">;

const TIMEOUT_MS = 400;
const RTO_MS = 150;

/** Rejects with `unreachable` when a server is needed and none answers, `address-in-use`, or `aborted`. */
export async function gatherUdpSide(world: GatherWorld, options: GatherUdpOptions): Promise<GatheredUdp> {
  const { kind, servers, ip, signal, note } = options;
  const { samples, spare, within } = gatherNeeds(kind);
  const warm = samples === 1 && spare === 0 ? options.warm?.() : undefined;
  if (warm?.ip === ip) return fromWarm(warm, options);
  warm?.socket.close();
  const failures: string[] = [];
  // A server that fails has moved the router's counters all the same, so each gets ports of its own.
  for (const server of samples === 0 ? [undefined] : servers) {
    const { localIp, device } = options;
    const sockets = await openPorts(world, { localIp, device, count: samples + spare, within });
    const ports = sockets.map(({ local }) => local.port);
    const close = (): void => {
      for (const socket of sockets) socket.close();
    };
    const gathered = (seen: readonly PunchSample[], at: string): GatheredUdp => ({
      side: { kind, ip: at, samples: seen, spare: ports.slice(samples) },
      sockets: new Map(sockets.map((socket) => [socket.local.port, socket])),
      close,
    });
    if (server === undefined) return gathered([], ip);
    try {
      const began = world.time.now();
      const seen = await sample(world, sockets.slice(0, samples), server, options);
      if (seen.ip !== ip) throw new P2pdError("protocol", `it sees ${seen.ip}, where others have seen ${ip}`);
      const text = seen.samples.map((one) => `${one.localPort} as ${one.externalPort}`).join(", ");
      const ms = (world.time.now() - began).toFixed(0);
      note("sampled", `UDP: ${formatEndpoint(server)} sees ${text}, in ${ms} ms`);
      return gathered(seen.samples, ip);
    } catch (thrown) {
      close();
      const { code, message } = toP2pdError(thrown);
      if (code === "aborted" || signal.aborted) throw thrown;
      failures.push(`${formatEndpoint(server)}: ${message}`);
    }
  }
  const why = failures.length === 0 ? "no STUN server is known" : failures.join("; ");
  throw new P2pdError(
    "unreachable",
    `the router's UDP ports cannot be foreseen, as no server tells (${why})`,
  );
}

/** Nobody has to be asked. */
function fromWarm(
  { socket, sample: seen, ip, ageMs }: WarmPort,
  { kind, note }: GatherUdpOptions,
): GatheredUdp {
  const { localPort, externalPort } = seen;
  const seconds = (ageMs / 1000).toFixed(1);
  note("sampled", `UDP: ${localPort} was seen as ${externalPort} ${seconds} s ago, and kept`);
  return {
    side: { kind, ip, samples: [seen], spare: [] },
    sockets: new Map([[localPort, socket]]),
    close: () => socket.close(),
  };
}

/** All at once: the requests leave in order, and the router makes mappings in the order in which they come. */
async function sample(
  world: GatherWorld,
  sockets: readonly UdpSocket[],
  server: Endpoint,
  { signal, cost }: GatherUdpOptions,
): Promise<{ readonly samples: readonly PunchSample[]; readonly ip: string }> {
  const answers = await Promise.all(
    sockets.map(async (socket): Promise<BindingResult> => {
      const stun = attachStun(world, socket);
      try {
        return await bindingRequest(stun, server, { timeoutMs: TIMEOUT_MS, rtoMs: RTO_MS, signal });
      } finally {
        cost.stunRequests += stun.counters.sent + stun.counters.retransmitted;
        stun.close();
      }
    }),
  );
  const samples = answers.map(({ mapped }, i) => ({
    localPort: (sockets[i] as UdpSocket).local.port,
    externalPort: mapped.port,
  }));
  return { samples, ip: answers[0]?.mapped.ip ?? "" };
}
