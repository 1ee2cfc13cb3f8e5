/**
 * A router: the NAT engine for IPv4 and its firewall for IPv6 between two segments, with the delay, jitter and
 * loss of its line to the outside. ICMP errors are translated with the packet they quote.
 */
import { type Endpoint, familyOf, formatEndpoint, inPrefix } from "../../core/ip.ts";
import type { RouterSite } from "../nat/lab-plan.ts";
import { createNatEngine, ipv6Settings, type NatEngine, type Verdict } from "../nat/engine.ts";
import { createLink } from "../nat/link.ts";
import { seededRandom } from "../nat/seeded-random.ts";
import type { NatSettings } from "../nat/settings.ts";
import { describePacket, resetFor, type SimPacket, unreachableFor } from "./packet.ts";
import type { Scheduler } from "./scheduler.ts";
import type { Plug, Segment } from "./segment.ts";
import type { Trace } from "./trace.ts";

export interface SimRouter {
  readonly name: string;
  readonly settings: NatSettings;
  readonly ipv4: NatEngine;
  readonly ipv6: NatEngine;
  /** The network inside. */
  readonly lan: Segment;
  /** Forgets its state, as a power cut does. */
  reboot(): void;
  /** Another public address; state of the old one is gone. */
  setExternalIp(ip: string): void;
  /** Cuts the line to the outside, or mends it. */
  setLine(up: boolean): void;
}

export interface RouterOptions {
  readonly site: RouterSite;
  readonly settings: NatSettings;
  readonly above: Segment;
  readonly lan: Segment;
  /** Prefixes that are reached through this router: its own LAN's and those of routers below it. */
  readonly prefixes: readonly string[];
  readonly scheduler: Scheduler;
  readonly trace: Trace;
}

export function createRouter(options: RouterOptions): SimRouter {
  const { site, settings, above, lan, scheduler, trace } = options;
  const { name } = site.spec;
  const random = seededRandom(settings.seed);
  const ipv4 = createNatEngine(settings, site.wan.ip4);
  const ipv6 = createNatEngine(ipv6Settings(settings), site.wan.ip6);
  const outLink = createLink(settings.link, random.fork("out"));
  const inLink = createLink(settings.link, random.fork("in"));
  const prefixes = options.prefixes.map((prefix) => prefix.split("/") as [string, string]);
  let lineUp = true;

  const outside: Plug = {
    isHost: false,
    owns: (ip) =>
      ip === ipv4.externalIp ||
      ip === site.wan.ip6 ||
      prefixes.some(([network, length]) => inPrefix(ip, network, Number(length))),
    receive: (packet) => overLine(inLink, packet, fromWan),
  };
  const inside: Plug = { isHost: false, owns: () => false, receive: fromLan };
  above.plug(outside);
  lan.plug(inside);
  lan.setGateway(inside);

  function overLine(link: typeof inLink, packet: SimPacket, deliver: (packet: SimPacket) => void): void {
    const now = scheduler.nowMs;
    const at = lineUp ? link.arrival(now) : undefined;
    if (at === undefined) return note("lost", packet);
    scheduler.after(at - now, () => deliver(packet));
  }

  function fromLan(packet: SimPacket): void {
    if (packet.protocol === "icmp") return carryError(packet, true);
    const verdict = engineOf(packet).outbound(scheduler.nowMs, natPacket(packet));
    const passed = follow(packet, verdict, lan, inside);
    if (passed === undefined) return;
    if (verdict.action === "hairpin") lan.carry(passed, inside);
    else overLine(outLink, passed, (ready) => above.carry(ready, outside));
  }

  function fromWan(packet: SimPacket): void {
    if (packet.protocol === "icmp") return carryError(packet, false);
    const verdict = engineOf(packet).inbound(scheduler.nowMs, natPacket(packet));
    const passed = follow(packet, verdict, above, outside);
    if (passed !== undefined) lan.carry(passed, inside);
  }

  /** The packet with the endpoints of the verdict; undefined if it ends here, perhaps with an answer. */
  function follow(
    packet: Exclude<SimPacket, { protocol: "icmp" }>,
    verdict: Verdict,
    back: Segment,
    via: Plug,
  ): SimPacket | undefined {
    if (verdict.action === "drop") {
      note(`dropped, ${verdict.reason}`, packet);
      return undefined;
    }
    if (verdict.action === "reject") {
      note(`refused by ${verdict.with}, ${verdict.reason}`, packet);
      const answer = verdict.with === "rst" ? resetFor(packet) : unreachableFor(packet, "port");
      if (answer === undefined) return undefined;
      if (via === outside) overLine(outLink, answer, (ready) => back.carry(ready, via));
      else back.carry(answer, via);
      return undefined;
    }
    const { source, destination } = verdict;
    note(`${verdict.action} as ${formatEndpoint(source)} > ${formatEndpoint(destination)}`, packet);
    return { ...packet, source, destination };
  }

  /** An ICMP error belongs to the session of the packet it quotes (RFC 5508 section 4). */
  function carryError(packet: Extract<SimPacket, { protocol: "icmp" }>, outward: boolean): void {
    const now = scheduler.nowMs;
    const { protocol, source, destination } = packet.quoted;
    const engine = engineOf({ destination: source });
    const found = outward
      ? engine.externalOf(now, protocol, destination, source)
      : engine.internalOf(now, protocol, source, destination);
    if (found === undefined) return note("dropped, no session", packet);
    note("forward", packet);
    if (outward) {
      const from: Endpoint = packet.source.ip === destination.ip ? { ip: found.ip, port: 0 } : packet.source;
      const out = { ...packet, source: from, quoted: { protocol, source, destination: found } };
      overLine(outLink, out, (ready) => above.carry(ready, outside));
    } else {
      const quoted = { protocol, source: found, destination };
      lan.carry({ ...packet, destination: { ip: found.ip, port: 0 }, quoted }, inside);
    }
  }

  function engineOf({ destination }: { readonly destination: Endpoint }): NatEngine {
    return familyOf(destination.ip) === 4 ? ipv4 : ipv6;
  }

  function note(what: string, packet: SimPacket): void {
    trace.add(`${name} ${what}: ${describePacket(packet)}`);
  }

  return {
    name,
    settings,
    ipv4,
    ipv6,
    lan,
    reboot() {
      trace.add(`${name} reboots`);
      ipv4.reboot();
      ipv6.reboot();
    },
    setExternalIp(ip) {
      trace.add(`${name} has the public address ${ip} now`);
      ipv4.setExternalIp(ip);
      above.addressesChanged();
    },
    setLine(up) {
      trace.add(`${name}: its line is ${up ? "up" : "down"}`);
      lineUp = up;
    },
  };
}

function natPacket(packet: Exclude<SimPacket, { protocol: "icmp" }>): Parameters<NatEngine["inbound"]>[1] {
  const { protocol, source, destination } = packet;
  return protocol === "tcp"
    ? { protocol, source, destination, flags: packet.tcp }
    : { protocol, source, destination };
}
