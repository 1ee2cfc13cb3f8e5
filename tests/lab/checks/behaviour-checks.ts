/**
 * What a NAT box does besides mapping, filtering and allocation: hairpinning, timeouts, answers to unsolicited
 * SYNs, IPv6, fragments, reboots, a change of address, forwarded ports, two hosts that want the same port.
 */
import { INTERNET } from "../../nat/topologies.ts";
import { BEHAVIOURS } from "../../nat/settings.ts";
import { connectTcp, ECONNREFUSED, listenTcp, openRaw, openUdp } from "../bare-sockets.ts";
import type { Lab } from "../laboratory.ts";
import { ICMP } from "../packet.ts";
import { expectSame, expectThat, settingsWith, siteOf } from "./check.ts";
import type { Check } from "./check.ts";
import { freshPort, mappingsOf, probe, settle } from "./probe.ts";

const ARRIVES_MS = 2000;
const SILENCE_MS = 40;
const JUST_NOW_MS = 5;

export const hairpinning: Check = {
  name: "hairpinning joins two hosts of one LAN by their external endpoints, or does not, UDP and TCP",
  async run(lab, fault) {
    for (const on of [true, false]) {
      const change = {
        hairpinning: on,
        both: { filtering: "endpoint-independent", delta: { kind: "random" } },
      } as const;
      await lab.router("a").set(settingsWith(change), fault);
      const [alice, anna, server] = [
        lab.host("alice"),
        lab.host("anna"),
        { ip: INTERNET.serverIp4(20), port: freshPort() },
      ];
      using outer = openUdp(lab.internet, server);
      using udp = openUdp(alice.namespace, { ip: alice.ip4, port: freshPort() });
      using other = openUdp(anna.namespace, { ip: anna.ip4, port: freshPort() });
      udp.send(server, "probe");
      other.send(server, "probe");
      const [mapped, annas] = [outer.receive(ARRIVES_MS)?.from, outer.receive(ARRIVES_MS)?.from];
      expectThat(mapped !== undefined && annas !== undefined, "nothing came out of the NAT");
      if (mapped === undefined || annas === undefined) return undefined;
      other.send(mapped, "hairpin");
      const heard = udp.receive(on ? ARRIVES_MS : SILENCE_MS);
      expectSame(`UDP with hairpinning ${on}`, heard?.from, on ? annas : undefined);

      using listener = listenTcp(lab.internet, { ...server, port: freshPort() });
      const local = { ip: alice.ip4, port: freshPort() };
      using first = connectTcp(alice.namespace, local, listener.local);
      expectSame("TCP out", first.connected(ARRIVES_MS), 0);
      using accepted = listener.accept(ARRIVES_MS);
      using inner = listenTcp(alice.namespace, local);
      const target = accepted?.remote ?? local;
      using hairpin = connectTcp(anna.namespace, { ip: anna.ip4, port: freshPort() }, target);
      expectSame(
        `TCP with hairpinning ${on}`,
        hairpin.connected(on ? ARRIVES_MS : SILENCE_MS),
        on ? 0 : undefined,
      );
      if (on) {
        using met = inner.accept(ARRIVES_MS);
        expectSame("the source of a hairpinned connection", met?.remote.ip, lab.router("a").publicIp4);
      }
    }
    return undefined;
  },
};

export const timeouts: Check = {
  name: "UDP, half-open and established TCP state lives as long as its timeout and no longer",
  async run(lab, fault) {
    const lifeMs = 700;
    const life = { udpMs: lifeMs, tcpTransitoryMs: lifeMs, tcpEstablishedMs: lifeMs };
    const both = { filtering: "endpoint-independent", delta: { kind: "equal" } } as const;
    await lab.router("a").set(settingsWith({ both, timeouts: life, inboundRefresh: false }), fault);
    const alice = lab.host("alice");
    const at = (index: number) => ({ ip: INTERNET.serverIp4(index), port: freshPort() });
    using outer = openUdp(lab.internet, at(20));
    using listener = listenTcp(lab.internet, at(20));
    const nowhere = { ip: "5.44.3.3", port: 9 };
    const began = performance.now();
    /** One of each kind of state, to be tried once. */
    const begin = () => {
      const [udpPort, half, whole] = [freshPort(), freshPort(), freshPort()];
      const udp = openUdp(alice.namespace, { ip: alice.ip4, port: udpPort });
      udp.send(outer.local, "probe");
      const mapped = outer.receive(ARRIVES_MS)?.from ?? nowhere;
      const silent = connectTcp(alice.namespace, { ip: alice.ip4, port: half }, nowhere);
      const waiting = listenTcp(alice.namespace, { ip: alice.ip4, port: half });
      const inner = connectTcp(alice.namespace, { ip: alice.ip4, port: whole }, listener.local);
      inner.connected(ARRIVES_MS);
      const accepted = listener.accept(ARRIVES_MS);
      return {
        try(waitMs: number) {
          outer.send(mapped, "still there?");
          accepted?.write("still there?");
          const late = connectTcp(lab.internet, at(21), { ip: lab.router("a").publicIp4, port: half });
          const alive = {
            udp: udp.receive(waitMs) !== undefined,
            halfOpen: late.connected(waitMs) === 0,
            established: inner.read(waitMs) !== undefined,
          };
          for (const socket of [udp, silent, waiting, inner, accepted, late]) socket?.close();
          return alive;
        },
      };
    };
    const [young, old] = [begin(), begin()];
    await Bun.sleep(300 - (performance.now() - began));
    expectSame("after 300 of 700 ms", young.try(ARRIVES_MS), {
      udp: true,
      halfOpen: true,
      established: true,
    });
    await Bun.sleep(900 - (performance.now() - began));
    expectSame("after 900 of 700 ms", old.try(SILENCE_MS), {
      udp: false,
      halfOpen: false,
      established: false,
    });
    return undefined;
  },
};

