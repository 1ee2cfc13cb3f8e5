import { describe, expect, test } from "bun:test";
import type { Endpoint } from "../../core/ip.ts";
import { CONFIGURATIONS, parseConfiguration } from "./configurations.ts";
import { createNatEngine } from "./engine.ts";
import type { NatEngine, Verdict } from "./engine.ts";
import type { TcpFlags } from "./session.ts";
import { changeSettings, DEFAULT_SETTINGS } from "./settings.ts";
import type { Behaviour, Delta, NatSettingsChange } from "./settings.ts";

const PUBLIC = "5.44.10.10";
const HOST = "192.168.10.100";
const SERVERS = [at("5.44.1.10", 3478), at("5.44.1.10", 3479), at("5.44.1.11", 3478)] as const;
const SYN: TcpFlags = { syn: true, ack: false, fin: false, rst: false };
const SYN_ACK: TcpFlags = { syn: true, ack: true, fin: false, rst: false };
const ACK: TcpFlags = { syn: false, ack: true, fin: false, rst: false };
const FIN: TcpFlags = { syn: false, ack: true, fin: true, rst: false };
const RST: TcpFlags = { syn: false, ack: false, fin: false, rst: true };

describe.each(["udp", "tcp"] as const)("for %s", (protocol) => {
  test.each<[Behaviour, number]>([
    ["endpoint-independent", 1],
    ["address-dependent", 2],
    ["address-and-port-dependent", 3],
  ])("%s mapping makes %d mappings of one port for three servers", (mapping, different) => {
    const engine = build({ both: { mapping } });
    const ports = SERVERS.map((server) => out(engine, protocol, 5000, server));
    expect(new Set(ports).size).toBe(different);
    expect(SERVERS.map((server) => out(engine, protocol, 5000, server))).toEqual(ports);
  });

  test.each<[Behaviour, ...boolean[]]>([
    ["endpoint-independent", true, true, true],
    ["address-dependent", true, true, false],
    ["address-and-port-dependent", true, false, false],
  ])("%s filtering admits same endpoint %p, other port %p, other address %p", (filtering, ...admitted) => {
    const seen = SERVERS.map((server) => {
      const engine = build({ both: { filtering } });
      const port = out(engine, protocol, 5000, SERVERS[0]);
      return into(engine, protocol, server, port).action === "forward";
    });
    expect(seen).toEqual(admitted);
  });
});

describe("the port of a new mapping", () => {
  const series = (delta: Delta, locals: readonly number[], change: NatSettingsChange = {}): number[] => {
    const engine = build({ ...change, both: { delta } });
    return locals.map((local) => out(engine, "udp", local, SERVERS[0]));
  };

  test("equal: is the local port, and another where that is taken or out of range", () => {
    expect(series({ kind: "equal" }, [4000, 4002, 9999])).toEqual([4000, 4002, 9999]);
    const [first, second] = series({ kind: "equal" }, [4000, 5500], { ports: [5000, 6000] });
    expect(first).toBeGreaterThanOrEqual(5000);
    expect(second).toBe(5500);
  });

  test("preserving: keeps the distances of local ports", () => {
    const ports = series({ kind: "preserving" }, [4000, 4001, 4010, 3990], { ports: [1024, 65535] });
    const distances = ports.map((port) => (port - (ports[0] as number) + 64512) % 64512);
    expect(distances).toEqual([0, 1, 10, 64502]);
    expect(ports[0]).not.toBe(4000);
  });

  test.each([1, 3, -2])("independent: is the last mapped plus %d, whatever the local port", (step) => {
    const ports = series({ kind: "independent", step }, [4000, 9000, 4001], { ports: [100, 60000] });
    expect(ports.slice(1).map((port, i) => port - (ports[i] as number))).toEqual([step, step]);
  });

  test("independent: wraps at the end of the range and fills all of it", () => {
    const locals = Array.from({ length: 11 }, (_, i) => 4000 + i);
    const ports = series({ kind: "independent", step: 2 }, locals, { ports: [100, 110] });
    expect(ports.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 11 }, (_, i) => 100 + i));
  });

  test.each([1, -3])(
    "dependent: is the last mapped plus %d only when the local port advances by one",
    (step) => {
      const ports = series({ kind: "dependent", step }, [4000, 4001, 4003, 4004], {
        ports: [1024, 65535],
      }) as [number, number, number, number];
      expect(ports[1] - ports[0]).toBe(step);
      expect(ports[2] - ports[1]).not.toBe(step);
      expect(ports[3] - ports[2]).toBe(step);
    },
  );

  test("random: stays in its range, shows no pattern, repeats from its seed", () => {
    const locals = Array.from({ length: 500 }, (_, i) => 4000 + i);
    const ports = series({ kind: "random" }, locals, { ports: [40000, 40999] });
    expect(new Set(ports).size).toBe(500);
    expect(Math.min(...ports)).toBeLessThan(40050);
    expect(Math.max(...ports)).toBeGreaterThan(40949);
    expect(ports.filter((port, i) => port - (ports[i - 1] ?? 0) === 1).length).toBeLessThan(10);
    expect(series({ kind: "random" }, locals, { ports: [40000, 40999] })).toEqual(ports);
    expect(series({ kind: "random" }, locals, { ports: [40000, 40999], seed: 2 })).not.toEqual(ports);
  });

  test("a range that is used up refuses the next mapping and frees its ports when they expire", () => {
    const engine = build({ ports: [100, 103], timeouts: { udpMs: 1000 } });
    for (let i = 0; i < 4; i++) out(engine, "udp", 4000 + i, SERVERS[0]);
    const late = { protocol: "udp", source: at(HOST, 5000), destination: SERVERS[0] } as const;
    expect(engine.outbound(0, late)).toEqual({ action: "drop", reason: "table-full" });
    expect(engine.outbound(1001, late).action).toBe("forward");
  });

  test("background mappings advance an independent counter as often as they were asked to", () => {
    const engine = build({
      both: { delta: { kind: "independent", step: 1 } },
      ports: [1, 65535],
      backgroundPerSecond: 100,
    });
    const first = out(engine, "udp", 4000, SERVERS[0]);
    const later = out(engine, "udp", 4001, SERVERS[0], 10_000);
    const passed = (later - first + 65535) % 65535;
    expect(passed).toBeGreaterThan(850);
    expect(passed).toBeLessThan(1150);
  });
});

