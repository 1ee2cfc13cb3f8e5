import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { P2pdError } from "../../../core/errors.ts";
import type { Family } from "../../../core/ip.ts";
import type { Nic, NicKind, UdpHandlers, World } from "../../../core/net/world.ts";
import { Interface } from "../../../core/node/interface.ts";
import { isBlock, mergeRanges, rangeHolds, singleIp } from "../../../core/node/ip-range.ts";
import type { Route } from "../../../core/node/route.ts";
import { attribute, XOR_MAPPED_ADDRESS } from "../../../core/wire/stun-attributes.ts";
import { decodeStun, encodeStun } from "../../../core/wire/stun.ts";

const SERVERS = [
  { host: "198.51.100.1", port: 3478 },
  { host: "2001:db8:ffff::1", port: 3478 },
];
const LO = nic("lo", { kind: "loopback", ips: ["127.0.0.1/8", "::1/128"] });

describe("routes before any server was asked", () => {
  test("private addresses have a route without an external address", () => {
    const [route, ...others] = routes(
      [LO, nic("eth0", { ips: ["192.168.1.5/24", "192.168.1.6/24", "10.0.0.5/8"] })],
      4,
    );
    expect(others).toEqual([]);
    expect(show(route)).toBe("192.168.1.5/32 192.168.1.6/32 10.0.0.5/32 -> ");
  });

  test("a public address is external itself", () => {
    expect(routes([LO, nic("eth0", { ips: ["203.0.113.5/24"] })], 4).map(show)).toEqual([
      "203.0.113.5/32 -> 203.0.113.5/32",
    ]);
  });

  test("several public addresses of one subnet are one route, as the fewest ranges; the preferred in front", () => {
    const ips = ["203.0.113.12/28", "203.0.113.10/28", "203.0.113.11/28", "203.0.113.8/28", "203.0.113.9/28"];
    expect(routes([nic("eth0", { ips })], 4).map(show)).toEqual([
      "203.0.113.12/32 203.0.113.8/30 -> 203.0.113.12/32 203.0.113.8/30",
    ]);
    const apart = nic("eth0", { ips: ["203.0.113.5/24", "198.51.100.5/24"] });
    expect(routes([apart], 4)).toHaveLength(2);
  });

  test("a block, which is an address without host bits, counts whole", () => {
    expect(routes([nic("eth0", { ips: ["203.0.113.8/29"] })], 4).map(show)).toEqual([
      "203.0.113.8/29 -> 203.0.113.8/29",
    ]);
    expect(routes([nic("eth0", { ips: ["2001:db8:5::/64"] })], 6).map(show)).toEqual([
      "2001:db8:5::/64 -> 2001:db8:5::/64",
    ]);
  });

  test("IPv6 addresses of one subnet are one route, link-local ones are in none", () => {
    const ips = ["2001:db8::5/64", "2001:db8::99/128", "fd00::5/64", "fe80::5/64"];
    expect(routes([nic("eth0", { ips })], 6).map(show)).toEqual([
      "2001:db8::5/128 2001:db8::99/128 -> 2001:db8::5/128 2001:db8::99/128",
      "fd00::5/128 -> ",
    ]);
    expect(routes([nic("eth0", { ips: ["fe80::5/64"] })], 6)).toEqual([]);
  });

  test("lo alone is its own internet; beside another NIC it is not", () => {
    const alone = Interface.default(world([LO]));
    expect(alone.name).toBe("lo");
    expect([...alone.routes(4), ...alone.routes(6)].map(show)).toEqual([
      "127.0.0.1/32 -> 127.0.0.1/32",
      "::1/128 -> ::1/128",
    ]);
    const beside = Interface.named(world([LO, nic("eth0", { ips: ["192.168.1.5/24"] })]), "lo");
    expect(beside.routes(4).map(show)).toEqual(["127.0.0.1/32 -> "]);
  });

  test("a NIC that is down has no routes", () => {
    const down = Interface.named(world([nic("eth0", { ips: ["192.168.1.5/24"], up: false })]), "eth0");
    expect(down.routes(4)).toEqual([]);
    expect(() => down.route()).toThrow("eth0 is down and has no address");
    expect(() => Interface.default(world([down.nic]))).toThrow(
      "no NIC is up and has an address; there are: eth0",
    );
  });
});

