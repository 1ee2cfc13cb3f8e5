/**
 * A simulated machine: NICs with addresses, a route for every destination, clocks of its own, and on top the
 * `World` that programs receive. Behaves like Linux: an address belongs to the machine, not to its NIC, and the
 * way out is chosen by destination unless a device is named.
 */
import { P2pdError } from "../../core/errors.ts";
import { type Family, familyOf, inPrefix } from "../../core/ip.ts";
import type { Nic, NicAddress, World } from "../../core/net/world.ts";
import { createLink, type Link } from "../nat/link.ts";
import type { SeededRandom } from "../nat/seeded-random.ts";
import type { LinkSettings } from "../nat/settings.ts";
import { type ClockSettings, createClock } from "./clock.ts";
import type { HostStack } from "./host-stack.ts";
import type { SimNames } from "./names.ts";
import { describePacket, type SimPacket } from "./packet.ts";
import type { Scheduler } from "./scheduler.ts";
import { openQuic } from "./quic.ts";
import { secure } from "./secure.ts";
import { isMulticast, type Plug, type Segment } from "./segment.ts";
import { createTcpStack } from "./tcp-stack.ts";
import type { Trace } from "./trace.ts";
import { createUdpStack } from "./udp-stack.ts";

/** What is the same for everything in one simulation. */
export interface SimContext {
  readonly scheduler: Scheduler;
  readonly random: SeededRandom;
  readonly trace: Trace;
  readonly names: SimNames;
}

export interface SimNicSettings {
  readonly name: string;
  readonly segment: Segment;
  readonly addresses: readonly NicAddress[];
  readonly gateway: Readonly<Partial<Record<Family, string>>>;
  readonly metric: number;
  /** What the cable costs, each way; 50 µs unless given. */
  readonly link?: Partial<LinkSettings>;
}

/** What may be changed of a NIC while programs run; `watchNics` tells them. */
export type SimNicChange = Partial<Omit<SimNicSettings, "name">> & { readonly up?: boolean };

export interface SimHost {
  readonly name: string;
  readonly world: World;
  /** The first address of the first NIC of that family. */
  ip(family?: Family): string;
  /** Changes a NIC: addresses, up or down, where it is plugged in. */
  changeNic(nic: string, change: SimNicChange): void;
}

const DEFAULT_LINK: LinkSettings = { delayMs: 0.05, jitterMs: 0, loss: 0 };
const INSIDE_MS = 0.01;
/** What systems take to tell of a change. */
const NOTICE_MS = 75;
const LOOPBACK: Nic = {
  index: 1,
  name: "lo",
  kind: "loopback",
  mac: "00:00:00:00:00:00",
  mtu: 65536,
  up: true,
  addresses: [
    { ip: "127.0.0.1", family: 4, prefixLength: 8 },
    { ip: "::1", family: 6, prefixLength: 128 },
  ],
  gateway: {},
  metric: {},
};

interface PluggedNic {
  settings: SimNicSettings;
  up: boolean;
  readonly index: number;
  readonly mac: string;
  out: Link;
  in: Link;
  readonly plug: Plug;
  unplug: () => void;
}

