/** The rule of a router's ports, from samples that the NAT engine made: every delta, spoilt in every way that occurs. */
import { describe, expect, test } from "bun:test";
import { classifyDelta } from "../../../core/nat/delta.ts";
import type { MappingSample } from "../../../core/nat/observations.ts";
import { parseConfiguration } from "../../nat/configurations.ts";
import { seededRandom } from "../../nat/seeded-random.ts";
import { changeSettings, type NatSettings } from "../../nat/settings.ts";
import { engineSamples, mapUdp } from "./engine-samples.ts";

const SEEDS = Array.from({ length: 50 }, (_, i) => i);
const RANGES = ["", "@40000-50000", "@1024-32767", "@20000-24095"];
const STEPS = [1, -1, 2, -3, 7, 64, -100];

describe.each(RANGES)("in the range %p", (range) => {
  test.each(STEPS)("independent and dependent by %p are told apart, with value and sign", (step) => {
    for (const kind of ["independent", "dependent"] as const) {
      for (const seed of SEEDS) {
        const samples = engineSamples(settingsOf(`symmetric/${kind}:${step}${range}`, seed));
        expect({ seed, ...classifyDelta(samples) }).toEqual({ seed, type: kind, value: step });
      }
    }
  });

  test("preserving is recognised across the range's end, and its value is external minus local port", () => {
    for (const seed of SEEDS) {
      const settings = settingsOf(`symmetric/preserving${range}`, seed);
      const samples = engineSamples(settings);
      const { type, value } = classifyDelta(samples) ?? {};
      expect({ seed, type }).toEqual({ seed, type: "preserving" });
      const size = settings.ports[1] - settings.ports[0] + 1;
      const { externalPort, localPort } = samples[0] as MappingSample;
      expect(Math.abs(((value as number) - (externalPort - localPort)) % size)).toBe(0);
    }
  });

  test("random is called random", () => {
    for (const seed of SEEDS) {
      const samples = engineSamples(settingsOf(`symmetric/random${range}`, seed));
      expect({ seed, ...classifyDelta(samples) }).toEqual({ seed, type: "random", value: 0 });
    }
  });
});

test("equal is recognised where local ports lie in the range, whatever those outside of it get", () => {
  for (const seed of SEEDS) {
    for (const range of ["", "@30000-65535"]) {
      expect(classifyDelta(engineSamples(settingsOf(`symmetric/equal${range}`, seed)))).toEqual({
        type: "equal",
        value: 0,
      });
    }
  }
});

test("a port that is taken already spoils no rule", () => {
  for (const seed of SEEDS) {
    for (const [name, expected] of Object.entries(RULES)) {
      // Another host has had ports here before us, some of those we are about to get among them.
      const samples = engineSamples(settingsOf(`symmetric/${name}`, seed), {
        before: (engine, position, nowMs) => {
          if (position === 0)
            for (let port = 14_900; port < 14_904; port++) mapUdp(engine, "192.168.1.9", port, nowMs);
        },
      });
      expect({ name, seed, type: classifyDelta(samples)?.type }).toEqual({ name, seed, type: expected });
    }
  }
});

test("other hosts may make a mapping between every third pair of ours", () => {
  const random = seededRandom(3);
  for (const seed of SEEDS) {
    for (const [name, expected] of Object.entries(RULES)) {
      const samples = engineSamples(settingsOf(`symmetric/${name}`, seed), {
        before: (engine, _, nowMs) => {
          if (random.between(0, 2) === 0) mapUdp(engine, "192.168.1.9", random.between(2000, 60_000), nowMs);
        },
      });
      expect({ name, seed, type: classifyDelta(samples)?.type }).toEqual({ name, seed, type: expected });
    }
  }
});

test("a third of what one of three servers saw is enough, and of that a fifth may be lost", () => {
  const random = seededRandom(4);
  for (const seed of SEEDS) {
    for (const [name, expected] of Object.entries(RULES)) {
      const all = engineSamples(settingsOf(`symmetric/${name}`, seed));
      const third = all.filter(({ position }) => position % 3 === seed % 3);
      const lost = new Set([random.between(0, 9), random.between(0, 9)]);
      const seen = third.filter((_, i) => !lost.has(i));
      expect({ name, seed, type: classifyDelta(seen)?.type }).toEqual({ name, seed, type: expected });
    }
  }
});

test("too few samples tell nothing", () => {
  const samples = engineSamples(settingsOf("symmetric/equal", 1));
  expect(classifyDelta([])).toBeUndefined();
  expect(classifyDelta(samples.slice(0, 5))).toBeUndefined();
  expect(classifyDelta(samples.slice(0, 6))).toEqual({ type: "equal", value: 0 });
});

const RULES = {
  equal: "equal",
  preserving: "preserving",
  independent: "independent",
  "independent:-2": "independent",
  dependent: "dependent",
  "dependent:3": "dependent",
  random: "random",
} as const;

function settingsOf(name: string, seed: number): NatSettings {
  return changeSettings(parseConfiguration(name).settings, { seed });
}
