/** The 35 configurations in the simulation: a probe that knows nothing of them sees what was configured. */
import { expect } from "bun:test";
import { CONFIGURATIONS, parseConfiguration } from "../nat/configurations.ts";
import { BEHAVIOURS, changeSettings, type NatSettings } from "../nat/settings.ts";
import { twoHosts } from "../nat/topologies.ts";
import { type Observed, probe, type Protocol } from "./probe.ts";
import { simTest, type SimTestOptions } from "./sim-test.ts";
import type { Simulation } from "./simulation.ts";

for (const { name, settings } of CONFIGURATIONS) {
  simTest(
    `${name}: mapping, filtering and allocation are as configured, UDP and TCP`,
    [1],
    (sim) => seesWhatIs(sim, settings),
    behind(settings),
  );
}

for (const name of ["independent:-1", "independent:7", "dependent:-3", "dependent:2"]) {
  const { settings } = parseConfiguration(`symmetric/${name}@40000-50000`);
  simTest(`a step of ${name} is seen`, [1], (sim) => seesWhatIs(sim, settings), behind(settings));
}

for (const mapping of BEHAVIOURS) {
  for (const filtering of BEHAVIOURS) {
    const { settings } = parseConfiguration("full-cone/random");
    const mixed = changeSettings(settings, {
      udp: { mapping, filtering },
      tcp: { mapping: filtering, filtering: mapping },
    });
    simTest(
      `${mapping} mapping with ${filtering} filtering for UDP, the other way round for TCP`,
      [1],
      (sim) => seesWhatIs(sim, mixed),
      behind(mixed),
    );
  }
}

async function seesWhatIs(sim: Simulation, settings: NatSettings): Promise<void> {
  const outside = sim.addServer("server", { addresses: 2 });
  const site = {
    inside: sim.host("alice"),
    outside,
    ports: settings.ports,
    sleep: (delayMs: number) => sim.sleep(delayMs),
  };
  for (const protocol of ["udp", "tcp"] as const) {
    expect({ protocol, ...(await probe(site, protocol)) }).toEqual({
      protocol,
      ...expected(settings, protocol),
    });
  }
}

/** What a probe must see of a router with these settings. */
function expected(settings: NatSettings, protocol: Protocol): Observed {
  const { mapping, filtering, delta, blocked } = settings[protocol];
  if (blocked) return { mapping: "blocked", filtering: "blocked", delta: "blocked" };
  if (settings.mode === "open") return { delta: "untranslated", mapping: "none", filtering: "open" };
  if (settings.mode === "firewall") return { delta: "untranslated", mapping: "none", filtering };
  return { delta: "step" in delta ? `${delta.kind} ${delta.step}` : delta.kind, mapping, filtering };
}

function behind(settings: NatSettings): SimTestOptions {
  const nat = { kind: "box", settings } as const;
  return { topology: twoHosts(nat, nat) };
}