describe("which NIC", () => {
  const wifi = nic("wlan0", { ips: ["192.168.2.5/24"], metric: { 4: 600 } });
  const cable = nic("eth0", { ips: ["192.168.1.5/24", "2001:db8::5/64"], metric: { 4: 100 } });
  const docker = nic("docker0", { kind: "container", ips: ["172.17.0.1/16"] });

  test("the lowest metric is the default, per family", () => {
    const list = Interface.list(world([LO, docker, wifi, cable]));
    expect(list.filter((one) => one.isDefault(4)).map(({ name }) => name)).toEqual(["eth0"]);
    expect(Interface.default(world([wifi, cable])).name).toBe("eth0");
    expect(Interface.default(world([wifi, cable]), 6).name).toBe("eth0");
  });

  test("without default routes hardware comes before containers and loopback", () => {
    const idle = nic("eth1", { ips: ["10.0.0.5/8"] });
    expect(Interface.default(world([LO, docker, idle])).name).toBe("eth1");
  });

  test("an unknown name gets the names there are", () => {
    expect(code(() => Interface.named(world([LO, wifi]), "eth9"))).toEqual([
      "bad-argument",
      'there is no NIC named "eth9"; there are: lo, wlan0',
    ]);
    expect(code(() => Interface.named(world([]), "x"))[1]).toContain("there are: none");
    expect(code(() => Interface.default(world([wifi]), 6))).toEqual([
      "unavailable",
      "no NIC is up and has an IPv6 address; there are: wlan0",
    ]);
    expect(code(() => Interface.named(world([wifi]), "wlan0").route(6))).toEqual([
      "no-such-route",
      "wlan0 has no usable IPv6 address",
    ]);
  });

  test("a bound route names the device only where several NICs have a default route", () => {
    const bound = Interface.named(world([wifi, cable]), "wlan0")
      .route(4)
      .bind(7000);
    expect(bound).toMatchObject({ local: { ip: "192.168.2.5", port: 7000 }, device: "wlan0" });
    expect(
      Interface.named(world([wifi, docker]), "wlan0")
        .route()
        .bind().device,
    ).toBeUndefined();
    expect(
      Interface.named(world([wifi, cable, docker]), "docker0")
        .route()
        .bind().device,
    ).toBeUndefined();
  });

  test("bind takes any address of the route and refuses others", () => {
    const route = Interface.named(world([nic("eth0", { ips: ["203.0.113.8/29"] })]), "eth0").route();
    expect(route.bind(1, "203.0.113.15").local).toEqual({ ip: "203.0.113.15", port: 1 });
    expect(code(() => route.bind(1, "203.0.113.16"))).toEqual([
      "bad-argument",
      '"203.0.113.16" is not an address of this route of eth0: 203.0.113.8/29',
    ]);
    for (const port of [-1, 65536, 1.5, Number.NaN])
      expect(code(() => route.bind(port))[0]).toBe("bad-argument");
  });

  test("a description has the shape that users of the REST API know", () => {
    expect(Interface.named(world([LO, cable]), "eth0").describe()).toEqual({
      id: "eth0",
      name: "eth0",
      mac: "02:00:00:00:00:01",
      nic_no: 1,
      netiface_index: 2,
      kind: "physical",
      mtu: 1500,
      up: true,
      addresses: cable.addresses,
      is_default: { 2: true, 10: true },
      rp: {
        2: [{ af: 2, nic_ips: [{ ip: "192.168.1.5", cidr: 32, af: 2 }], ext_ips: [] }],
        10: [
          {
            af: 10,
            nic_ips: [{ ip: "2001:db8::5", cidr: 128, af: 10 }],
            ext_ips: [{ ip: "2001:db8::5", cidr: 128, af: 10 }],
          },
        ],
      },
    });
  });
});

