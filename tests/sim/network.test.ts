/** Hosts, LANs, routers, clocks and names of the simulation. */
import { expect } from "bun:test";
import type { Endpoint } from "../../core/ip.ts";
import type { UdpSocket } from "../../core/net/world.ts";
import { parseConfiguration } from "../nat/configurations.ts";
import { changeSettings, type NatSettingsChange } from "../nat/settings.ts";
import {
  carrierNat,
  oneRouter,
  parseRouterKind,
  type RouterKind,
  twoHosts,
  twoNics,
} from "../nat/topologies.ts";
import { SIM_EPOCH_MS } from "./clock.ts";
import { codeOf } from "./code-of.ts";
import type { SimHost } from "./host.ts";
import { simTest } from "./sim-test.ts";

const cone = router("full-cone/random");

simTest(
  "hosts of one LAN reach each other directly, and by their outside addresses where the router hairpins",
  [1, 2],
  async (sim) => {
    const server = await listenUdp(sim.addServer("server"), 9000);
    const [alice, bob] = [await listenUdp(sim.host("alice"), 4000), await listenUdp(sim.host("bob"), 4000)];
    alice.socket.send(text("direct"), bob.socket.local);
    bob.socket.send(text("seen"), server.socket.local);
    await sim.sleep(100);
    expect(bob.heard).toEqual(["direct"]);
    const outside = server.senders[0] as Endpoint;
    expect(outside.ip).toBe(sim.router("a").ipv4.externalIp);
    alice.socket.send(text("round"), outside);
    await sim.sleep(100);
    expect(bob.heard).toEqual(["direct", "round"]);
    expect(bob.senders[1]?.ip).toBe(outside.ip);
  },
  { topology: oneRouter(router("full-cone/random", { hairpinning: true })) },
);

simTest(
  "a router that does not hairpin drops what goes to its own address",
  [1],
  async (sim) => {
    const alice = await listenUdp(sim.host("alice"), 4000);
    alice.socket.send(text("round"), { ip: sim.router("a").ipv4.externalIp, port: 4000 });
    await sim.sleep(100);
    expect(sim.router("a").ipv4.counts.get("no-hairpinning")).toBe(1);
    expect(alice.heard).toEqual([]);
  },
  { topology: oneRouter(cone) },
);

simTest(
  "an IPv6 firewall lets answers in and nobody else; addresses are not translated",
  [1],
  async (sim) => {
    const [alice, bob] = [
      await listenUdp(sim.host("alice"), 4000, 6),
      await listenUdp(sim.host("bob"), 4000, 6),
    ];
    alice.socket.send(text("uninvited"), bob.socket.local);
    await sim.sleep(100);
    expect(bob.heard).toEqual([]);
    bob.socket.send(text("hello"), alice.socket.local);
    await sim.sleep(100);
    alice.socket.send(text("answer"), bob.socket.local);
    await sim.sleep(100);
    expect([alice.heard, bob.heard]).toEqual([["hello"], ["answer"]]);
    expect(alice.senders).toEqual([bob.socket.local]);
  },
  { topology: carrierNat(cone, cone, cone) },
);

simTest(
  "a datagram to a closed port comes back as an ICMP error, through two NATs",
  [1],
  async (sim) => {
    const server = sim.addServer("server");
    const alice = await listenUdp(sim.host("alice"), 4000);
    alice.socket.send(text("anybody?"), { ip: server.ip(), port: 9 });
    await sim.sleep(100);
    expect(alice.errors).toEqual(["refused"]);
    alice.socket.send(text("v6"), { ip: server.ip(6), port: 9 });
    await sim.sleep(1);
    expect(alice.errors).toEqual(["refused", "unreachable"]);
  },
  { topology: carrierNat(cone, cone, cone) },
);

simTest(
  "a UDP port is bound once; closed sockets hear nothing and their port is free",
  [1],
  async (sim) => {
    const { world, ...host } = sim.host("alice");
    const local = { ip: sim.host("alice").ip(), port: 4000 };
    const any = { ip: "0.0.0.0", port: 4000 };
    const first = await listenUdp({ world, ...host }, 4000);
    expect(await codeOf(world.openUdp({ local: any }))).toBe("address-in-use");
    expect(await codeOf(world.openUdp({ local: { ip: "::", port: 4000 } }))).toBe("ok");
    expect(await codeOf(world.openUdp({ local: { ip: "8.8.8.8", port: 1 } }))).toBe("unreachable");
    const second = await listenUdp(sim.host("bob"), 0);
    second.socket.send(text("late"), local);
    first.socket.close();
    first.socket.close();
    expect(first.socket.send(text("x"), local)).toBe(true);
    await sim.sleep(100);
    expect(first.heard).toEqual([]);
    const wild = await world.openUdp({ local: any });
    wild.send(text("own"), { ip: "127.0.0.1", port: 4000 });
    const senders: Endpoint[] = [];
    wild.attach({ message: (_, from) => void senders.push(from) });
    await sim.sleep(1);
    expect(senders).toEqual([{ ip: "127.0.0.1", port: 4000 }]);
  },
  { topology: oneRouter(cone) },
);

