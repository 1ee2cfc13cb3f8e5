/**
 * Finds out how a router maps, filters and picks ports, from sockets of an inside host and of a server with two
 * addresses alone. It is not told what was configured, save the range of ports that distances wrap in.
 */
import type { Endpoint } from "../../core/ip.ts";
import type { UdpSocket, World } from "../../core/net/world.ts";
import type { Behaviour } from "../nat/settings.ts";
import type { SimHost } from "./host.ts";

export type Protocol = "udp" | "tcp";

/** What a probe saw, in the words of the settings. */
export interface Observed {
  /** `none`: packets leave unchanged. */
  readonly mapping: Behaviour | "none" | "blocked";
  /** `open`: an endpoint that never sent anything is reached. */
  readonly filtering: Behaviour | "open" | "blocked";
  readonly delta: string;
}

export interface ProbeSite {
  readonly inside: SimHost;
  /** Its first two IPv4 addresses are used. */
  readonly outside: SimHost;
  /** The router's range of external ports. */
  readonly ports: readonly [low: number, high: number];
  /** Virtual time. */
  readonly sleep: (delayMs: number) => Promise<void>;
}

/** Within this every packet has arrived that will. */
const ARRIVES_MS = 500;
/** Local ports whose gaps tell the five deltas apart: neighbours, jumps both ways, neighbours again. */
const PATTERN = [0, 1, 2, 40, 41, 17, 18, 19, 90, 70];
const SERVER_PORTS = [7001, 7002] as const;

/** All that can be seen of a router for one protocol. */
export async function probe(site: ProbeSite, protocol: Protocol): Promise<Observed> {
  const [a, b] = site.outside.world.nics()[1]?.addresses.filter(({ family }) => family === 4) ?? [];
  const [ip1, ip2] = [a?.ip ?? "", b?.ip ?? ""];
  const servers = [
    { ip: ip1, port: SERVER_PORTS[0] },
    { ip: ip1, port: SERVER_PORTS[1] },
    { ip: ip2, port: SERVER_PORTS[0] },
  ] as const;
  const transport = protocol === "udp" ? udpTransport(site) : tcpTransport(site);
  const locals = PATTERN.map((offset) => 21_000 + offset);
  const seen: Endpoint[] = [];
  for (const port of locals) {
    const [mapped] = await transport.reach(port, [servers[0]]);
    if (mapped === undefined) return { mapping: "blocked", filtering: "blocked", delta: "blocked" };
    seen.push(mapped);
  }
  const mapping = nameMapping(await transport.reach(22_000, servers), { ip: site.inside.ip(), port: 22_000 });
  const heard = await transport.uninvited(23_000, 23_500, servers);
  return { delta: nameDelta(site, locals, seen), mapping, filtering: nameFiltering(heard) };
}

/** What one kind of socket can do for a probe. */
interface Transport {
  /** Reaches servers from one local port, and tells what each of them sees. */
  reach(port: number, servers: readonly Endpoint[]): Promise<readonly (Endpoint | undefined)[]>;
  /**
   * Reaches the first server from `port`, then has the others try the mapped endpoint, and the last one also the
   * local port `silent`, which never sent anything.
   */
  uninvited(port: number, silent: number, servers: readonly Endpoint[]): Promise<Heard>;
}

interface Heard {
  readonly otherPort: boolean;
  readonly otherAddress: boolean;
  readonly silent: boolean;
}

function udpTransport({ inside, outside, sleep }: ProbeSite): Transport {
  const sayAll = async (from: UdpSocket, to: readonly UdpSocket[]): Promise<(Endpoint | undefined)[]> => {
    const seen = to.map((): Endpoint | undefined => undefined);
    to.forEach((socket, i) => socket.attach({ message: (_, sender) => void (seen[i] = sender) }));
    for (const { local } of to) from.send(Uint8Array.of(1), local);
    await sleep(ARRIVES_MS);
    return seen;
  };
  const open = (world: World, local: Endpoint): Promise<UdpSocket> => world.openUdp({ local });
  const openAll = (locals: readonly Endpoint[]): Promise<UdpSocket[]> =>
    Promise.all(locals.map((local) => open(outside.world, local)));

  return {
    async reach(port, servers) {
      const outer = await openAll(servers);
      const inner = await open(inside.world, { ip: inside.ip(), port });
      const seen = await sayAll(inner, outer);
      for (const socket of [inner, ...outer]) socket.close();
      return seen;
    },
    async uninvited(port, silentPort, servers) {
      const outer = await openAll(servers);
      const inner = await open(inside.world, { ip: inside.ip(), port });
      const silent = await open(inside.world, { ip: inside.ip(), port: silentPort });
      const [mapped] = await sayAll(inner, outer.slice(0, 1));
      const heard = new Set<string>();
      inner.attach({ message: (_, from) => void heard.add(`${from.ip} ${from.port}`) });
      silent.attach({ message: () => void heard.add("silent") });
      const [, otherPort, otherAddress] = outer;
      for (const socket of [otherPort, otherAddress]) if (mapped) socket?.send(Uint8Array.of(2), mapped);
      otherAddress?.send(Uint8Array.of(3), silent.local);
      await sleep(ARRIVES_MS);
      for (const socket of [inner, silent, ...outer]) socket.close();
      const isHeard = (socket: UdpSocket | undefined): boolean =>
        heard.has(`${socket?.local.ip} ${socket?.local.port}`);
      return {
        otherPort: isHeard(otherPort),
        otherAddress: isHeard(otherAddress),
        silent: heard.has("silent"),
      };
    },
  };
}

