/**
 * The parts of the laboratory that are not of our making, and what they are for: the kernel's NAT, port mapping
 * by real clients against miniupnpd, TCP simultaneous open through two NATs, servers that stop or lie.
 */
import { INTERNET } from "../../nat/topologies.ts";
import { connectTcp, listenTcp, openUdp } from "../bare-sockets.ts";
import type { Lab } from "../laboratory.ts";
import { expectSame, expectThat, settingsWith, siteOf } from "./check.ts";
import type { Check } from "./check.ts";
import { freshPort, probe } from "./probe.ts";

const ARRIVES_MS = 2000;
const SILENCE_MS = 40;

const kernel: Check = {
  name: "the kernel's NAT keeps ports by masquerade, not by random and fully-random, and filters by endpoint",
  async run(lab) {
    for (const [host, keeps] of [
      ["kate", true],
      ["ken", false],
      ["kim", false],
    ] as const) {
      for (const protocol of ["udp", "tcp"] as const) {
        const { mapping, filtering, delta } = probe(siteOf(lab, host, ""), protocol);
        expectSame(`${host} ${protocol} keeps ports`, delta === "equal", keeps);
        expectSame(`${host} ${protocol} filtering`, filtering, "address-and-port-dependent");
        if (keeps) expectSame(`${host} ${protocol} mapping`, mapping, "endpoint-independent");
      }
    }
    return undefined;
  },
};

const portMapping: Check = {
  name: "a port mapped by upnpc and one by natpmpc each admit a connection from outside, until they are deleted; an IPv6 pin hole likewise",
  async run(lab) {
    const [router, kate] = [lab.router("kernel"), lab.host("kate")];
    await using _daemon = await router.startPortMapping();
    const [byUpnp, byPmp] = [
      { inside: freshPort(), outside: freshPort() },
      { inside: freshPort(), outside: freshPort() },
    ];
    const run = async (...words: string[]): Promise<void> => {
      const { code, stdout, stderr } = await kate.run(words);
      expectThat(code === 0, `${words.join(" ")}: ${stdout}${stderr}`);
    };
    expectSame("before", admitted(lab, byUpnp), false);
    await run(
      "upnpc",
      "-m",
      "eth0",
      "-a",
      kate.ip4,
      String(byUpnp.inside),
      String(byUpnp.outside),
      "tcp",
      "60",
    );
    expectSame("mapped by upnpc", admitted(lab, byUpnp), true);
    await run("natpmpc", "-g", router.lanIp4, "-a", String(byPmp.outside), String(byPmp.inside), "tcp", "60");
    expectSame("mapped by natpmpc", admitted(lab, byPmp), true);
    await run("upnpc", "-m", "eth0", "-d", String(byUpnp.outside), "tcp");
    await run("natpmpc", "-g", router.lanIp4, "-a", String(byPmp.outside), String(byPmp.inside), "tcp", "0");
    expectSame("after deletion", [admitted(lab, byUpnp), admitted(lab, byPmp)], [false, false]);
    expectSame("IPv6 before", admitted6(lab, byUpnp.inside), false);
    await run("upnpc", "-6", "-m", "eth0", "-A", "", "0", kate.ip6, String(byUpnp.inside), "6", "60");
    expectSame("IPv6 after a pin hole by upnpc", admitted6(lab, byUpnp.inside), true);
    return undefined;
  },
};

/** Whether a connection from outside to kate's own IPv6 address arrives. */
function admitted6(lab: Lab, port: number): boolean {
  const kate = lab.host("kate");
  using _listener = listenTcp(kate.namespace, { ip: kate.ip6, port });
  const from = { ip: INTERNET.serverIp6(21), port: freshPort() };
  using outer = connectTcp(lab.internet, from, { ip: kate.ip6, port });
  return outer.connected(SILENCE_MS * 2) === 0;
}

/** Whether a connection from outside to the kernel router's port arrives at kate's. */
function admitted(lab: Lab, ports: { inside: number; outside: number }): boolean {
  const kate = lab.host("kate");
  using listener = listenTcp(kate.namespace, { ip: kate.ip4, port: ports.inside });
  const target = { ip: lab.router("kernel").publicIp4, port: ports.outside };
  using outer = connectTcp(lab.internet, { ip: INTERNET.serverIp4(21), port: freshPort() }, target);
  if (outer.connected(SILENCE_MS * 2) !== 0) return false;
  using inner = listener.accept(ARRIVES_MS);
  outer.write("hello");
  return inner?.read(ARRIVES_MS) === "hello";
}

const simultaneousOpen: Check = {
  name: "TCP simultaneous open by bare sockets passes two port-restricted NATs, and carries data both ways",
  async run(lab, fault) {
    await lab.router("a").set(settingsWith({ link: { delayMs: 10 } }), fault);
    await lab.router("b").set(settingsWith({ link: { delayMs: 10 } }));
    const [alice, bob] = [lab.host("alice"), lab.host("bob")];
    const [fromA, fromB] = [
      { ip: alice.ip4, port: freshPort() },
      { ip: bob.ip4, port: freshPort() },
    ];
    using a = connectTcp(alice.namespace, fromA, { ip: lab.router("b").publicIp4, port: fromB.port });
    expectSame("one side alone", a.connected(SILENCE_MS), undefined);
    using b = connectTcp(bob.namespace, fromB, { ip: lab.router("a").publicIp4, port: fromA.port });
    expectSame("both sides", [b.connected(ARRIVES_MS), a.connected(ARRIVES_MS)], [0, 0]);
    a.write("ping");
    expectSame("from alice", b.read(ARRIVES_MS), "ping");
    b.write("pong");
    expectSame("from bob", a.read(ARRIVES_MS), "pong");
    return undefined;
  },
};