describe("time", () => {
  test("a UDP mapping dies its timeout after the last packet out, and gets a new port", () => {
    const engine = build({ both: { delta: { kind: "random" } }, timeouts: { udpMs: 1000 } });
    const port = out(engine, "udp", 4000, SERVERS[0]);
    expect(out(engine, "udp", 4000, SERVERS[0], 999)).toBe(port);
    expect(into(engine, "udp", SERVERS[0], port, 1998).action).toBe("forward");
    expect(into(engine, "udp", SERVERS[0], port, 2998)).toEqual({ action: "drop", reason: "no-mapping" });
    expect(out(engine, "udp", 4000, SERVERS[0], 3000)).not.toBe(port);
  });

  test("packets from outside keep a mapping alive only where inboundRefresh says so", () => {
    const engine = build({ timeouts: { udpMs: 1000 }, inboundRefresh: false });
    const port = out(engine, "udp", 4000, SERVERS[0]);
    expect(into(engine, "udp", SERVERS[0], port, 900).action).toBe("forward");
    expect(into(engine, "udp", SERVERS[0], port, 1100).action).toBe("drop");
  });

  test("a TCP session lives by its state: transitory, established, closing", () => {
    const timeouts = { tcpTransitoryMs: 100, tcpEstablishedMs: 10_000, tcpClosingMs: 50 };
    const engine = build({ timeouts });
    const port = out(engine, "tcp", 4000, SERVERS[0]);
    expect(into(engine, "tcp", SERVERS[0], port, 101, SYN_ACK).action).toBe("drop");
    out(engine, "tcp", 4000, SERVERS[0], 200);
    expect(into(engine, "tcp", SERVERS[0], port, 250, SYN_ACK).action).toBe("forward");
    expect(into(engine, "tcp", SERVERS[0], port, 9000, ACK).action).toBe("forward");
    expect(send(engine, "tcp", 4000, SERVERS[0], 9000, FIN).action).toBe("forward");
    expect(into(engine, "tcp", SERVERS[0], port, 9001, FIN).action).toBe("forward");
    expect(into(engine, "tcp", SERVERS[0], port, 9052, ACK).action).toBe("drop");
  });

  test("a SYN after a reset opens the session again on the same port", () => {
    const engine = build({ both: { delta: { kind: "random" } }, timeouts: { tcpClosingMs: 1000 } });
    const port = out(engine, "tcp", 4000, SERVERS[0]);
    expect(into(engine, "tcp", SERVERS[0], port, 1, RST).action).toBe("forward");
    expect(out(engine, "tcp", 4000, SERVERS[0], 500)).toBe(port);
    expect(into(engine, "tcp", SERVERS[0], port, 1600, SYN).action).toBe("forward");
  });
});

