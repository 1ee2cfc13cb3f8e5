/**
 * Opens a pipe to an address or a host, over TCP or UDP, from a route or from wherever the system likes. Peers,
 * NATs and encryption are the node's business, not this file's.
 */
import { P2pdError } from "../errors.ts";
import { canonicalIp, type Endpoint, type Family, familyOf, formatEndpoint, parseEndpoint } from "../ip.ts";
import { defaultWorld } from "../net/default-world.ts";
import type { World } from "../net/world.ts";
import { Pipe, type PipeOptions } from "./pipe.ts";
import { streamChannel } from "./stream-channel.ts";
import { udpChannel } from "./udp-channel.ts";

/** Where sockets are opened: a bound route, or less than one. `{}` leaves everything to the system. */
export interface PipeRoute {
  /** Address and port to open sockets on; port 0 is any free one. */
  readonly local?: Endpoint;
  /** Name of the NIC that packets must leave by. */
  readonly device?: string;
  /** Whose sockets; by default this machine's. */
  readonly world?: World;
}

export type Transport = "tcp" | "udp";

export interface OpenPipeOptions extends Partial<Omit<PipeOptions, "time">> {
  /** "tcp" by default. */
  readonly transport?: Transport;
  /** For name resolution and connecting together; 10,000 by default. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** UDP: hear everybody, not the destination alone. `false` by default. */
  readonly anySender?: boolean;
}

const DEFAULT_TIMEOUT_MS = 10_000;

/**
 * Opens a pipe to `dest`, an endpoint or text like `192.0.2.1:80`, `[2001:db8::1]:80`, `example.org:80`. The
 * addresses of a host are tried in turn. Rejects with `bad-argument` (dest), `refused`, `timeout`, `unreachable`,
 * `address-in-use`, `aborted`, `unsupported`; `detail.attempts` says what was tried.
 */
export async function openPipe(
  route: PipeRoute,
  dest: Endpoint | string,
  options: OpenPipeOptions = {},
): Promise<Pipe> {
  const world = route.world ?? defaultWorld();
  const { time } = world;
  const deadline = time.now() + (options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  const { host, port } =
    typeof dest === "string" ? parseDestination(dest) : { host: dest.ip, port: dest.port };
  const family = route.local === undefined ? undefined : familyOf(route.local.ip);
  const ips = await addressesOf(world, host, family, deadline - time.now(), options.signal);
  const attempts: { to: string; reason: string }[] = [];
  let failure: P2pdError | undefined;
  for (const [i, ip] of ips.entries()) {
    const remote = { ip, port };
    // Each address gets its share of the time that is left, so that a silent one does not use up all.
    const timeoutMs = Math.max(1, (deadline - time.now()) / (ips.length - i));
    try {
      return await (options.transport === "udp"
        ? openUdpPipe(world, route, remote, options)
        : openTcpPipe(world, route, remote, timeoutMs, options));
    } catch (thrown) {
      if (!(thrown instanceof P2pdError)) throw thrown;
      failure = thrown;
      attempts.push({ to: formatEndpoint(remote), reason: thrown.message });
      if (thrown.code === "aborted" || time.now() >= deadline) break;
    }
  }
  const code = failure?.code ?? "unreachable";
  const why = failure?.message ?? `${host} has no IPv${family ?? "4 or IPv6"} address`;
  throw new P2pdError(code, `no pipe to ${host} port ${port}: ${why}`, { attempts }, { cause: failure });
}

async function openTcpPipe(
  world: World,
  { local, device }: PipeRoute,
  remote: Endpoint,
  timeoutMs: number,
  options: OpenPipeOptions,
): Promise<Pipe> {
  const stream = await world.connectTcp({
    remote,
    timeoutMs,
    ...(local === undefined ? {} : { local }),
    ...(device === undefined ? {} : { device }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  return new Pipe(streamChannel(stream), { ...options, time: world.time });
}

async function openUdpPipe(
  world: World,
  { local, device }: PipeRoute,
  remote: Endpoint,
  options: OpenPipeOptions,
): Promise<Pipe> {
  const socket = await world.openUdp({
    local: local ?? { ip: familyOf(remote.ip) === 6 ? "::" : "0.0.0.0", port: 0 },
    ...(device === undefined ? {} : { device }),
  });
  return new Pipe(udpChannel(socket, remote, options.anySender !== true), { ...options, time: world.time });
}

/** Host and port of `HOST:PORT`; throws `bad-argument`. */
function parseDestination(text: string): { readonly host: string; readonly port: number } {
  const endpoint = parseEndpoint(text);
  const match = /^([^:[\]\s/]{1,255}):([0-9]{1,5})$/.exec(text);
  const port = endpoint?.port ?? Number(match?.[2]);
  if ((endpoint === undefined && match === null) || !(port > 0 && port <= 65_535)) {
    const shown = text.slice(0, 100);
    throw new P2pdError(
      "bad-argument",
      `"${shown}" is no destination; expected host:port, 192.0.2.1:80 or [2001:db8::1]:80, port 1 to 65535`,
    );
  }
  return { host: endpoint?.ip ?? (match?.[1] as string), port };
}

async function addressesOf(
  world: World,
  host: string,
  family: Family | undefined,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<readonly string[]> {
  const ip = canonicalIp(host);
  if (ip !== undefined) {
    if (family === undefined || family === familyOf(ip)) return [ip];
    throw new P2pdError("bad-argument", `${ip} cannot be reached from an IPv${family} address`);
  }
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = world.time.after(timeoutMs, () => {
    reject(new P2pdError("timeout", `the name ${host} was not resolved within ${Math.round(timeoutMs)} ms`));
  });
  const onAbort = () => {
    reject(new P2pdError("aborted", `opening a pipe to ${host} was aborted`));
  };
  if (signal?.aborted === true) onAbort();
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, world.lookup(host, family)]);
  } finally {
    timer.cancel();
    signal?.removeEventListener("abort", onAbort);
  }
}
