/**
 * The 35 configurations, each for UDP and TCP: an independent probe must see what was configured. Besides,
 * what names alone do not say: other steps, ranges, the mixed behaviours of RFC 4787.
 */
import { CONFIGURATIONS, parseConfiguration } from "../../nat/configurations.ts";
import { BEHAVIOURS } from "../../nat/settings.ts";
import type { NatSettings } from "../../nat/settings.ts";
import { expectSame, expectThat, settingsWith, siteOf } from "./check.ts";
import type { Check } from "./check.ts";
import { freshPort, mappingsOf, probe, probeDelta, probeFiltering, probeMapping } from "./probe.ts";
import type { Observed, Protocol } from "./probe.ts";

const PROTOCOLS: readonly Protocol[] = ["udp", "tcp"];

/** What a probe must see of a router with these settings. */
function expected(settings: NatSettings, protocol: Protocol): Observed {
  const { mapping, filtering, delta, blocked } = settings[protocol];
  if (blocked) return { mapping: "blocked", filtering: "blocked", delta: "blocked" };
  if (settings.mode === "open") return { delta: "untranslated", mapping: "none", filtering: "open" };
  if (settings.mode === "firewall") return { delta: "untranslated", mapping: "none", filtering };
  return { delta: "step" in delta ? `${delta.kind} ${delta.step}` : delta.kind, mapping, filtering };
}

const configurations: Check[] = CONFIGURATIONS.map(({ name, settings }) => ({
  name: `${name}: mapping, filtering and allocation are as configured, UDP and TCP`,
  async run(lab, fault) {
    await lab.router("a").set(settings, fault);
    for (const protocol of PROTOCOLS) {
      expectSame(protocol, probe(siteOf(lab), protocol), expected(settings, protocol));
    }
    return undefined;
  },
}));

const mixed: Check = {
  name: "all nine pairs of mapping and filtering, UDP and TCP set differently",
  async run(lab, fault) {
    for (const [i, mapping] of BEHAVIOURS.entries()) {
      for (const [j, filtering] of BEHAVIOURS.entries()) {
        const tcp = {
          mapping: BEHAVIOURS[(i + 1) % 3] as typeof mapping,
          filtering: BEHAVIOURS[(j + 2) % 3] as typeof filtering,
        };
        const settings = settingsWith({
          both: { delta: { kind: "random" } },
          udp: { mapping, filtering },
          tcp,
        });
        await lab.router("a").set(settings, fault);
        for (const protocol of PROTOCOLS) {
          const site = siteOf(lab);
          const saw = { mapping: probeMapping(site, protocol), filtering: probeFiltering(site, protocol) };
          expectSame(protocol, saw, protocol === "udp" ? { mapping, filtering } : tcp);
        }
      }
    }
    return undefined;
  },
};

export const steps: Check = {
  name: "steps other than one, also backwards, for UDP and TCP",
  async run(lab, fault) {
    for (const kind of ["independent", "dependent"] as const) {
      for (const step of [-1, 2, -7]) {
        await lab.router("a").set(parseConfiguration(`symmetric/${kind}:${step}`).settings, fault);
        for (const protocol of PROTOCOLS)
          expectSame(protocol, probeDelta(siteOf(lab), protocol), `${kind} ${step}`);
      }
    }
    return undefined;
  },
};

export const range: Check = {
  name: "external ports come from the range, all of it, and wrap at its end",
  async run(lab, fault) {
    const ports = Array.from({ length: 40 }, (_, i) => 41_000 + i);
    for (const delta of ["equal", "preserving", "independent:3", "dependent", "random"]) {
      await lab.router("a").set(parseConfiguration(`port-restricted/${delta}@41000-41039`).settings, fault);
      const locals = ports.map(() => freshPort(2));
      for (const protocol of PROTOCOLS) {
        const seen = (mappingsOf(siteOf(lab), protocol, locals) ?? []).map(({ port }) => port);
        expectSame(
          `${delta} ${protocol}`,
          seen.toSorted((x, y) => x - y),
          ports,
        );
      }
    }
    return undefined;
  },
};

export const background: Check = {
  name: "background mappings advance an independent counter at their rate",
  async run(lab, fault) {
    await lab
      .router("a")
      .set(
        settingsWith({ both: { delta: { kind: "independent", step: 1 } }, backgroundPerSecond: 200 }),
        fault,
      );
    const first = mappingsOf(siteOf(lab), "udp", [freshPort()])?.[0]?.port ?? 0;
    const began = performance.now();
    await Bun.sleep(500);
    const last = mappingsOf(siteOf(lab), "udp", [freshPort()])?.[0]?.port ?? 0;
    const wanted = ((performance.now() - began) / 1000) * 200;
    const made = (last - first + 64_512) % 64_512;
    expectThat(
      made > wanted * 0.6 && made < wanted * 1.5,
      `expected about ${wanted.toFixed(0)} mappings, saw ${made}`,
    );
    return undefined;
  },
};

/** The check of one configuration. */
export function configurationCheck(name: string): Check {
  return configurations[CONFIGURATIONS.findIndex((one) => one.name === name)] as Check;
}

export const CONFIGURATION_CHECKS: readonly Check[] = [...configurations, mixed, steps, range, background];