describe("routes that STUN servers were asked about", () => {
  test("private addresses that leave by one external address are one route", async () => {
    const eth = nic("eth0", { ips: ["192.168.1.5/24", "10.0.0.5/8", "192.168.1.6/24"], metric: { 4: 0 } });
    const outside = { "192.168.1.5": "203.0.113.1", "10.0.0.5": "203.0.113.2", "192.168.1.6": "203.0.113.1" };
    const found = await Interface.named(world([LO, eth], outside), "eth0").discover({ stunServers: SERVERS });
    expect(found.routes(4).map(show)).toEqual([
      "192.168.1.5/32 192.168.1.6/32 -> 203.0.113.1/32",
      "10.0.0.5/32 -> 203.0.113.2/32",
    ]);
  });

  test("a public address that is seen unchanged is a route to itself, one that is changed is not", async () => {
    const eth = nic("eth0", {
      ips: ["203.0.113.5/24", "203.0.113.6/24", "2001:db8::5/64"],
      metric: { 4: 0, 6: 0 },
    });
    const outside = {
      "203.0.113.5": "203.0.113.5",
      "203.0.113.6": "198.51.100.77",
      "2001:db8::5": "2001:db8::5",
    };
    const found = await Interface.named(world([eth], outside), "eth0").discover({ stunServers: SERVERS });
    expect([...found.routes(4), ...found.routes(6)].map(show)).toEqual([
      "203.0.113.5/32 -> 203.0.113.5/32",
      "203.0.113.6/32 -> 198.51.100.77/32",
      "2001:db8::5/128 -> 2001:db8::5/128",
    ]);
  });

  test("routes with an external address come before those without; silence changes nothing", async () => {
    const eth = nic("eth0", { ips: ["10.0.0.5/8", "192.168.1.5/24"], metric: { 4: 0 } });
    const found = await Interface.named(world([eth], { "192.168.1.5": "203.0.113.1" }), "eth0").discover({
      stunServers: SERVERS,
      timeoutMs: 60,
    });
    expect(found.routes(4).map(show)).toEqual(["192.168.1.5/32 -> 203.0.113.1/32", "10.0.0.5/32 -> "]);
  });

  test("a NIC that packets to the internet do not leave by is not asked about, nor lo, nor anyone without servers", async () => {
    const asked: string[] = [];
    const nics = [
      LO,
      nic("eth0", { ips: ["192.168.1.5/24"], metric: { 4: 0 } }),
      nic("docker0", { ips: ["172.17.0.1/16"] }),
    ];
    const machine = world(nics, {}, asked);
    await Interface.named(machine, "docker0").discover({ stunServers: SERVERS, timeoutMs: 60 });
    await Interface.named(machine, "lo").discover({ stunServers: SERVERS, timeoutMs: 60 });
    await Interface.named(machine, "eth0").discover({ stunServers: [], timeoutMs: 60 });
    expect(asked).toEqual([]);
  });

  test("a server that names a loopback or link-local address is not believed", async () => {
    const eth = nic("eth0", { ips: ["192.168.1.5/24", "fd00::5/64"], metric: { 4: 0, 6: 0 } });
    const outside = { "192.168.1.5": "127.0.0.1", "fd00::5": "fe80::1" };
    const found = await Interface.named(world([eth], outside), "eth0").discover({
      stunServers: SERVERS,
      timeoutMs: 60,
    });
    expect([...found.routes(4), ...found.routes(6)].map(show)).toEqual([
      "192.168.1.5/32 -> ",
      "fd00::5/128 -> ",
    ]);
  });

  test("calling it off rejects", async () => {
    const eth = nic("eth0", { ips: ["192.168.1.5/24"], metric: { 4: 0 } });
    const asking = Interface.named(world([eth]), "eth0").discover({
      stunServers: SERVERS,
      signal: AbortSignal.abort(),
    });
    expect(await asking.catch((error: P2pdError) => error.code)).toBe("aborted");
  });
});