const servers: Check = {
  name: "coturn, mosquitto, NTP and echo answer; a frozen server is silent and answers again when thawed",
  async run(lab) {
    const alice = lab.host("alice");
    await lab.router("a").set(settingsWith({ both: { filtering: "endpoint-independent" } }));
    const [coturn, broker, ntp, echo] = await Promise.all([
      lab.servers.coturn(),
      lab.servers.mosquitto(),
      lab.servers.ntp(2500),
      lab.servers.echo(),
    ]);
    using udp = openUdp(alice.namespace, { ip: alice.ip4, port: freshPort() });
    const silent = (): void => {
      while (udp.receive(SILENCE_MS) !== undefined) continue;
    };
    udp.send(echo.endpoint, "hello");
    expectSame("echo", udp.receive(ARRIVES_MS)?.text, "hello");
    echo.freeze();
    udp.send(echo.endpoint, "anyone?");
    expectSame("frozen echo", udp.receive(SILENCE_MS), undefined);
    echo.thaw();
    expectSame("thawed echo", udp.receive(ARRIVES_MS)?.text, "anyone?");

    for (const [change, from] of [
      [0, coturn.endpoint],
      [2, { ip: coturn.endpoint.ip, port: 3479 }],
      [6, coturn.alternate],
    ] as const) {
      udp.sendBytes(coturn.endpoint, stunRequest(change));
      expectSame(`coturn asked to change ${change}`, udp.receive(ARRIVES_MS)?.from, from);
      silent();
    }

    const clock = (): number => {
      const request = new Uint8Array(48);
      request[0] = 0x23;
      udp.sendBytes(ntp.endpoint, request);
      const bytes = udp.receive(ARRIVES_MS)?.bytes;
      const seconds =
        bytes === undefined
          ? 0
          : Buffer.from(bytes).readUInt32BE(40) + Buffer.from(bytes).readUInt32BE(44) / 2 ** 32;
      return (seconds - 2_208_988_800) * 1000 - (performance.timeOrigin + performance.now());
    };
    const offset = clock();
    expectThat(
      Math.abs(offset - 2500) < 50,
      `the NTP server was to be wrong by 2500 ms, it is by ${offset.toFixed(0)}`,
    );
    await ntp.setError(-700);
    await Bun.sleep(50);
    const changed = clock();
    expectThat(
      Math.abs(changed + 700) < 50,
      `the NTP server was to be wrong by -700 ms, it is by ${changed.toFixed(0)}`,
    );

    const topic = ["-h", broker.endpoint.ip, "-t", "lab"];
    const published = await alice.run(["mosquitto_pub", ...topic, "-r", "-m", "retained"]);
    const received = await alice.run(["mosquitto_sub", ...topic, "-C", "1", "-W", "3"]);
    expectSame("through the broker", [published.code, received.stdout.trim()], [0, "retained"]);
    await Promise.all([coturn, broker, ntp, echo].map((server) => server.kill()));
    udp.send(echo.endpoint, "gone?");
    expectSame("killed echo", udp.receive(SILENCE_MS), undefined);
    return undefined;
  },
};

const lies: Check = {
  name: "the STUN server tells the truth or each of its lies, as it is told",
  async run(lab) {
    const alice = lab.host("alice");
    await lab.router("a").set(settingsWith({ both: { filtering: "endpoint-independent" } }));
    await using stun = await lab.servers.stun();
    const { endpoint, alternate } = stun;
    using udp = openUdp(alice.namespace, { ip: alice.ip4, port: freshPort() });
    const ask = (change: number) => {
      udp.sendBytes(endpoint, stunRequest(change));
      const reply = udp.receive(ARRIVES_MS);
      // The first attribute is XOR-MAPPED-ADDRESS; xor its port with the cookie.
      const port = reply === undefined ? 0 : Buffer.from(reply.bytes).readUInt16BE(26) ^ 0x2112;
      return { from: reply?.from, truthful: port === udp.local.port };
    };
    const otherAddress = { ip: alternate.ip, port: endpoint.port };
    expectSame("honest, plain", ask(0), { from: endpoint, truthful: true });
    expectSame("honest, change of both", ask(6), { from: alternate, truthful: true });
    const told = async (lie: "ignores-change-request" | "wrong-source" | "wrong-address"): Promise<void> => {
      await stun.setLie(lie);
      await Bun.sleep(50);
    };
    await told("ignores-change-request");
    expectSame("asked to change both", ask(6), { from: endpoint, truthful: true });
    await told("wrong-source");
    expectSame("asked nothing", ask(0), { from: otherAddress, truthful: true });
    await told("wrong-address");
    expectSame("reported", ask(0), { from: endpoint, truthful: false });
    return undefined;
  },
};

export const NETWORK_CHECKS: readonly Check[] = [kernel, portMapping, simultaneousOpen, servers, lies];

/** A STUN binding request, with CHANGE-REQUEST where flags are given. */
function stunRequest(change: number): Uint8Array {
  const request = Buffer.alloc(change === 0 ? 20 : 28);
  request.writeUInt16BE(1, 0);
  request.writeUInt16BE(request.length - 20, 2);
  request.writeUInt32BE(0x2112a442, 4);
  request.write("laboratory..", 8, 12, "latin1");
  if (change !== 0) {
    request.writeUInt16BE(3, 20);
    request.writeUInt16BE(4, 22);
    request.writeUInt32BE(change, 24);
  }
  return request;
}
