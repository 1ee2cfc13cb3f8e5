/**
 * Asks several STUN servers at once which address a route has outside, and believes what enough of them agree
 * on: a dead, slow or lying server is named and changes nothing. What a NAT does with ports is `core/nat/`'s.
 */
import { type ErrorCode, P2pdError, toP2pdError } from "../errors.ts";
import { type Endpoint, type Family, familyOf, formatEndpoint, scopeOf } from "../ip.ts";
import type { World } from "../net/world.ts";
import { type BindingResult, bindingRequest } from "./binding.ts";
import { formatStunServer, type StunServer } from "./server-url.ts";
import { attachStun } from "./stun-socket.ts";
import { connectStun } from "./stun-stream.ts";

export interface AskOptions {
  /** Where to ask from; its address chooses the route; with port 0 the system chooses the port. */
  readonly local: Endpoint;
  /** Name of the NIC that packets must leave by. */
  readonly device?: string;
  /** The first 16 are asked. */
  readonly servers: readonly StunServer[];
  readonly family: Family;
  readonly protocol: "udp" | "tcp";
  /** How many servers must name the same address; 2 unless given, and never more than there are servers. */
  readonly enough?: number;
  /** Milliseconds for everything, names included; 3,000 unless given. */
  readonly timeoutMs?: number;
  /** RTO in milliseconds; 500 unless given. */
  readonly rtoMs?: number;
  readonly signal?: AbortSignal;
}

export interface ServerAnswer extends BindingResult {
  readonly server: StunServer;
}

export interface ServerFailure {
  readonly server: StunServer;
  /** `timeout`: dead or slow; `aborted`: enough had answered before; `protocol`: what it said makes no sense. */
  readonly code: ErrorCode;
  readonly reason: string;
}

export interface ExternalAddress {
  /** What most servers named; absent if none answered or no address has more voices than every other. */
  readonly external?: string;
  /** How many named it. */
  readonly agreed: number;
  /** Whether that was enough. */
  readonly confirmed: boolean;
  /** In the order they came. */
  readonly answers: readonly ServerAnswer[];
  /** Those of `answers` that named another address than `external`. */
  readonly dissenting: readonly ServerAnswer[];
  readonly failures: readonly ServerFailure[];
  readonly elapsedMs: number;
}

type AskWorld = Pick<World, "time" | "randomBytes" | "lookup" | "openUdp" | "connectTcp">;
type Ask = (address: Endpoint, signal: AbortSignal, timeoutMs: number) => Promise<BindingResult>;

const MAX_SERVERS = 16;

/**
 * Asks all of `servers`; resolves as soon as enough agree, all have spoken, or time is up. Rejects with
 * `bad-argument` without servers, `aborted`, or as `World.openUdp` does when the port cannot be had.
 */
