/** Detection of NATs in the simulation: all 35 configurations, UDP and TCP, and what must not mislead it. */
import { expect } from "bun:test";
import type { Family } from "../../core/ip.ts";
import type { NatProfile } from "../../core/nat/nat-kind.ts";
import { detectNat, type NatDetection } from "../../core/stun/detect-nat.ts";
import { CONFIGURATIONS, parseConfiguration } from "../nat/configurations.ts";
import { misjudgement } from "../nat/expected-kind.ts";
import { BEHAVIOURS, changeSettings, type NatSettings } from "../nat/settings.ts";
import { carrierNat, parseRouterKind, twoHosts } from "../nat/topologies.ts";
import { codeOf } from "./code-of.ts";
import type { SimHost } from "./host.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";
import { startStunServer, type StunBehaviour } from "./stun-server.ts";

const HONEST: readonly StunBehaviour[] = ["honest", "honest", "honest"];
const LINK = { link: { delayMs: 25 } } as const;

for (const { name, settings } of CONFIGURATIONS) {
  simTest(
    `${name}: recognised, UDP and TCP, within a second`,
    [1, 2, 3, 4],
    async (sim) => {
      const { profile, elapsedMs } = await detect(sim, HONEST);
      expectRight(sim, profile);
      expect(elapsedMs).toBeLessThan(1000);
    },
    behind(changeSettings(settings, LINK)),
  );
}

const BAD: readonly StunBehaviour[] = ["dead", "ignores-change", "lies"];

for (const { name, settings } of CONFIGURATIONS) {
  simTest(
    `${name}: recognised with 2 % loss, one server dead, one ignoring CHANGE-REQUEST, one lying`,
    [1, 2, 3, 4],
    async (sim) => {
      const { profile } = await detect(sim, BAD);
      expectRight(sim, profile);
    },
    behind(changeSettings(settings, { link: { delayMs: 25, loss: 0.02 } })),
  );
}

for (const mapping of BEHAVIOURS) {
  for (const filtering of BEHAVIOURS) {
    const { settings } = parseConfiguration("full-cone/random");
    const mixed = changeSettings(settings, { ...LINK, both: { mapping, filtering } });
    simTest(
      `${mapping} mapping with ${filtering} filtering`,
      [1, 2],
      async (sim) => expectRight(sim, (await detect(sim, HONEST)).profile),
      behind(mixed),
    );
  }
}

for (const name of ["equal", "preserving", "independent:-3", "dependent:5", "random"]) {
  for (const range of ["@40000-50000", "@1024-9000", "@60000-60511"]) {
    const { settings } = parseConfiguration(`symmetric/${name}${range}`);
    simTest(
      `${name}${range}: rule, value and range`,
      [1, 2, 3, 4, 5],
      async (sim) => expectRight(sim, (await detect(sim, HONEST)).profile),
      behind(changeSettings(settings, LINK)),
    );
  }
}

for (const bad of ["wrong-source", "lies", "claims-change", "ignores-change", "dead"] as const) {
  for (const name of [
    "restricted/equal",
    "port-restricted/random",
    "symmetric/dependent",
    "symmetric-firewall",
  ]) {
    const { settings } = parseConfiguration(name);
    simTest(
      `${name} is not taken for anything else though one of two servers is bad (${bad})`,
      [1, 2],
      async (sim) => expectRight(sim, (await detect(sim, [bad, "honest"])).profile),
      behind(changeSettings(settings, LINK)),
    );
  }
}

simTest(
  "a server whose second address is another's first opens no filter that is tested",
  [1, 2, 3],
  async (sim) => {
    const [one, two] = [sim.addServer("one", { addresses: 2 }), sim.addServer("two", { addresses: 2 })];
    const [a, b] = addressesOf(one);
    await startStunServer(one.world, { addresses: [a, b] });
    await startStunServer(two.world, { addresses: addressesOf(two) });
    const servers = [a, b, two.ip()].map((host) => ({ host, port: 3478 }));
    const alice = sim.host("alice");
    expectRight(sim, (await detectNat(alice.world, { localIp: alice.ip(), servers })).profile);
  },
  behind(changeSettings(parseConfiguration("restricted/random").settings, LINK)),
);

simTest(
  "two addresses configured as two servers tell the mapping without RFC 5780",
  [1],
  async (sim) => {
    const { profile } = await detect(sim, HONEST, 1);
    expect(profile?.udp).toMatchObject({
      type: "symmetric",
      mapping: "address-and-port-dependent",
      filtering: "unknown",
      delta: { type: "independent", value: 1 },
    });
  },
  behind(changeSettings(parseConfiguration("symmetric/independent").settings, LINK)),
);

