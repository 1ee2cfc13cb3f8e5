/**
 * The 35 router configurations of the project, by name: seven types times five deltas, `symmetric/independent`
 * for one. Described here once for the laboratory and the simulator. A name may carry a step and a port range:
 * `symmetric/independent:-2@40000-50000`.
 *
 * `open-internet` and `symmetric-firewall` do not translate, so their delta changes nothing. `blocked` blocks
 * UDP; its TCP is that of a port-restricted NAT with the delta named, as behind a company's firewall.
 */
import { P2pdError } from "../../core/errors.ts";
import { changeSettings, DEFAULT_SETTINGS } from "./settings.ts";
import type { Behaviour, Delta, NatSettings, NatSettingsChange } from "./settings.ts";

export const NAT_TYPES = [
  "open-internet",
  "symmetric-firewall",
  "full-cone",
  "restricted",
  "port-restricted",
  "symmetric",
  "blocked",
] as const;
export type NatType = (typeof NAT_TYPES)[number];

export const DELTA_KINDS = ["equal", "preserving", "independent", "dependent", "random"] as const;
export type DeltaKind = (typeof DELTA_KINDS)[number];

export interface NatConfiguration {
  /** `type/delta`, with step and range where they were given. */
  readonly name: string;
  readonly type: NatType;
  readonly delta: Delta;
  readonly settings: NatSettings;
}

const cone = (filtering: Behaviour): NatSettingsChange => ({
  both: { mapping: "endpoint-independent", filtering },
});

const TYPE_SETTINGS: Readonly<Record<NatType, NatSettingsChange>> = {
  "open-internet": { mode: "open", ipv6: { mode: "open" } },
  "symmetric-firewall": { mode: "firewall" },
  "full-cone": cone("endpoint-independent"),
  restricted: cone("address-dependent"),
  "port-restricted": cone("address-and-port-dependent"),
  symmetric: { both: { mapping: "address-and-port-dependent", filtering: "address-and-port-dependent" } },
  blocked: { ...cone("address-and-port-dependent"), udp: { blocked: true } },
};

/** The 35, types in the order of P2PD's numbers, deltas likewise. */
export const CONFIGURATIONS: readonly NatConfiguration[] = NAT_TYPES.flatMap((type) =>
  DELTA_KINDS.map((kind) => configure(`${type}/${kind}`, type, deltaOf(kind, undefined), {})),
);

/**
 * The configuration that `name` describes: `TYPE`, `TYPE/DELTA`, `TYPE/DELTA:STEP`, each optionally followed by
 * `@LOW-HIGH`, the range of external ports. A missing delta is `equal`, a missing step 1.
 * @throws P2pdError `bad-argument` that says which part is wrong and what there is.
 */
export function parseConfiguration(name: string): NatConfiguration {
  const match = /^([^/@:]+)(?:\/([^@:]+)(?::([^@]*))?)?(?:@(.*))?$/.exec(name.trim().toLowerCase());
  if (match === null) throw badName(name, `expected TYPE/DELTA, for example symmetric/independent.`);
  const [, typeText = "", deltaText = "equal", stepText, rangeText] = match;
  const type = SHORT_TYPES[typeText] ?? NAT_TYPES.find((known) => known === typeText);
  if (type === undefined) throw badName(name, `no NAT type "${typeText}"${didYouMean(typeText, NAT_TYPES)}`);
  const kind = DELTA_KINDS.find((known) => known === deltaText);
  if (kind === undefined) throw badName(name, `no delta "${deltaText}"${didYouMean(deltaText, DELTA_KINDS)}`);
  const range = rangeText === undefined ? undefined : /^([0-9]{1,5})-([0-9]{1,5})$/.exec(rangeText);
  if (range === null)
    throw badName(name, `"${rangeText}" is no port range; expected LOW-HIGH, for example 40000-50000.`);
  const change: NatSettingsChange =
    range === undefined ? {} : { ports: [Number(range[1]), Number(range[2])] };
  return configure(name.trim().toLowerCase(), type, deltaOf(kind, stepText, name), change);
}

function deltaOf(kind: DeltaKind, stepText: string | undefined, name = kind as string): Delta {
  if (kind !== "independent" && kind !== "dependent") {
    if (stepText !== undefined) throw badName(name, `the delta ${kind} has no step.`);
    return { kind };
  }
  if (stepText !== undefined && !/^[+-]?[0-9]{1,5}$/.test(stepText)) {
    throw badName(name, `"${stepText}" is no step; expected a whole number other than 0.`);
  }
  return { kind, step: Number(stepText ?? 1) };
}

function configure(name: string, type: NatType, delta: Delta, change: NatSettingsChange): NatConfiguration {
  const typed = changeSettings(DEFAULT_SETTINGS, { ...TYPE_SETTINGS[type], seed: seedOf(name) });
  return { name, type, delta, settings: changeSettings(typed, { ...change, both: { delta } }) };
}

/** What is said for short on a command line. */
const SHORT_TYPES: Readonly<Record<string, NatType>> = {
  open: "open-internet",
  firewall: "symmetric-firewall",
};

/** Each configuration has a seed of its own, the same in every run. */
function seedOf(name: string): number {
  let seed = 7;
  for (let i = 0; i < name.length; i++) seed = (Math.imul(seed, 31) + name.charCodeAt(i)) >>> 0;
  return seed;
}

function badName(name: string, why: string): P2pdError {
  return new P2pdError(
    "bad-argument",
    `"${name}" names no NAT configuration: ${why} Types: ${NAT_TYPES.join(", ")}. Deltas: ${DELTA_KINDS.join(", ")}.`,
    { name },
  );
}

function didYouMean(text: string, known: readonly string[]): string {
  const nearest = known
    .map((word) => ({ word, distance: editDistance(text, word) }))
    .sort((a, b) => a.distance - b.distance)[0];
  return nearest !== undefined && nearest.distance <= Math.max(2, text.length / 3)
    ? `; did you mean "${nearest.word}"?`
    : ".";
}

/** Levenshtein's distance; names are short, so the plain table will do. */
function editDistance(a: string, b: string): number {
  const text = a.slice(0, 40);
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= text.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] as number) + (text[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}