describe("TCP from outside", () => {
  test.each([
    ["drop", { action: "drop", reason: "filtered" }],
    ["rst", { action: "reject", with: "rst", reason: "filtered" }],
    ["icmp", { action: "reject", with: "icmp", reason: "filtered" }],
  ] as const)("an unsolicited SYN meets %s, other segments silence", (unsolicitedSyn, verdict) => {
    const engine = build({ unsolicitedSyn });
    const port = out(engine, "tcp", 4000, SERVERS[0]);
    expect(into(engine, "tcp", SERVERS[2], port, 0, SYN)).toEqual(verdict);
    expect(into(engine, "tcp", SERVERS[2], port, 0, ACK).action).toBe("drop");
    expect(into(engine, "tcp", SERVERS[2], 9, 0, RST).action).toBe("drop");
  });

  test("a SYN meets the SYN that went out: simultaneous open passes", () => {
    const engine = build({});
    const port = out(engine, "tcp", 4000, SERVERS[0]);
    expect(into(engine, "tcp", SERVERS[0], port, 1, SYN).action).toBe("forward");
  });

  test("a segment that begins nothing makes no mapping", () => {
    expect(send(build({}), "tcp", 4000, SERVERS[0], 0, ACK)).toEqual({ action: "drop", reason: "no-state" });
  });
});

describe("a router as a whole", () => {
  test("hairpins with the external endpoint as source, and only when told to", () => {
    const engine = build({
      hairpinning: true,
      both: { filtering: "endpoint-independent", delta: { kind: "random" } },
    });
    const target = out(engine, "udp", 4000, SERVERS[0]);
    const verdict = send(engine, "udp", 5000, at(PUBLIC, target));
    const own = out(engine, "udp", 5000, SERVERS[0]);
    expect(verdict).toEqual({ action: "hairpin", source: at(PUBLIC, own), destination: at(HOST, 4000) });
    expect(send(build({}), "udp", 5000, at(PUBLIC, 4000))).toEqual({
      action: "drop",
      reason: "no-hairpinning",
    });
  });

  test("a firewall translates nothing and filters", () => {
    const engine = build({ mode: "firewall" });
    expect(out(engine, "udp", 4000, SERVERS[0])).toBe(4000);
    const inside = { protocol: "udp", destination: at(HOST, 4000) } as const;
    expect(engine.inbound(0, { ...inside, source: SERVERS[0] }).action).toBe("forward");
    expect(engine.inbound(0, { ...inside, source: SERVERS[1] }).action).toBe("drop");
  });

  test("an open router passes everything, a blocked protocol nothing", () => {
    const open = build({ mode: "open" });
    expect(open.inbound(0, { protocol: "udp", source: SERVERS[0], destination: at(HOST, 1) }).action).toBe(
      "forward",
    );
    const blocked = build({ udp: { blocked: true } });
    expect(send(blocked, "udp", 4000, SERVERS[0])).toEqual({ action: "drop", reason: "blocked" });
    expect(send(blocked, "tcp", 4000, SERVERS[0], 0, SYN).action).toBe("forward");
  });

  test("a reboot and a new address forget every mapping", () => {
    const engine = build({ both: { delta: { kind: "preserving" } } });
    const port = out(engine, "udp", 4000, SERVERS[0]);
    engine.reboot();
    expect(engine.table(0)).toEqual([]);
    expect(out(engine, "udp", 4000, SERVERS[0])).not.toBe(port);
    engine.setExternalIp("5.44.11.10");
    const verdict = send(engine, "udp", 4000, SERVERS[0]);
    expect(verdict.action === "forward" && verdict.source.ip).toBe("5.44.11.10");
  });

  test("a forwarded port admits anyone until its lease ends", () => {
    const engine = build({});
    expect(engine.forwardPort(0, "tcp", 8080, at(HOST, 80), 1000)).toBe(true);
    expect(engine.forwardPort(0, "tcp", 8080, at("192.168.10.101", 80), 1000)).toBe(false);
    expect(into(engine, "tcp", SERVERS[2], 8080, 999, SYN).action).toBe("forward");
    expect(into(engine, "tcp", SERVERS[1], 8080, 1001, SYN).action).toBe("drop");
    expect(engine.unforwardPort(1001, "tcp", 8080)).toBe(false);
  });

  test("errors find the session they are about, and no other", () => {
    const engine = build({ both: { delta: { kind: "random" } } });
    const external = at(PUBLIC, out(engine, "udp", 4000, SERVERS[0]));
    expect(engine.internalOf(1, "udp", external, SERVERS[0])).toEqual(at(HOST, 4000));
    expect(engine.internalOf(1, "udp", external, SERVERS[1])).toBeUndefined();
    expect(engine.externalOf(1, "udp", at(HOST, 4000), SERVERS[0])).toEqual(external);
    expect(engine.externalOf(1, "udp", at(HOST, 4001), SERVERS[0])).toBeUndefined();
  });

  test("an answer to who was let in leaves by the mapping it came to, whatever mapping depends on", () => {
    const engine = build({
      both: { mapping: "address-dependent", filtering: "endpoint-independent", delta: { kind: "random" } },
    });
    const port = out(engine, "tcp", 4000, SERVERS[0]);
    expect(into(engine, "tcp", SERVERS[2], port, 0, SYN).action).toBe("forward");
    const verdict = send(engine, "tcp", 4000, SERVERS[2], 0, SYN_ACK);
    expect(verdict.action === "forward" && verdict.source).toEqual(at(PUBLIC, port));
  });

  test("a flood of mappings and sessions stays within its bounds", () => {
    const engine = build({ maxMappings: 100, both: { filtering: "endpoint-independent" } });
    for (let i = 0; i < 1000; i++) send(engine, "udp", 2000 + i, SERVERS[0]);
    expect(engine.table(0).length).toBe(100);
    for (let i = 0; i < 5000; i++) into(engine, "udp", at("5.44.1.99", 1 + i), 2000);
    expect(engine.table(0)[0]?.sessions.length).toBe(2048);
    expect(into(engine, "udp", SERVERS[0], 2000).action).toBe("forward");
  });
});

