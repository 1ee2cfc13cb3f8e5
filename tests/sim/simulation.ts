/**
 * A network in virtual time, made from the same topology that the laboratory builds of namespaces, with the same
 * addresses: routers with their NAT, hosts behind them, servers at the internet. It is deterministic from its
 * seed. Letting its time pass is `run-sim.ts`'s part.
 */
import { P2pdError } from "../../core/errors.ts";
import type { Family } from "../../core/ip.ts";
import type { NicAddress } from "../../core/net/world.ts";
import { lanKindNow, type NicSite, planLab, type RouterSite } from "../nat/lab-plan.ts";
import { type SeededRandom, seededRandom } from "../nat/seeded-random.ts";
import { changeSettings, DEFAULT_SETTINGS, type LinkSettings, type NatSettings } from "../nat/settings.ts";
import { INTERNET, type RouterKind, type Topology } from "../nat/topologies.ts";
import type { ClockSettings } from "./clock.ts";
import { createHost, type SimContext, type SimHost, type SimNicSettings } from "./host.ts";
import { createNames, type SimNames } from "./names.ts";
import { createRouter, type SimRouter } from "./router.ts";
import { createScheduler, type Scheduler } from "./scheduler.ts";
import { createSegment, type Segment } from "./segment.ts";
import { createTrace, type Trace } from "./trace.ts";

export interface SimulationOptions {
  /** 32-bit whole number: everything that chance decides follows from it. */
  readonly seed: number;
  /** Routers and hosts; none unless given. */
  readonly topology?: Topology;
  /** Clocks that are not right, by host. */
  readonly clocks?: Readonly<Record<string, ClockSettings>>;
}

export interface ServerOptions {
  /** Addresses per family, 1 unless given. */
  readonly addresses?: number;
  /** What the line of the server costs each way. */
  readonly link?: Partial<LinkSettings>;
  readonly clock?: ClockSettings;
}

export interface Simulation {
  readonly seed: number;
  readonly scheduler: Scheduler;
  readonly trace: Trace;
  readonly names: SimNames;
  /** For what a test decides by chance. */
  readonly random: SeededRandom;
  readonly internet: Segment;
  host(name: string): SimHost;
  router(name: string): SimRouter;
  /** The machine that a router is to its LAN: what asks the gateway for something is answered there. */
  gateway(router: string): SimHost;
  /** A host of the internet with server addresses of its own. */
  addServer(name: string, options?: ServerOptions): SimHost;
  /** A host with NICs as given, for what a topology cannot say. */
  addHost(name: string, nics: readonly SimNicSettings[], clock?: ClockSettings): SimHost;
  /** Resolves after this much virtual time. */
  sleep(delayMs: number): Promise<void>;
}