test("merged ranges hold exactly the addresses given, each in one range", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(63), { minLength: 1, maxLength: 40 }), (hosts) => {
      const ranges = mergeRanges(hosts.map((host) => singleIp(`203.0.113.${host}`)));
      for (let host = 0; host < 64; host++) {
        const holding = ranges.filter((range) => rangeHolds(range, `203.0.113.${host}`)).length;
        expect(holding).toBe(hosts.includes(host) ? 1 : 0);
      }
      expect(rangeHolds(ranges[0] ?? singleIp("::"), `203.0.113.${hosts[0]}`)).toBe(true);
    }),
  );
  expect(mergeRanges([])).toEqual([]);
  expect(mergeRanges([singleIp("::1"), singleIp("::1")])).toEqual([singleIp("::1")]);
});

test("single addresses and the two ends of a link are no blocks", () => {
  expect(isBlock({ ip: "203.0.113.8", prefixLength: 29 })).toBe(true);
  expect(isBlock({ ip: "203.0.113.9", prefixLength: 29 })).toBe(false);
  expect(isBlock({ ip: "203.0.113.8", prefixLength: 31 })).toBe(false);
  expect(isBlock({ ip: "203.0.113.8", prefixLength: 32 })).toBe(false);
  expect(isBlock({ ip: "2001:db8::", prefixLength: 127 })).toBe(false);
});

function show(route: Route | undefined): string {
  const text = (ranges: Route["nicIps"] = []): string =>
    ranges.map(({ ip, prefixLength }) => `${ip}/${prefixLength}`).join(" ");
  return `${text(route?.nicIps)} -> ${text(route?.extIps)}`;
}

function routes(nics: readonly Nic[], family: Family): readonly Route[] {
  return Interface.named(world(nics), "eth0").routes(family);
}

function code(call: () => unknown): [string, string] {
  try {
    call();
  } catch (thrown) {
    return [(thrown as P2pdError).code, (thrown as P2pdError).message];
  }
  return ["", "it did not throw"];
}

interface NicFields {
  ips: readonly string[];
  kind?: NicKind;
  metric?: Nic["metric"];
  up?: boolean;
}

function nic(name: string, { ips, kind = "physical", metric = {}, up = true }: NicFields): Nic {
  const addresses = ips.map((text) => {
    const [ip = "", prefixLength] = text.split("/");
    return { ip, family: ip.includes(":") ? (6 as const) : (4 as const), prefixLength: Number(prefixLength) };
  });
  return { index: 2, name, kind, mac: "02:00:00:00:00:01", mtu: 1500, up, addresses, gateway: {}, metric };
}

/** A machine whose STUN servers see the NIC addresses of `outside` as told there and are silent to others. */
function world(
  nics: readonly Nic[],
  outside: Readonly<Record<string, string>> = {},
  asked: string[] = [],
): World {
  const refuse = (): never => {
    throw new Error("not in this world");
  };
  return {
    time: {
      now: () => performance.now(),
      wallMs: () => Date.now(),
      after(delayMs, fire) {
        const timer = setTimeout(fire, delayMs);
        return { cancel: () => clearTimeout(timer) };
      },
    },
    systemId: () => "a machine of a test",
    randomBytes: (count) => crypto.getRandomValues(new Uint8Array(count)),
    nics: () => nics,
    watchNics: () => () => {},
    lookup: (host) => Promise.resolve([host]),
    openUdp({ local }) {
      let handlers: UdpHandlers | undefined;
      return Promise.resolve({
        local,
        fd: -1,
        attach: (next: UdpHandlers) => void (handlers = next),
        send(bytes: Uint8Array, to: { ip: string; port: number }) {
          asked.push(local.ip);
          const request = decodeStun(bytes);
          const ip = outside[local.ip];
          if (typeof request === "string" || ip === undefined) return true;
          const { method, transactionId } = request;
          const attributes = [attribute(XOR_MAPPED_ADDRESS, { ip, port: 4000 })];
          const answer = encodeStun({ class: "success", method, transactionId, attributes });
          queueMicrotask(() => handlers?.message(answer, to));
          return true;
        },
        close() {},
      });
    },
    listenTcp: refuse,
    connectTcp: refuse,
    secure: refuse,
  };
}