/** What a connect from outside that the filter does not admit hears. */
function unsolicited(lab: Lab): string {
  const alice = lab.host("alice");
  using listener = listenTcp(lab.internet, { ip: INTERNET.serverIp4(20), port: freshPort() });
  using inner = connectTcp(alice.namespace, { ip: alice.ip4, port: freshPort() }, listener.local);
  inner.connected(ARRIVES_MS);
  using accepted = listener.accept(ARRIVES_MS);
  if (accepted === undefined) return "nothing goes out";
  using raw = openRaw(lab.internet, ICMP);
  using stranger = connectTcp(
    lab.internet,
    { ip: INTERNET.serverIp4(21), port: freshPort() },
    accepted.remote,
  );
  if (!settle(inner, accepted)) return "the connection broke";
  const outcome = stranger.connected(JUST_NOW_MS);
  if (outcome === undefined) return "drop";
  if (outcome !== ECONNREFUSED) return `error ${outcome}`;
  const packet = raw.receive(JUST_NOW_MS);
  if (packet === undefined) return "rst";
  return packet[20] === 3 && packet[21] === 3 ? "icmp" : `ICMP type ${packet[20]} code ${packet[21]}`;
}

export const unsolicitedSyn: Check = {
  name: "an unsolicited SYN is dropped, answered by RST, or by ICMP",
  async run(lab, fault) {
    for (const unsolicitedSyn of ["drop", "rst", "icmp"] as const) {
      await lab.router("a").set(settingsWith({ unsolicitedSyn }), fault);
      expectSame(`set to ${unsolicitedSyn}`, unsolicited(lab), unsolicitedSyn);
    }
    return undefined;
  },
};

export const ipv6Firewall: Check = {
  name: "IPv6 goes untranslated through a firewall that filters as it is told, or through none",
  async run(lab, fault) {
    for (const filtering of [...BEHAVIOURS, "open"] as const) {
      const firewall =
        filtering === "open" ? ({ mode: "open" } as const) : ({ mode: "firewall", filtering } as const);
      await lab.router("a").set(settingsWith({ ipv6: firewall }), fault);
      for (const protocol of ["udp", "tcp"] as const) {
        const saw = probe(siteOf(lab, "alice", "a", 6), protocol);
        expectSame(`${filtering} ${protocol}`, saw, { delta: "untranslated", mapping: "none", filtering });
      }
    }
    return undefined;
  },
};

const sharing: Check = {
  name: "two hosts with one local port get two external ports, and each its own answers",
  async run(lab, fault) {
    await lab.router("a").set(settingsWith({}), fault);
    const port = freshPort();
    using outer = openUdp(lab.internet, { ip: INTERNET.serverIp4(20), port: freshPort() });
    const sockets = ["alice", "anna"].map((name) => {
      const { namespace, ip4 } = lab.host(name);
      const socket = openUdp(namespace, { ip: ip4, port });
      socket.send(outer.local, name);
      const seen = outer.receive(ARRIVES_MS);
      if (seen !== undefined) outer.send(seen.from, `hello ${seen.text}`);
      return { name, socket, mapped: seen?.from.port };
    });
    expectThat(sockets[0]?.mapped !== sockets[1]?.mapped, "both hosts have the same external port");
    for (const { name, socket } of sockets) {
      expectSame(name, socket.receive(ARRIVES_MS)?.text, `hello ${name}`);
      socket.close();
    }
    return undefined;
  },
};