export function createSimulation({ seed, topology, clocks = {} }: SimulationOptions): Simulation {
  const scheduler = createScheduler();
  const trace = createTrace(scheduler);
  const random = seededRandom(seed);
  const names = createNames(scheduler);
  const context: SimContext = { scheduler, random, trace, names };
  const internet = createSegment("internet", trace);
  const plan = planLab("sim", topology ?? { routers: [], hosts: [] });
  const routers = new Map<string, SimRouter>();
  const hosts = new Map<string, SimHost>();
  let servers = 0;

  for (const site of plan.routers) {
    const { name, nat } = site.spec;
    const settings = settingsOf(nat);
    const lan = createSegment(`${name}'s LAN`, trace);
    const above = site.parent === undefined ? internet : router(site.parent.spec.name).lan;
    const own = random.fork(`router ${name}`).between(0, 0x7fff_ffff) ^ settings.seed;
    const prefixes = plan.routers.filter((other) => isAtOrBelow(other, site)).flatMap(prefixesOf);
    routers.set(
      name,
      createRouter({
        site,
        settings: changeSettings(settings, { seed: own >>> 0 }),
        above,
        lan,
        prefixes,
        scheduler,
        trace,
      }),
    );
  }
  for (const { name, nics } of plan.hosts) {
    addHost(name, nics.map(nicSettings), clocks[name] ?? {});
  }

  function nicSettings(nic: NicSite): SimNicSettings {
    const { name, router: site, metric, ip6 } = nic;
    const kind = site === undefined ? "public" : lanKindNow(site, site.spec.nat);
    const prefix4 = site === undefined ? INTERNET.prefix4 : 24;
    const lan = site?.lan(kind);
    return {
      name,
      metric,
      segment: site === undefined ? internet : router(site.spec.name).lan,
      addresses: [
        { ip: nic.ip4(kind), family: 4, prefixLength: prefix4 },
        { ip: ip6, family: 6, prefixLength: 64 },
      ],
      gateway: { 4: lan?.lanIp4 ?? INTERNET.gateway4, 6: lan?.lanIp6 ?? INTERNET.gateway6 },
    };
  }

  function router(name: string): SimRouter {
    const found = routers.get(name);
    if (found === undefined) throw missing("router", name, routers);
    return found;
  }

  function addHost(name: string, nics: readonly SimNicSettings[], clock: ClockSettings = {}): SimHost {
    if (hosts.has(name)) throw new P2pdError("bad-argument", `there is a host "${name}" already`);
    const host = createHost(context, name, hosts.size, nics, clock);
    hosts.set(name, host);
    return host;
  }

  return {
    seed,
    scheduler,
    trace,
    names,
    random,
    internet,
    router,
    addHost,
    host(name) {
      const found = hosts.get(name);
      if (found === undefined) throw missing("host", name, hosts);
      return found;
    },
    addServer(name, { addresses = 1, link = {}, clock } = {}) {
      const address = (family: Family, index: number): NicAddress =>
        family === 4
          ? { ip: INTERNET.serverIp4(index), family, prefixLength: INTERNET.prefix4 }
          : { ip: INTERNET.serverIp6(index), family, prefixLength: INTERNET.prefix6 };
      const indices = Array.from({ length: addresses }, () => servers++);
      const gateway = { 4: INTERNET.gateway4, 6: INTERNET.gateway6 };
      const all = indices.flatMap((index) => [address(4, index), address(6, index)]);
      const nic = { name: "eth0", metric: 100, segment: internet, addresses: all, gateway, link };
      return addHost(name, [nic], clock);
    },
    gateway(name) {
      const known = hosts.get(`${name} inside`);
      if (known !== undefined) return known;
      const site = plan.routers.find(({ spec }) => spec.name === name);
      if (site === undefined) throw missing("router", name, routers);
      const { lanIp4, lanIp6 } = site.lan(lanKindNow(site, site.spec.nat));
      const addresses = [
        { ip: lanIp4, family: 4, prefixLength: 24 },
        { ip: lanIp6, family: 6, prefixLength: 64 },
      ] as const;
      return addHost(`${name} inside`, [
        { name: "lan0", metric: 100, segment: router(name).lan, addresses, gateway: {} },
      ]);
    },
    sleep: (delayMs) => new Promise((resolve) => void scheduler.after(delayMs, resolve)),
  };
}

/** A kernel's masquerade behaves like these settings of the engine. */
function settingsOf(nat: RouterKind): NatSettings {
  if (nat.kind === "box") return nat.settings;
  if (nat.ports === "keep") return DEFAULT_SETTINGS;
  const mapping = "address-and-port-dependent";
  return changeSettings(DEFAULT_SETTINGS, { both: { mapping, delta: { kind: "random" } } });
}

function isAtOrBelow(router: RouterSite, top: RouterSite): boolean {
  for (let at: RouterSite | undefined = router; at !== undefined; at = at.parent) if (at === top) return true;
  return false;
}

/** What is routed and not translated. */
function prefixesOf(site: RouterSite): readonly string[] {
  const lan = site.lan("public");
  return [lan.lanPrefix4, lan.lanPrefix6];
}

function missing(what: string, name: string, known: ReadonlyMap<string, unknown>): P2pdError {
  const there = [...known.keys()].join(", ");
  return new P2pdError("bad-argument", `there is no ${what} "${name}"; there are: ${there}`);
}