simTest(
  "twenty new mappings a second by other hosts hide no counter",
  [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
  async (sim) => expectRight(sim, (await detect(sim, HONEST)).profile),
  behind(
    changeSettings(parseConfiguration("symmetric/independent").settings, {
      ...LINK,
      backgroundPerSecond: 20,
    }),
  ),
);

for (const hairpinning of [true, false]) {
  simTest(
    `hairpinning ${String(hairpinning)} is seen`,
    [1, 2],
    async (sim) => {
      const { profile } = await detect(sim, HONEST);
      expect(profile?.udp.hairpinning).toBe(hairpinning);
    },
    behind(changeSettings(parseConfiguration("port-restricted/random").settings, { ...LINK, hairpinning })),
  );
}

for (const mode of ["open", "firewall"] as const) {
  simTest(
    `IPv6 has a kind of its own: ${mode}`,
    [1],
    async (sim) => {
      const { profile } = await detect(sim, HONEST, 2, 6);
      const type = mode === "open" ? "open-internet" : "symmetric-firewall";
      expect([profile?.udp.type, profile?.tcp.type]).toEqual([type, type]);
      expect(profile?.external).toBe(sim.host("alice").ip(6));
    },
    behind(
      changeSettings(parseConfiguration("symmetric/random").settings, {
        ...LINK,
        ipv6: { mode, filtering: "address-and-port-dependent" },
      }),
    ),
  );
}

simTest(
  "UDP and TCP are told apart where a router treats them differently",
  [1, 2],
  async (sim) => {
    const { profile } = await detect(sim, HONEST);
    expect(profile?.udp).toMatchObject({ type: "full-cone", delta: { type: "equal", value: 0 } });
    expect(profile?.tcp).toMatchObject({ type: "symmetric", delta: { type: "independent", value: -2 } });
    expect(profile?.tcp).toMatchObject({ filtering: "unknown" });
  },
  behind(
    changeSettings(parseConfiguration("full-cone/equal").settings, {
      ...LINK,
      tcp: { mapping: "address-and-port-dependent", delta: { kind: "independent", step: -2 } },
    }),
  ),
);

simTest(
  "behind a carrier's NAT and a home router the stricter of both is seen",
  [1, 2],
  async (sim) => {
    const { profile } = await detect(sim, HONEST);
    expect(profile?.udp).toMatchObject({ type: "symmetric", delta: { type: "random" } });
    expect(profile?.external).toBe(sim.router("carrier").ipv4.externalIp);
  },
  {
    topology: carrierNat(
      parseRouterKind("symmetric/random"),
      parseRouterKind("full-cone/equal"),
      parseRouterKind("port-restricted"),
    ),
  },
);

simTest(
  "where no server answers nothing is claimed, and it ends with its time",
  [1],
  async (sim) => {
    const { profile, elapsedMs, servers } = await detect(sim, ["dead", "dead"]);
    expect(profile).toBeUndefined();
    expect(servers).toEqual({ asked: 2, answered: 0 });
    expect(elapsedMs).toBeLessThanOrEqual(3001);
  },
  behind(parseConfiguration("full-cone/equal").settings),
);

simTest(
  "it can be called off, and leaves no port open",
  [1],
  async (sim) => {
    const alice = sim.host("alice");
    const off = new AbortController();
    const server = { host: sim.addServer("silent").ip(), port: 3478 };
    const running = detectNat(alice.world, { localIp: alice.ip(), servers: [server], signal: off.signal });
    sim.scheduler.after(30, () => off.abort());
    expect(await codeOf(running)).toBe("aborted");
    expect(
      await codeOf(detectNat(alice.world, { localIp: alice.ip(), servers: [server], signal: off.signal })),
    ).toBe("aborted");
    expect(sim.scheduler.nowMs).toBeLessThan(100);
  },
  behind(parseConfiguration("full-cone/equal").settings),
);

for (const [name, udp, tcp] of [
  ["port-restricted/equal", 66, 42],
  ["symmetric/random", 96, 72],
  ["open-internet", 18, 12],
] as const) {
  simTest(
    `${name}: ${udp} datagrams and ${tcp} connections are made with three servers`,
    [1, 2, 3],
    async (sim) => {
      await detect(sim, HONEST);
      const sent = sim.trace.lines.filter((line) => line.includes("alice sends"));
      const count = (pattern: RegExp): number => sent.filter((line) => pattern.test(line)).length;
      expect([count(/ udp /), count(/\[S\]/)]).toEqual([udp, tcp]);
    },
    behind(changeSettings(parseConfiguration(name).settings, LINK)),
  );
}

function expectRight(sim: Simulation, profile: NatProfile | undefined): void {
  const { ipv4, settings } = sim.router("a");
  expect(misjudgement(profile, settings, ipv4.table(sim.scheduler.nowMs)).wrong).toEqual([]);
}

/** From host alice, asking a server of each behaviour. */
async function detect(
  sim: Simulation,
  behaviours: readonly StunBehaviour[],
  addressCount = 2,
  family: Family = 4,
): Promise<NatDetection> {
  const servers = [];
  for (const [i, behaviour] of behaviours.entries()) {
    const host = sim.addServer(`stun ${i}`, { addresses: addressCount });
    const addresses = addressesOf(host, family);
    const { endpoint } = await startStunServer(host.world, { addresses, behaviour });
    servers.push({ host: endpoint.ip, port: endpoint.port });
  }
  const alice = sim.host("alice");
  return await detectNat(alice.world, { localIp: alice.ip(family), servers });
}

function addressesOf(host: SimHost, family: Family = 4): readonly [string, string] {
  const all = host.world.nics()[1]?.addresses.filter((one) => one.family === family) ?? [];
  return all.map(({ ip }) => ip) as unknown as [string, string];
}

function behind(settings: NatSettings) {
  const nat = { kind: "box", settings } as const;
  return { topology: twoHosts(nat, nat) };
}
