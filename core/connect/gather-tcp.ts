/**
 * Our side of a TCP punch, before the plan: local ports that are held, and where the router's present mappings of
 * them are, learnt from a STUN server over TCP. The connections to it stay open, and so do the mappings, until
 * the whole is closed. What the samples mean is decided in `core/nat/`.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, formatEndpoint } from "../ip.ts";
import { gatherNeeds } from "../nat/gather-needs.ts";
import type { NatKind } from "../nat/nat-kind.ts";
import type { PunchSample, PunchSide } from "../nat/punch-plan.ts";
import type { World } from "../net/world.ts";
import { type BindingResult, bindingRequest } from "../stun/binding.ts";
import { connectStun, type StunStream } from "../stun/stun-stream.ts";
import { type HeldPorts, holdPorts } from "./held-ports.ts";
import type { PunchCost } from "./punch-cost.ts";
import type { Note } from "./race.ts";

export interface GatherTcpOptions {
  readonly localIp: string;
  readonly device?: string | undefined;
  /** What the router does to TCP; `UNTRANSLATED` where there is none between the two. */
  readonly kind: NatKind;
  /** Address that the other side is told. */
  readonly ip: string;
  /** The first is asked for everything, the next ones when it fails. */
  readonly servers: readonly Endpoint[];
  /** For each server; 1,500 ms unless given. */
  readonly timeoutMs?: number;
  /** Adds what is sent to servers. */
  readonly cost?: PunchCost | undefined;
  readonly signal: AbortSignal;
  readonly note: Note;
}

export interface GatheredTcp {
  readonly side: PunchSide;
  /** The ports of the samples and the spare ones, to be given to `punchTcp`. */
  readonly ports: HeldPorts;
  /** About one round trip to the server, in milliseconds; absent where none was asked. */
  readonly rttMs?: number;
  /** SYNs that were sent. */
  readonly syns: number;
  /** Lets go of ports and mappings; a connection that was punched from them lives on. */
  close(): void;
}

type GatherWorld = Pick<World, "time" | "randomBytes" | "connectTcp" | "listenTcp">;

const TIMEOUT_MS = 1500;

/**
 * Rejects with `unreachable` when a server is needed and none answers, `address-in-use`, `aborted` or `unsupported`;
 * nothing stays open then.
 */
export async function gatherTcpSide(world: GatherWorld, options: GatherTcpOptions): Promise<GatheredTcp> {
  const { localIp, device, kind, ip, servers, cost, signal, note } = options;
  const { samples, spare, within } = gatherNeeds(kind);
  const failures: string[] = [];
  let syns = 0;
  // A server that fails has moved the router's counters all the same, so each gets ports of its own.
  for (const server of samples === 0 ? [undefined] : servers) {
    const ports = await holdPorts(world, { ip: localIp, device, ports: samples + spare, within });
    const rest = ports.ports.slice(samples);
    const gathered = (sampling?: Sampling): GatheredTcp => ({
      side: { kind, ip, samples: sampling?.seen ?? [], spare: rest },
      ports,
      ...(sampling === undefined ? {} : { rttMs: sampling.rttMs }),
      syns,
      close() {
        ports.close();
        sampling?.close();
      },
    });
    if (server === undefined) return gathered();
    try {
      syns += samples;
      if (cost !== undefined) {
        cost.syns += samples;
        cost.stunRequests += samples;
      }
      const began = world.time.now();
      const sampling = await sample(world, options, server, ports.ports.slice(0, samples));
      const text = sampling.seen.map(({ localPort, externalPort }) => `${localPort} as ${externalPort}`);
      const ms = (world.time.now() - began).toFixed(0);
      note("sampled", `TCP: ${formatEndpoint(server)} sees ${text.join(", ")}, in ${ms} ms`);
      return gathered(sampling);
    } catch (thrown) {
      ports.close();
      const { code, message } = toP2pdError(thrown);
      if (code === "aborted" || code === "unsupported" || signal.aborted) throw thrown;
      failures.push(`${formatEndpoint(server)}: ${message}`);
    }
  }
  const why = failures.length === 0 ? "no STUN server is known" : failures.join("; ");
  throw new P2pdError(
    "unreachable",
    `the router's TCP ports cannot be foreseen, as no server tells (${why})`,
  );
}

interface Sampling {
  readonly seen: readonly PunchSample[];
  readonly rttMs: number;
  close(): void;
}

/** All at once: SYNs leave in order, and the router makes mappings in the order in which they come. */
async function sample(
  world: GatherWorld,
  { localIp, device, ip, timeoutMs = TIMEOUT_MS, signal }: GatherTcpOptions,
  server: Endpoint,
  localPorts: readonly number[],
): Promise<Sampling> {
  const streams: StunStream[] = [];
  const close = (): void => {
    // A reset: no port lingers in TIME-WAIT.
    for (const { stream } of streams) stream.abort();
  };
  const failing = new AbortController();
  const either = AbortSignal.any([signal, failing.signal]);
  const began = world.time.now();
  const ask = async (localPort: number): Promise<BindingResult> => {
    const stun = await connectStun(world, {
      remote: server,
      local: { ip: localIp, port: localPort },
      ...(device === undefined ? {} : { device }),
      shared: true,
      timeoutMs,
      signal: either,
    });
    streams.push(stun);
    const leftMs = Math.max(1, began + timeoutMs - world.time.now());
    const result = await bindingRequest(stun, server, { timeoutMs: leftMs, signal: either });
    if (result.mapped.ip === ip) return result;
    throw new P2pdError("protocol", `it sees ${result.mapped.ip}, where others have seen ${ip}`);
  };
  const asked = localPorts.map((localPort) => ask(localPort));
  try {
    const results = await Promise.all(asked);
    return {
      seen: results.map(({ mapped }, i) => ({
        localPort: localPorts[i] as number,
        externalPort: mapped.port,
      })),
      rttMs: Math.min(...results.map(({ rttMs }) => rttMs)),
      close,
    };
  } catch (thrown) {
    failing.abort();
    await Promise.allSettled(asked);
    close();
    throw thrown;
  }
}
