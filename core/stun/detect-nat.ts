/**
 * Finds out what router stands between an address of this machine and the internet, by STUN over UDP and TCP side by
 * side. Observing and judging are in files of their own; here is who is asked, and how long silence is waited for.
 */
import { P2pdError } from "../errors.ts";
import { type Endpoint, type Family, familyOf, sameEndpoint } from "../ip.ts";
import { classifyNat } from "../nat/classify.ts";
import type { NatProfile } from "../nat/nat-kind.ts";
import type { NatObservations } from "../nat/observations.ts";
import type { World } from "../net/world.ts";
import { observeTcp } from "./observe-tcp.ts";
import { observeUdp } from "./observe-udp.ts";
import type { StunServer } from "./server-url.ts";

export interface DetectOptions {
  /** The NIC address to ask from. */
  readonly localIp: string;
  /** Name of the NIC that packets must leave by. */
  readonly device?: string;
  /** The first 6 that have an address of the family are asked. */
  readonly servers: readonly StunServer[];
  /** Milliseconds for everything; 3,000 unless given. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface NatDetection {
  /** Absent where no server answered: they may all be dead, and nothing is known. */
  readonly profile?: NatProfile;
  readonly elapsedMs: number;
  /** Counted by address. */
  readonly servers: { readonly asked: number; readonly answered: number };
}

type DetectWorld = Pick<World, "time" | "randomBytes" | "lookup" | "openUdp" | "connectTcp">;

const MAX_SERVERS = 6;
/** For the names of servers; who has none by then is not asked. */
const LOOKUP_MS = 1000;
/** When the other protocol has been answered, so long is waited for a first answer, and two round trips more. */
const SILENCE_MS = { udp: 600, tcp: 850 } as const;

/**
 * Asks and judges. Takes about half a second when all servers answer within 50 ms, and the time limit when none does.
 * Rejects with `aborted`, or as `World.openUdp` does when the address is not to be had.
 */
export async function detectNat(world: DetectWorld, options: DetectOptions): Promise<NatDetection> {
  const { time } = world;
  const { timeoutMs = 3000, signal: given } = options;
  const isCalledOff = (): boolean => given?.aborted === true;
  if (isCalledOff()) throw aborted();
  const beganMs = time.now();
  const end = new AbortController();
  const stop = (): void => end.abort();
  const limit = time.after(timeoutMs, stop, { background: true });
  given?.addEventListener("abort", stop, { once: true });
  const timers = [limit];
  try {
    const targets = await resolveServers(world, options);
    const silences = { udp: new AbortController(), tcp: new AbortController() };
    const heard = new Set<"udp" | "tcp">();
    const observe = (protocol: "udp" | "tcp"): Promise<NatObservations> => {
      const other = protocol === "udp" ? "tcp" : "udp";
      const servers = targets.filter(({ transport = protocol }) => transport === protocol);
      const endpoints = servers.map(({ endpoint }) => endpoint);
      if (endpoints.length === 0)
        return Promise.resolve({ local: { ip: options.localIp, port: 0 }, views: [] });
      const run = protocol === "udp" ? observeUdp : observeTcp;
      return run(world, {
        localIp: options.localIp,
        ...(options.device === undefined ? {} : { device: options.device }),
        servers: endpoints,
        silence: silences[protocol].signal,
        signal: end.signal,
        answered(rttMs) {
          heard.add(protocol);
          const waitMs = beganMs + SILENCE_MS[other] + 2 * rttMs - time.now();
          const giveUp = (): void => void (heard.has(other) || silences[other].abort());
          timers.push(time.after(Math.max(0, waitMs), giveUp, { background: true }));
        },
      });
    };
    const [udp, tcp] = await Promise.all([observe("udp"), observe("tcp")]);
    if (isCalledOff()) throw aborted();
    const profile = classifyNat(udp, tcp);
    const answered = new Set([...udp.views, ...tcp.views].map(({ endpoint }) => endpoint));
    return {
      ...(profile === undefined ? {} : { profile }),
      elapsedMs: time.now() - beganMs,
      servers: { asked: targets.length, answered: answered.size },
    };
  } finally {
    given?.removeEventListener("abort", stop);
    stop();
    for (const timer of timers) timer.cancel();
  }
}

interface Target {
  readonly endpoint: Endpoint;
  readonly transport?: "udp" | "tcp";
}

async function resolveServers(
  world: DetectWorld,
  { servers, localIp }: DetectOptions,
): Promise<readonly Target[]> {
  const family = familyOf(localIp);
  let late = (): void => undefined;
  const timer = world.time.after(LOOKUP_MS, () => late(), { background: true });
  const deadline = new Promise<undefined>((resolve) => (late = () => resolve(undefined)));
  const found = await Promise.all(
    servers.map((server) => Promise.race([resolve(world, server, family), deadline])),
  );
  timer.cancel();
  const targets = found.filter((target) => target !== undefined);
  const isFirst = ({ endpoint }: Target, i: number): boolean =>
    targets.findIndex((other) => sameEndpoint(other.endpoint, endpoint)) === i;
  return targets.filter(isFirst).slice(0, MAX_SERVERS);
}

async function resolve(
  world: DetectWorld,
  { host, port, transport }: StunServer,
  family: Family,
): Promise<Target | undefined> {
  try {
    const ip = (await world.lookup(host, family)).find((one) => familyOf(one) === family);
    if (ip === undefined) return undefined;
    return { endpoint: { ip, port }, ...(transport === undefined ? {} : { transport }) };
  } catch (thrown) {
    if (thrown instanceof P2pdError) return undefined;
    throw thrown;
  }
}

function aborted(): P2pdError {
  return new P2pdError("aborted", "the detection of the NAT was called off");
}