const fragments: Check = {
  name: "a datagram larger than a packet crosses in fragments, both ways",
  async run(lab, fault) {
    await lab.router("a").set(settingsWith({ both: { delta: { kind: "random" } } }), fault);
    const alice = lab.host("alice");
    using outer = openUdp(lab.internet, { ip: INTERNET.serverIp4(20), port: freshPort() });
    using inner = openUdp(alice.namespace, { ip: alice.ip4, port: freshPort() });
    inner.send(outer.local, "q".repeat(5000));
    const asked = outer.receive(ARRIVES_MS);
    expectSame("octets out", asked?.text.length, 5000);
    expectSame("source", asked?.from.ip, lab.router("a").publicIp4);
    if (asked !== undefined) outer.send(asked.from, "a".repeat(7000));
    expectSame("octets in", inner.receive(ARRIVES_MS)?.text.length, 7000);
    return undefined;
  },
};

export const changes: Check = {
  name: "reboot, change of address, forwarded port and live table act while the box runs",
  async run(lab, fault) {
    const router = lab.router("a");
    await router.set(settingsWith({ both: { delta: { kind: "random" } } }), fault);
    const alice = lab.host("alice");
    using outer = openUdp(lab.internet, { ip: INTERNET.serverIp4(20), port: freshPort() });
    using inner = openUdp(alice.namespace, { ip: alice.ip4, port: freshPort() });
    const send = () => {
      inner.send(outer.local, "probe");
      return outer.receive(ARRIVES_MS)?.from ?? { ip: "none", port: 0 };
    };
    const reaches = (to: { ip: string; port: number }): boolean => {
      outer.send(to, "back");
      return inner.receive(SILENCE_MS) !== undefined;
    };
    const first = send();
    const shown = (await router.state()).ipv4.find(({ internal }) => internal.port === inner.local.port);
    expectSame("the table's external endpoint", shown?.external, first);
    expectThat(reaches(first), "a fresh mapping is not reached");
    await router.reboot();
    expectThat(!reaches(first), "a mapping outlived a reboot");
    expectThat(send().port !== first.port, "a mapping got its old port after a reboot");
    const [before, after] = [router.publicIp4, router.nextPublicIp4];
    await router.setAddress(after);
    const moved = send();
    await router.setAddress(before);
    expectSame("address after the change", moved.ip, after);
    expectThat(!reaches(moved), "a mapping outlived its address");
    await router.forward("udp", 7777, inner.local, 60_000);
    expectThat(reaches({ ip: before, port: 7777 }), "a forwarded port is not reached");
    return undefined;
  },
};

const carrier: Check = {
  name: "behind a carrier NAT both NATs show: the address of the carrier's, the strictest of their rules",
  async run(lab) {
    await lab
      .router("carrier")
      .set(settingsWith({ both: { mapping: "address-and-port-dependent", delta: { kind: "random" } } }));
    await lab.router("home").set(settingsWith({ both: { filtering: "endpoint-independent" } }));
    const site = { ...siteOf(lab, "carol", "carrier") };
    for (const protocol of ["udp", "tcp"] as const) {
      expectSame(protocol, probe(site, protocol), {
        delta: "random",
        mapping: "address-and-port-dependent",
        filtering: "address-and-port-dependent",
      });
      const [seen] = mappingsOf(site, protocol, [freshPort()]) ?? [];
      expectSame("the address seen outside", seen?.ip, lab.router("carrier").publicIp4);
    }
    const ipv6 = probe(siteOf(lab, "carol", "carrier", 6), "udp");
    expectSame("IPv6", ipv6, {
      delta: "untranslated",
      mapping: "none",
      filtering: "address-and-port-dependent",
    });
    expectSame("the home router's outer address", lab.router("home").publicIp4.startsWith("100.64."), true);
    return undefined;
  },
};

const twoNics: Check = {
  name: "a host with two NICs leaves by the router of the NIC that its socket is bound to, by the first otherwise",
  async run(lab) {
    const dave = lab.host("dave");
    for (const name of ["a", "b"]) await lab.router(name).set(settingsWith({}));
    using outer = openUdp(lab.internet, { ip: INTERNET.serverIp4(20), port: freshPort() });
    const leavesBy = (ip: string, device: string): string | undefined => {
      using inner = openUdp(dave.namespace, { ip, port: freshPort() }, device);
      inner.send(outer.local, "probe");
      return outer.receive(ARRIVES_MS)?.from.ip;
    };
    const [first, second] = dave.nics;
    expectSame("bound to eth0", leavesBy(first?.ip4 ?? "", "eth0"), lab.router("a").publicIp4);
    expectSame("bound to eth1", leavesBy(second?.ip4 ?? "", "eth1"), lab.router("b").publicIp4);
    expectSame("bound to neither", leavesBy("0.0.0.0", ""), lab.router("a").publicIp4);
    return undefined;
  },
};

export const BEHAVIOUR_CHECKS: readonly Check[] = [
  hairpinning,
  timeouts,
  unsolicitedSyn,
  ipv6Firewall,
  sharing,
  fragments,
  changes,
  carrier,
  twoNics,
];