export async function askServers(world: AskWorld, options: AskOptions): Promise<ExternalAddress> {
  const { signal, timeoutMs = 3000 } = options;
  const servers = options.servers.slice(0, MAX_SERVERS);
  if (servers.length === 0)
    throw new P2pdError("bad-argument", "no STUN servers to ask; expected at least one");
  const calledOff = (): boolean => signal?.aborted === true;
  if (calledOff()) throw askAborted();
  const enough = Math.max(1, Math.min(options.enough ?? 2, servers.length));
  const startMs = world.time.now();
  const stop = new AbortController();
  const { ask, close } = await openAsking(world, options);
  const answers: ServerAnswer[] = [];
  const failures = new Map<StunServer, P2pdError>();
  const taken = new Map<string, StunServer>();

  async function askOne(server: StunServer): Promise<BindingResult> {
    if (server.transport !== undefined && server.transport !== options.protocol) {
      throw new P2pdError(
        "unsupported",
        `it was given for ${server.transport}, and ${options.protocol} was asked`,
      );
    }
    const ips = await world.lookup(server.host, options.family);
    const ip = ips.find((one) => familyOf(one) === options.family);
    if (ip === undefined)
      throw new P2pdError("unreachable", `${server.host} has no IPv${options.family} address`);
    const address = { ip, port: server.port };
    const twin = taken.get(formatEndpoint(address));
    if (twin !== undefined)
      throw new P2pdError("bad-argument", `it is the same server as ${formatStunServer(twin)}`);
    taken.set(formatEndpoint(address), server);
    if (stop.signal.aborted) throw askAborted();
    return await ask(address, stop.signal, Math.max(1, startMs + timeoutMs - world.time.now()));
  }

  try {
    await new Promise<void>((resolve, reject) => {
      const timer = world.time.after(timeoutMs, finish);
      const aborted = (): void => finish(askAborted());
      let open = true;
      signal?.addEventListener("abort", aborted, { once: true });
      if (calledOff()) aborted(); // while the port was being opened

      function finish(error?: P2pdError): void {
        if (!open) return;
        open = false;
        timer.cancel();
        signal?.removeEventListener("abort", aborted);
        if (error === undefined) resolve();
        else reject(error);
      }
      function settled(): void {
        const done = answers.length + failures.size === servers.length;
        if (done || (mostNamed(answers)?.agreed ?? 0) >= enough) finish();
      }
      for (const server of servers) {
        askOne(server).then(
          (result) => {
            if (!open) return;
            const lie = implausible(result.mapped, options.family);
            if (lie === undefined) answers.push({ ...result, server });
            else failures.set(server, lie);
            settled();
          },
          (thrown: unknown) => {
            if (!open) return;
            failures.set(server, toP2pdError(thrown));
            settled();
          },
        );
      }
    });
  } finally {
    stop.abort();
    close();
  }

  const elapsedMs = world.time.now() - startMs;
  const most = mostNamed(answers);
  const confirmed = most !== undefined && most.agreed >= enough;
  for (const server of servers) {
    if (failures.has(server) || answers.some((answer) => answer.server === server)) continue;
    const late = new P2pdError("timeout", `no answer within ${Math.round(elapsedMs)} ms`);
    failures.set(server, confirmed ? new P2pdError("aborted", "enough others had answered before") : late);
  }
  return {
    ...(most === undefined ? {} : { external: most.ip }),
    agreed: most?.agreed ?? 0,
    confirmed,
    answers,
    dissenting: most === undefined ? answers : answers.filter(({ mapped }) => mapped.ip !== most.ip),
    failures: [...failures].map(([server, { code, message }]) => ({ server, code, reason: message })),
    elapsedMs,
  };
}

/** One UDP socket for all servers, or one TCP connection for each, from the same port where one was named. */
async function openAsking(world: AskWorld, options: AskOptions): Promise<{ ask: Ask; close: () => void }> {
  const { local, rtoMs } = options;
  const device = options.device === undefined ? {} : { device: options.device };
  const timing = rtoMs === undefined ? {} : { rtoMs };
  if (options.protocol === "udp") {
    const socket = await world.openUdp({ local, ...device });
    const stun = attachStun(world, socket);
    return {
      ask: (address, signal, timeoutMs) => bindingRequest(stun, address, { timeoutMs, signal, ...timing }),
      close() {
        stun.close();
        socket.close();
      },
    };
  }
  const shared = local.port !== 0;
  return {
    async ask(remote, signal, timeoutMs) {
      const beganMs = world.time.now();
      const stun = await connectStun(world, { remote, local, shared, timeoutMs, signal, ...device });
      try {
        const left = Math.max(1, timeoutMs - (world.time.now() - beganMs));
        return await bindingRequest(stun, remote, { timeoutMs: left, signal });
      } finally {
        stun.close();
      }
    },
    close() {},
  };
}

function mostNamed(answers: readonly ServerAnswer[]): { ip: string; agreed: number } | undefined {
  const voices = new Map<string, number>();
  for (const { mapped } of answers) voices.set(mapped.ip, (voices.get(mapped.ip) ?? 0) + 1);
  const [first, second] = [...voices].sort((a, b) => b[1] - a[1]);
  if (first === undefined || first[1] === second?.[1]) return undefined;
  return { ip: first[0], agreed: first[1] };
}

/** Why an external address cannot be true; undefined where it may be. */
export function implausible(mapped: Endpoint, family: Family): P2pdError | undefined {
  const scope = scopeOf(mapped.ip);
  if (
    familyOf(mapped.ip) === family &&
    mapped.port !== 0 &&
    scope !== "unspecified" &&
    scope !== "multicast"
  ) {
    return undefined;
  }
  return new P2pdError("protocol", `it named ${formatEndpoint(mapped)}, which nobody can have outside`);
}

function askAborted(): P2pdError {
  return new P2pdError("aborted", "asking STUN servers was called off");
}