export function createHost(
  context: SimContext,
  name: string,
  number: number,
  nicSettings: readonly SimNicSettings[],
  clock: ClockSettings,
): SimHost {
  const { scheduler, trace } = context;
  const random = context.random.fork(`host ${name}`);
  const watchers = new Set<() => void>();
  const routes = new Map<string, PluggedNic | undefined>();
  const nics = nicSettings.map((settings, i): PluggedNic => {
    const plug: Plug = {
      isHost: true,
      owns: (ip) => nic.up && nic.settings.addresses.some((address) => address.ip === ip),
      receive: (packet) => cross(nic.in, packet, arrive),
    };
    const hex = (value: number): string => value.toString(16).padStart(2, "0");
    const nic: PluggedNic = {
      settings,
      up: true,
      index: i + 2,
      mac: `02:00:00:00:${hex(number & 255)}:${hex(i)}`,
      ...linksOf(settings, i),
      plug,
      unplug: settings.segment.plug(plug),
    };
    return nic;
  });

  function linksOf(settings: SimNicSettings, i: number): { out: Link; in: Link } {
    const link = { ...DEFAULT_LINK, ...settings.link };
    return { out: createLink(link, random.fork(`out ${i}`)), in: createLink(link, random.fork(`in ${i}`)) };
  }

  function cross(link: Link, packet: SimPacket, deliver: (packet: SimPacket) => void): void {
    const at = link.arrival(scheduler.nowMs);
    if (at === undefined) trace.add(`${name} lost: ${describePacket(packet)}`);
    else scheduler.after(at - scheduler.nowMs, () => deliver(packet));
  }

  function arrive(packet: SimPacket): void {
    // The address may have gone while the packet was on its way.
    const { ip } = packet.destination;
    if (!isOwn(ip) && !isMulticast(ip)) return trace.add(`${name} not its own: ${describePacket(packet)}`);
    trace.add(`${name} receives: ${describePacket(packet)}`);
    if (packet.protocol === "udp") udp.receive(packet);
    else if (packet.protocol === "tcp") tcp.receive(packet);
    else if (packet.quoted.protocol === "udp") udp.unreachable(packet.quoted, packet.unreachable);
    else tcp.unreachable(packet.quoted, packet.unreachable);
  }

  function hasAddress(ip: string): boolean {
    return nics.some(({ settings, up }) => up && settings.addresses.some((address) => address.ip === ip));
  }

  function isOwn(ip: string): boolean {
    return ip.startsWith("127.") || ip === "::1" || hasAddress(ip);
  }

  function routeTo(ip: string, device: string | undefined): PluggedNic | undefined {
    const key = `${ip} ${device ?? ""}`;
    if (!routes.has(key)) routes.set(key, findRoute(ip, device));
    return routes.get(key);
  }

  /** Longest prefix first, then the default route of lowest metric. */
  function findRoute(ip: string, device: string | undefined): PluggedNic | undefined {
    const family = familyOf(ip);
    const usable = nics.filter(
      ({ settings, up }) =>
        up &&
        (device === undefined || settings.name === device) &&
        settings.addresses.some((address) => address.family === family),
    );
    const onLink = usable.find(({ settings }) =>
      settings.addresses.some((address) => inPrefix(ip, address.ip, address.prefixLength)),
    );
    if (onLink !== undefined) return onLink;
    return usable
      .filter(({ settings }) => settings.gateway[family] !== undefined)
      .sort((a, b) => a.settings.metric - b.settings.metric)[0];
  }

  const stack: HostStack = {
    name,
    scheduler,
    random,
    hasAddress,
    isOwn,
    hasDevice: (device) => device === "lo" || nics.some(({ settings }) => settings.name === device),
    sourceFor(ip, device) {
      if (isOwn(ip)) return ip;
      const nic = routeTo(ip, device);
      return nic?.settings.addresses.find(({ family }) => family === familyOf(ip))?.ip;
    },
    send(packet, device) {
      const { ip } = packet.destination;
      if (isOwn(ip)) {
        scheduler.after(INSIDE_MS, () => arrive(packet));
        return;
      }
      const nic = routeTo(ip, device);
      trace.add(`${name} sends${nic === undefined ? " nowhere" : ""}: ${describePacket(packet)}`);
      if (nic !== undefined)
        cross(nic.out, packet, (ready) => {
          if (nic.up) nic.settings.segment.carry(ready, nic.plug);
        });
    },
  };
  const udp = createUdpStack(stack);
  const tcp = createTcpStack(stack);
  const time = createClock(scheduler, clock);
  const octets = random.fork("octets");

  const world: World = {
    time,
    randomBytes: (count) => Uint8Array.from({ length: count }, () => octets.between(0, 255)),
    systemId: () => `simulated machine ${name}`,
    nics: () => [LOOPBACK, ...nics.map(showNic)],
    watchNics(changed) {
      const watcher = (): void => changed();
      watchers.add(watcher);
      return () => void watchers.delete(watcher);
    },
    lookup: (host, family) => context.names.lookup(host, family),
    openUdp: async (options) => udp.open(options),
    listenTcp: async (options) => tcp.listen(options),
    connectTcp: (options) => tcp.connect(options),
    openQuic: (options) => openQuic(stack, world, options),
    secure: (stream, options) => secure(time, random, stream, options),
  };

  return {
    name,
    world,
    ip(family = 4) {
      const all = nics.flatMap(({ settings }) => settings.addresses);
      const found = all.find((address) => address.family === family);
      if (found === undefined)
        throw new P2pdError("bad-argument", `host ${name} has no IPv${family} address`);
      return found.ip;
    },
    changeNic(nicName, { up, ...change }) {
      const nic = nics.find(({ settings }) => settings.name === nicName);
      if (nic === undefined) throw new P2pdError("bad-argument", `host ${name} has no NIC ${nicName}`);
      routes.clear();
      nic.unplug();
      nic.settings = { ...nic.settings, ...change };
      nic.up = up ?? nic.up;
      if (change.link !== undefined) Object.assign(nic, linksOf(nic.settings, nic.index));
      nic.unplug = nic.settings.segment.plug(nic.plug);
      const text = nic.settings.addresses.map(({ ip }) => ip).join(" ");
      trace.add(`${name} ${nicName} is ${nic.up ? "up" : "down"} with ${text}`);
      scheduler.after(NOTICE_MS, () => {
        for (const watcher of watchers) watcher();
      });
    },
  };
}

function showNic({ settings, up, index, mac }: PluggedNic): Nic {
  const { name, addresses, gateway, metric } = settings;
  return {
    index,
    name,
    kind: "physical",
    mac,
    mtu: 1500,
    up,
    addresses: up ? addresses : [],
    gateway: up ? gateway : {},
    metric: up ? Object.fromEntries(Object.keys(gateway).map((family) => [family, metric])) : {},
  };
}