describe("names", () => {
  test("there are 35 configurations with names of their own that parse to themselves", () => {
    expect(new Set(CONFIGURATIONS.map(({ name }) => name)).size).toBe(35);
    for (const { name, settings } of CONFIGURATIONS)
      expect(parseConfiguration(name).settings).toEqual(settings);
  });

  test("a name may carry a step and a range", () => {
    const { settings } = parseConfiguration("symmetric/independent:-2@40000-50000");
    expect(settings.udp.delta).toEqual({ kind: "independent", step: -2 });
    expect(settings.ports).toEqual([40000, 50000]);
  });

  test.each([
    ["symetric/random", 'did you mean "symmetric"?'],
    ["symmetric/rnd", 'no delta "rnd"'],
    ["symmetric/random:2", "the delta random has no step"],
    ["symmetric/independent:0", "a whole number other than 0"],
    ["symmetric/independent:x", '"x" is no step'],
    ["full-cone/equal@9-1", "ports[1]"],
    ["full-cone/equal@a", "LOW-HIGH"],
    ["", "expected TYPE/DELTA"],
  ])("%p is refused and told why", (name, why) => {
    expect(() => parseConfiguration(name)).toThrow(why);
  });
});

function at(ip: string, port: number): Endpoint {
  return { ip, port };
}

function build(change: NatSettingsChange): NatEngine {
  return createNatEngine(changeSettings(DEFAULT_SETTINGS, change), PUBLIC);
}

function send(
  engine: NatEngine,
  protocol: "udp" | "tcp",
  port: number,
  to: Endpoint,
  now = 0,
  flags = SYN,
): Verdict {
  return engine.outbound(now, { protocol, source: at(HOST, port), destination: to, flags });
}

/** Sends from the inside host and returns the external port. */
function out(engine: NatEngine, protocol: "udp" | "tcp", port: number, to: Endpoint, now = 0): number {
  const verdict = send(engine, protocol, port, to, now);
  if (verdict.action !== "forward") throw new Error(`${protocol} ${port}: ${verdict.action}`);
  return verdict.source.port;
}

function into(
  engine: NatEngine,
  protocol: "udp" | "tcp",
  from: Endpoint,
  port: number,
  now = 0,
  flags = SYN,
): Verdict {
  return engine.inbound(now, { protocol, source: from, destination: at(PUBLIC, port), flags });
}