simTest(
  "a host with two NICs leaves by the first, or by the device it names",
  [1],
  async (sim) => {
    const server = await listenUdp(sim.addServer("server"), 9000);
    const { world } = sim.host("alice");
    const [, first, second] = world.nics();
    expect([first?.metric[4], second?.metric[4]]).toEqual([100, 200]);
    const local = { ip: "0.0.0.0", port: 0 };
    (await world.openUdp({ local })).send(text("first"), server.socket.local);
    (await world.openUdp({ local, device: "eth1" })).send(text("second"), server.socket.local);
    await sim.sleep(100);
    const outside = ["a", "a2"].map((name) => sim.router(name).ipv4.externalIp);
    expect(server.senders.map(({ ip }) => ip)).toEqual(outside);
    expect(await codeOf(world.openUdp({ local, device: "eth7" }))).toBe("unreachable");
  },
  { topology: twoNics(cone, cone, cone) },
);

simTest(
  "a NIC that goes down or gets another address is noticed, and what was sent there is lost",
  [1],
  async (sim) => {
    const alice = sim.host("alice");
    const server = await listenUdp(sim.addServer("server"), 9000);
    const old = await listenUdp(alice, 4000);
    let changes = 0;
    const stop = alice.world.watchNics(() => void changes++);
    alice.changeNic("eth0", { up: false });
    expect(changes).toBe(0);
    await sim.sleep(100);
    expect([changes, alice.world.nics()[1]?.up]).toEqual([1, false]);
    old.socket.send(text("no way"), server.socket.local);
    await sim.sleep(100);
    expect(old.errors).toEqual(["unreachable"]);
    const address = { ip: "192.168.10.77", family: 4, prefixLength: 24 } as const;
    alice.changeNic("eth0", { up: true, addresses: [address] });
    await sim.sleep(100);
    expect(changes).toBe(2);
    const fresh = await listenUdp(alice, 4000);
    expect(fresh.socket.local.ip).toBe(address.ip);
    fresh.socket.send(text("here"), server.socket.local);
    old.socket.send(text("from the old address"), server.socket.local);
    await sim.sleep(100);
    server.socket.send(text("back"), server.senders[0] as Endpoint);
    server.socket.send(text("lost"), server.senders[1] as Endpoint);
    await sim.sleep(100);
    expect([fresh.heard, old.heard]).toEqual([["back"], []]);
    stop();
    alice.changeNic("eth0", { segment: sim.router("b").lan });
    await sim.sleep(100);
    expect(changes).toBe(2);
  },
  { topology: twoHosts(cone, cone) },
);

simTest(
  "a router that reboots or gets another address forgets its mappings; a cut line loses everything",
  [1],
  async (sim) => {
    const server = await listenUdp(sim.addServer("server"), 9000);
    const alice = await listenUdp(sim.host("alice"), 4000);
    const say = async (): Promise<Endpoint | undefined> => {
      alice.socket.send(text("now"), server.socket.local);
      await sim.sleep(100);
      return server.senders.pop();
    };
    const router = sim.router("a");
    const first = (await say()) as Endpoint;
    router.reboot();
    server.socket.send(text("too late"), first);
    await sim.sleep(100);
    expect(alice.heard).toEqual([]);
    expect(await say()).not.toEqual(first);
    router.setExternalIp("5.44.11.10");
    const moved = (await say()) as Endpoint;
    expect(moved.ip).toBe("5.44.11.10");
    server.socket.send(text("found"), moved);
    await sim.sleep(100);
    expect(alice.heard).toEqual(["found"]);
    router.setLine(false);
    expect(await say()).toBeUndefined();
    router.setLine(true);
    expect((await say())?.ip).toBe("5.44.11.10");
    const forwarded = router.ipv4.forwardPort(sim.scheduler.nowMs, "udp", 7777, alice.socket.local, 60_000);
    server.socket.send(text("forwarded"), { ip: router.ipv4.externalIp, port: 7777 });
    await sim.sleep(100);
    expect([forwarded, alice.heard.at(-1)]).toEqual([true, "forwarded"]);
  },
  { topology: twoHosts(router("port-restricted/random"), cone) },
);

