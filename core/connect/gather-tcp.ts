/**
 * Our side of a TCP punch, before the plan: local ports that are held, and where the router's present mappings of
 * them are, learnt from a STUN server over TCP. The connections to it stay open, and so do the mappings, until
 * the whole is closed. What the samples mean is decided in `core/nat/`.
 */
import { P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, familyOf, formatEndpoint } from "../ip.ts";
import type { NatKind } from "../nat/nat-kind.ts";
import type { PunchSample, PunchSide } from "../nat/punch-plan.ts";
import type { World } from "../net/world.ts";
import { type BindingResult, bindingRequest } from "../stun/binding.ts";
import { connectStun, type StunStream } from "../stun/stun-stream.ts";
import { type HeldPorts, holdPorts } from "./held-ports.ts";
import type { Note } from "./race.ts";

export interface GatherTcpOptions {
  readonly localIp: string;
  readonly device?: string | undefined;
  /** What the router does to TCP. */
  readonly kind: NatKind;
  /**
   * STUN servers that are known to answer over TCP: the first is asked for everything, the next ones when it fails.
   * None: there is no router between the two, and ports are what they are.
   */
  readonly servers: readonly Endpoint[];
  /** Mappings to learn: by default 1, of a router that gives each remote side a mapping of its own 2. */
  readonly samples?: number;
  /** Ports after those, which send nothing: by default none, of such a router 8. */
  readonly spare?: number;
  /** For each server; 1,500 ms unless given. */
  readonly timeoutMs?: number;
  readonly signal: AbortSignal;
  readonly note?: Note;
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
const SYMMETRIC_SAMPLES = 2;
const SYMMETRIC_SPARE = 8;

/**
 * Rejects with `unreachable` when no server answers, `aborted`, `unsupported`, or as `World.listenTcp` does; nothing
 * stays open then.
 */
export async function gatherTcpSide(world: GatherWorld, options: GatherTcpOptions): Promise<GatheredTcp> {
  const { localIp, device, kind, servers, signal, note } = options;
  const isPerRemote = kind.mapping !== "endpoint-independent" && kind.type === "symmetric";
  const samples = options.samples ?? (isPerRemote ? SYMMETRIC_SAMPLES : 1);
  const spare = options.spare ?? (isPerRemote ? SYMMETRIC_SPARE : 0);
  const failures: string[] = [];
  let syns = 0;
  // A server that fails has moved the router's counters all the same, so each gets ports of its own.
  for (let i = 0; ; i++) {
    const ports = await holdPorts(world, { ip: localIp, device, ports: samples + spare });
    const rest = ports.ports.slice(samples);
    if (servers.length === 0 || isUntranslated(kind)) {
      const own = ports.ports
        .slice(0, samples)
        .map((port): PunchSample => ({ localPort: port, externalPort: port }));
      return {
        side: { kind, ip: localIp, samples: own, spare: rest },
        ports,
        syns,
        close: () => ports.close(),
      };
    }
    const server = servers[i] as Endpoint;
    try {
      syns += samples;
      const sampling = await sample(world, options, server, ports.ports.slice(0, samples));
      const { seen, ip, rttMs } = sampling;
      const text = seen.map(({ localPort, externalPort }) => `${localPort} as ${externalPort}`).join(", ");
      note?.("sampled", `${ip}: ${text}; ${formatEndpoint(server)} in ${rttMs.toFixed(0)} ms a round trip`);
      return {
        side: { kind, ip, samples: seen, spare: rest },
        ports,
        rttMs,
        syns,
        close() {
          ports.close();
          sampling.close();
        },
      };
    } catch (thrown) {
      ports.close();
      const { code, message } = toP2pdError(thrown);
      if (code === "aborted" || code === "unsupported" || signal.aborted) throw thrown;
      failures.push(message);
      note?.("not sampled", message);
      if (i + 1 >= servers.length) {
        const text = `no STUN server answers over TCP, so nothing is known of the router: ${failures.join("; ")}`;
        throw new P2pdError("unreachable", text, {}, { cause: thrown });
      }
    }
  }
}

interface Sampling {
  readonly seen: readonly PunchSample[];
  readonly ip: string;
  readonly rttMs: number;
  close(): void;
}

/** All at once: SYNs leave in order, and the router makes mappings in the order in which they come. */
async function sample(
  world: GatherWorld,
  { localIp, device, timeoutMs = TIMEOUT_MS, signal }: GatherTcpOptions,
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
    if (familyOf(result.mapped.ip) === familyOf(localIp) && result.mapped.port !== 0) return result;
    const text = `${formatEndpoint(server)} named ${formatEndpoint(result.mapped)}, which is no mapping of ${localIp}`;
    throw new P2pdError("protocol", text);
  };
  const asked = localPorts.map((localPort) => ask(localPort));
  try {
    const results = await Promise.all(asked);
    return {
      seen: results.map(({ mapped }, i) => ({
        localPort: localPorts[i] as number,
        externalPort: mapped.port,
      })),
      ip: (results[0] as BindingResult).mapped.ip,
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

function isUntranslated({ type }: NatKind): boolean {
  return type === "open-internet" || type === "symmetric-firewall";
}