function tcpTransport({ inside, outside, sleep }: ProbeSite): Transport {
  const connect = (world: World, local: Endpoint, remote: Endpoint): Promise<boolean> =>
    world.connectTcp({ local, remote, shared: true, timeoutMs: ARRIVES_MS }).then(
      () => true,
      () => false,
    );
  const reach: Transport["reach"] = (port, servers) =>
    Promise.all(
      servers.map(async (local) => {
        let seen: Endpoint | undefined;
        const accept = ({ remote }: { readonly remote: Endpoint }): void => void (seen = remote);
        const listener = await outside.world.listenTcp({ local, shared: true, accept });
        await connect(inside.world, { ip: inside.ip(), port }, local);
        await sleep(ARRIVES_MS);
        listener.close();
        return seen;
      }),
    );

  return {
    reach,
    async uninvited(port, silentPort, servers) {
      const [, otherPort, otherAddress] = servers as readonly [Endpoint, Endpoint, Endpoint];
      const [mapped] = await reach(port, servers.slice(0, 1));
      const accept = (): void => undefined;
      for (const one of [port, silentPort]) {
        await inside.world.listenTcp({ local: { ip: inside.ip(), port: one }, shared: true, accept });
      }
      const knock = (from: Endpoint, to: Endpoint | undefined): Promise<boolean> =>
        to === undefined ? Promise.resolve(false) : connect(outside.world, from, to);
      return {
        otherPort: await knock(otherPort, mapped),
        otherAddress: await knock(otherAddress, mapped),
        silent: await knock(otherAddress, { ip: inside.ip(), port: silentPort }),
      };
    },
  };
}

function nameMapping(seen: readonly (Endpoint | undefined)[], local: Endpoint): Observed["mapping"] {
  const [a1, a2, b1] = seen.map((at) => (at === undefined ? undefined : `${at.ip} ${at.port}`));
  if (a1 === undefined || a2 === undefined || b1 === undefined) return "blocked";
  if (a1 !== a2) return a1 === b1 ? "blocked" : "address-and-port-dependent";
  if (a1 !== b1) return "address-dependent";
  return a1 === `${local.ip} ${local.port}` ? "none" : "endpoint-independent";
}

function nameFiltering({ otherPort, otherAddress, silent }: Heard): Observed["filtering"] {
  if (silent) return "open";
  if (otherAddress) return "endpoint-independent";
  return otherPort ? "address-dependent" : "address-and-port-dependent";
}

/** Names the rule that a series of mapped ports follows. */
function nameDelta(
  { ports: [low, high], inside }: ProbeSite,
  locals: readonly number[],
  seen: readonly Endpoint[],
): string {
  const size = high - low + 1;
  const distance = (from: number, to: number): number => {
    const ahead = (((to - from) % size) + size) % size;
    return ahead > size / 2 ? ahead - size : ahead;
  };
  const mapped = seen.map(({ port }) => port);
  const isEqual = mapped.every((port, i) => port === locals[i]);
  if (isEqual) return seen.every(({ ip }) => ip === inside.ip()) ? "untranslated" : "equal";
  if (new Set(mapped.map((port, i) => distance(locals[i] as number, port))).size === 1) return "preserving";
  const steps = mapped.slice(1).map((port, i) => distance(mapped[i] as number, port));
  if (new Set(steps).size === 1) return `independent ${steps[0]}`;
  const isBeside = (i: number): boolean => locals[i + 1] === (locals[i] as number) + 1;
  const beside = new Set(steps.filter((_, i) => isBeside(i)));
  const [step] = beside;
  const jumps = steps.filter((_, i) => !isBeside(i));
  if (beside.size === 1 && step !== undefined && !jumps.includes(step)) return `dependent ${step}`;
  return beside.size > 2 ? "random" : `no rule: ${mapped.join(" ")}`;
}