simTest(
  "a program on the router is asked by its address or by multicast, and nobody outside hears of it",
  [1],
  async (sim) => {
    const gateway = sim.gateway("a");
    expect(sim.gateway("a")).toBe(gateway);
    const service = await gateway.world.openUdp({ local: { ip: "0.0.0.0", port: 1900 } });
    service.attach({
      message(bytes, from) {
        const mapped = sim.router("a").ipv4.forwardPort(sim.scheduler.nowMs, "udp", 5000, from, 60_000);
        service.send(text(`${new TextDecoder().decode(bytes)} ${mapped}`), from);
      },
    });
    const [alice, bob] = [await listenUdp(sim.host("alice"), 5000), await listenUdp(sim.host("bob"), 1900)];
    alice.socket.send(text("forward"), {
      ip: sim.host("alice").world.nics()[1]?.gateway[4] ?? "",
      port: 1900,
    });
    alice.socket.send(text("search"), { ip: "239.255.255.250", port: 1900 });
    await sim.sleep(100);
    expect(alice.heard).toEqual(["forward true", "search true"]);
    expect(alice.senders[1]?.ip).toBe(gateway.ip());
    expect(bob.heard).toEqual([]);
    const server = await listenUdp(sim.addServer("server"), 9000);
    server.socket.send(text("in"), { ip: sim.router("a").ipv4.externalIp, port: 5000 });
    await sim.sleep(100);
    expect(alice.heard.at(-1)).toBe("in");
  },
  { topology: oneRouter(router("port-restricted/random")) },
);

simTest(
  "clocks are ahead and drift as they are told, and timers go by them",
  [1],
  async (sim) => {
    const [right, fast] = [sim.host("alice").world.time, sim.host("bob").world.time];
    expect([right.now(), right.wallMs()]).toEqual([0, SIM_EPOCH_MS]);
    expect(fast.wallMs() - right.wallMs()).toBe(2500);
    let firedAt = 0;
    fast.after(10_000, () => (firedAt = right.now()));
    let cancelled = true;
    fast.after(1, () => (cancelled = false)).cancel();
    await sim.sleep(100_000);
    expect(firedAt).toBeCloseTo(10_000 / 1.001, 2);
    expect(cancelled).toBe(true);
    expect(right.now()).toBe(100_000);
    expect(fast.now()).toBeCloseTo(5000 + 100_100, 6);
    expect(fast.wallMs() - right.wallMs()).toBeCloseTo(2600, 6);
  },
  { topology: twoHosts(cone, cone), clocks: { bob: { offsetMs: 2500, driftPpm: 1000, startMs: 5000 } } },
);

simTest(
  "names are answered, unknown, or silent",
  [1],
  async (sim) => {
    const { world } = sim.host("alice");
    sim.names.set("stun.example.org", ["5.44.1.10", "2a01:5a40:0:1::1:a"], 30);
    sim.names.set("silent.example.org", "silent");
    expect(await world.lookup("STUN.example.org")).toEqual(["5.44.1.10", "2a01:5a40:0:1::1:a"]);
    expect(sim.scheduler.nowMs).toBe(30);
    expect(await world.lookup("stun.example.org", 6)).toEqual(["2a01:5a40:0:1::1:a"]);
    expect(await world.lookup("[::1]")).toEqual(["::1"]);
    expect(await codeOf(world.lookup("5.44.1.10", 6))).toBe("unreachable");
    expect(await codeOf(world.lookup("nowhere.example.org"))).toBe("unreachable");
    const began = sim.scheduler.nowMs;
    expect(await codeOf(world.lookup("silent.example.org"))).toBe("unreachable");
    expect(sim.scheduler.nowMs - began).toBe(30_000);
  },
  { topology: oneRouter(cone) },
);

simTest(
  "delay is exact, and without jitter packets keep their order; with it they overtake",
  [3],
  async (sim) => {
    const [alice, bob] = [await listenUdp(sim.host("alice"), 1), await listenUdp(sim.host("bob"), 1)];
    const server = await listenUdp(sim.addServer("server"), 9000);
    const numbers = Array.from({ length: 50 }, (_, i) => String(i));
    for (const number of numbers) alice.socket.send(text(number), server.socket.local);
    await sim.sleep(25.099);
    expect(server.heard).toEqual([]);
    await sim.sleep(0.001);
    expect(server.heard).toEqual(numbers);
    server.heard.length = 0;
    for (const number of numbers) bob.socket.send(text(number), server.socket.local);
    await sim.sleep(100);
    expect(server.heard).not.toEqual(numbers);
    expect(server.heard.toSorted()).toEqual(numbers.toSorted());
  },
  {
    topology: twoHosts(
      router("open-internet", { link: { delayMs: 25 } }),
      router("open-internet", { link: { delayMs: 25, jitterMs: 20 } }),
    ),
  },
);

function router(name: string, change: NatSettingsChange = {}): RouterKind {
  const kind = parseRouterKind(name);
  if (kind.kind === "kernel") return kind;
  return { kind: "box", settings: changeSettings(parseConfiguration(name).settings, change) };
}

interface Ear {
  readonly socket: UdpSocket;
  readonly heard: string[];
  readonly senders: Endpoint[];
  readonly errors: string[];
}

async function listenUdp(host: Pick<SimHost, "world" | "ip">, port: number, family: 4 | 6 = 4): Promise<Ear> {
  const socket = await host.world.openUdp({ local: { ip: host.ip(family), port } });
  const ear: Ear = { socket, heard: [], senders: [], errors: [] };
  socket.attach({
    message(bytes, from) {
      ear.heard.push(new TextDecoder().decode(bytes));
      ear.senders.push(from);
    },
    error: ({ code }) => void ear.errors.push(code),
  });
  return ear;
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}
