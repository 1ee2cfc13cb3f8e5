/**
 * How a router picks the external port of a new mapping, told from a series of samples: ports that advance by one in
 * runs, with jumps between the runs. Some samples may be missing, some spoilt by mappings of other hosts; what a
 * majority follows is the rule. Whether a server's samples can be believed is not judged here.
 */
import type { Delta } from "./nat-kind.ts";
import type { MappingSample } from "./observations.ts";

/** Fewer tell nothing. */
const FEWEST_SAMPLES = 6;
/** So much of what a rule speaks of must follow it. */
const MAJORITY = 0.6;
/** An offset that wraps is believed when more of it fits, as two numbers fit many sizes. */
const WRAPPED_MAJORITY = 0.7;
/** How many mappings of other hosts may have come between two of ours. */
const MOST_BETWEEN = 16;
/** A counter that others move on often: nearly all pairs are of one counter, if few of them are next to each other. */
const NOISY_MAJORITY = 0.8;
const NOISY_EXACT = 0.3;
/** How many times a range may fit into the distance of two local ports. */
const MOST_WRAPS = 64;

/** The rule that `samples`, in the order of their positions, follow; undefined if they are too few. */
export function classifyDelta(samples: readonly MappingSample[]): Delta | undefined {
  if (samples.length < FEWEST_SAMPLES) return undefined;
  if (isEqual(samples)) return { type: "equal", value: 0 };
  const offset = preservedOffset(samples);
  if (offset !== undefined) return { type: "preserving", value: offset };
  return stepped(samples) ?? { type: "random", value: 0 };
}

/** Local ports outside of the router's range cannot be kept, and say nothing against it. */
function isEqual(samples: readonly MappingSample[]): boolean {
  const [low, high] = externalRange(samples);
  const able = samples.filter(({ localPort }) => localPort >= low && localPort <= high);
  const kept = able.filter(({ localPort, externalPort }) => localPort === externalPort).length;
  return kept >= 2 && kept >= MAJORITY * able.length;
}

/** External minus local port, where that is the same for all but for multiples of one size, the range's. */
function preservedOffset(samples: readonly MappingSample[]): number | undefined {
  const offsets = samples.map(({ localPort, externalPort }) => externalPort - localPort);
  const offset = mostCommon(offsets);
  if (offset === undefined || offset === 0) return undefined;
  const same = offsets.filter((other) => other === offset).length;
  const runs = new Set(offsets).size;
  if (same >= MAJORITY * offsets.length && runs < offsets.length / 2) return offset;
  const [low, high] = externalRange(samples);
  const needed = WRAPPED_MAJORITY * offsets.length;
  for (const other of new Set(offsets)) {
    const distance = Math.abs(other - offset);
    for (let wraps = 1; wraps <= MOST_WRAPS && distance / wraps > high - low; wraps++) {
      const size = distance / wraps;
      if (!Number.isInteger(size)) continue;
      if (offsets.filter((one) => (one - offset) % size === 0).length >= needed) return offset;
    }
  }
  return undefined;
}

/** A step from one mapping to the next: whatever the local port, or only while that advances by one. */
function stepped(samples: readonly MappingSample[]): Delta | undefined {
  const pairs = samples.slice(1).map((sample, i) => {
    const before = samples[i] as MappingSample;
    const mappings = sample.position - before.position;
    const isRun = sample.localPort - before.localPort === mappings;
    return { mappings, ports: sample.externalPort - before.externalPort, isRun };
  });
  const runs = pairs.filter(({ isRun }) => isRun);
  const jumps = pairs.filter(({ isRun }) => !isRun);
  const steps = runs.map(({ mappings, ports }) => ports / mappings).filter((one) => one !== 0);
  const share = (step: number): number => steps.filter((one) => one === step).length / runs.length;
  /** How many of some pairs can be of one counter, which other hosts may have moved on in between. */
  const goingOn = (step: number, some: typeof pairs): number =>
    some.filter(({ mappings, ports }) => {
      const made = ports / step;
      return Number.isInteger(made) && made >= mappings && made <= mappings + MOST_BETWEEN;
    }).length;
  const isCounter = (step: number): boolean => jumps.length > 0 && goingOn(step, jumps) >= jumps.length / 2;
  // What others make adds to the step, so the smallest that explains the rest is the router's.
  const noisy = [...new Set(steps)]
    .filter((step) => Number.isInteger(step) && share(step) >= NOISY_EXACT)
    .sort((a, b) => Math.abs(a) - Math.abs(b))
    .find((step) => isCounter(step) && goingOn(step, pairs) >= NOISY_MAJORITY * pairs.length);
  if (noisy !== undefined) return { type: "independent", value: noisy };
  const step = mostCommon(steps.filter(Number.isInteger));
  if (step === undefined || share(step) < MAJORITY || share(step) * runs.length < 2) return undefined;
  return { type: isCounter(step) ? "independent" : "dependent", value: step };
}

/** Lowest and highest external port. */
export function externalRange(samples: readonly MappingSample[]): readonly [low: number, high: number] {
  const ports = samples.map(({ externalPort }) => externalPort);
  return [Math.min(...ports), Math.max(...ports)];
}

/** Of several that are equally common the first. */
function mostCommon(values: readonly number[]): number | undefined {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].reduce<[number, number] | undefined>(
    (most, one) => (most === undefined || one[1] > most[1] ? one : most),
    undefined,
  )?.[0];
}
