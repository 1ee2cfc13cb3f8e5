/** Detection of NATs in the simulation: all 35 configurations, UDP and TCP, and what must not mislead it. */
import { expect } from "bun:test";
import type { NatProfile } from "../../core/nat/nat-kind.ts";
import { detectNat, type NatDetection } from "../../core/stun/detect-nat.ts";
import { CONFIGURATIONS } from "../nat/configurations.ts";
import { misjudgement } from "../nat/expected-kind.ts";
import { changeSettings, type NatSettings } from "../nat/settings.ts";
import { twoHosts } from "../nat/topologies.ts";
import { simTest } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";
import { startStunServer, type StunBehaviour } from "./stun-server.ts";

const LINK = { link: { delayMs: 25 } } as const;

for (const { name, settings } of CONFIGURATIONS) {
  simTest(
    `${name}: recognised, UDP and TCP, within a second`,
    [1, 2, 3, 4],
    async (sim) => {
      const { profile, elapsedMs } = await detect(sim, ["honest", "honest", "honest"]);
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

function expectRight(sim: Simulation, profile: NatProfile | undefined): void {
  const { ipv4, settings } = sim.router("a");
  expect(misjudgement(profile, settings, ipv4.table(sim.scheduler.nowMs)).wrong).toEqual([]);
}

/** From host alice, asking a server of each behaviour. */
async function detect(sim: Simulation, behaviours: readonly StunBehaviour[]): Promise<NatDetection> {
  const servers = [];
  for (const [i, behaviour] of behaviours.entries()) {
    const host = sim.addServer(`stun ${i}`, { addresses: 2 });
    const addresses =
      host.world
        .nics()[1]
        ?.addresses.filter(({ family }) => family === 4)
        .map(({ ip }) => ip) ?? [];
    const { endpoint } = await startStunServer(host.world, { addresses, behaviour });
    servers.push({ host: endpoint.ip, port: endpoint.port });
  }
  const alice = sim.host("alice");
  return await detectNat(alice.world, { localIp: alice.ip(), servers });
}

function behind(settings: NatSettings) {
  const nat = { kind: "box", settings } as const;
  return { topology: twoHosts(nat, nat) };
}
