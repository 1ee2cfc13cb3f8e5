/**
 * What a detection must say of a router with these settings, and in what it differs from that. Of the range only what
 * samples can show is compared: nothing outside of it, and where ports are drawn from all of it, most of it.
 */
import type { DeltaType, NatKind, NatProfile, NatType } from "../../core/nat/nat-kind.ts";
import type { TableEntry } from "./engine.ts";
import type { NatSettings } from "./settings.ts";

/** Where samples are spread over the whole range, so much of it is seen. */
const SPREAD = 0.6;

/** What a detection got wrong of a router with these settings and this table. */
export interface Misjudgement {
  /** In words; empty if nothing is. */
  readonly wrong: readonly string[];
  /** Taken for "open" or "full cone", which it is not. */
  readonly isTooOpen: boolean;
}

const OPENEST: readonly NatType[] = ["open-internet", "full-cone"];

export function misjudgement(
  profile: NatProfile | undefined,
  settings: NatSettings,
  table: readonly TableEntry[],
): Misjudgement {
  if (profile === undefined) return { wrong: ["nothing was found out"], isTooOpen: false };
  const found = (["udp", "tcp"] as const).map((protocol) => {
    const offset = preservedOffset(table.filter((entry) => entry.protocol === protocol));
    const expected = expectedKind(settings, protocol, offset);
    const { type } = profile[protocol];
    return {
      wrong: differences(profile[protocol], expected).map((text) => `${protocol} ${text}`),
      isTooOpen: type !== expected.type && OPENEST.includes(type),
    };
  });
  return { wrong: found.flatMap(({ wrong }) => wrong), isTooOpen: found.some(({ isTooOpen }) => isTooOpen) };
}

interface ExpectedKind {
  readonly type: NatType;
  readonly mapping: NatKind["mapping"];
  readonly filtering: NatKind["filtering"];
  readonly delta: DeltaType;
  /** Of `preserving` external minus local port, which is the same for all ports but for multiples of the range. */
  readonly value: number;
  readonly ports: readonly [low: number, high: number] | undefined;
}

/** `offset`: what `preservedOffset` says of the router's table. */
function expectedKind(
  settings: NatSettings,
  protocol: "udp" | "tcp",
  offset: number | undefined,
): ExpectedKind {
  const { mapping, delta, blocked } = settings[protocol];
  const nothing = { delta: "not-applicable", value: 0, ports: undefined } as const;
  if (blocked) return { type: "blocked", mapping: "unknown", filtering: "unknown", ...nothing };
  // Where UDP is blocked nothing can tell how TCP is filtered.
  const filtering = settings.udp.blocked ? "unknown" : settings[protocol].filtering;
  if (settings.mode !== "nat") {
    const isOpen = settings.mode === "open" || filtering === "endpoint-independent";
    return {
      type: isOpen ? "open-internet" : "symmetric-firewall",
      mapping: "endpoint-independent",
      filtering: settings.mode === "open" ? "endpoint-independent" : filtering,
      ...nothing,
    };
  }
  const cones = {
    "endpoint-independent": "full-cone",
    "address-dependent": "restricted",
    "address-and-port-dependent": "port-restricted",
    unknown: "port-restricted",
  } as const;
  return {
    type: mapping === "endpoint-independent" ? cones[filtering] : "symmetric",
    mapping,
    filtering,
    delta: delta.kind,
    value: delta.kind === "preserving" ? (offset ?? 0) : "step" in delta ? delta.step : 0,
    ports: settings.ports,
  };
}

/** What is wrong with `kind`, in words; empty if nothing is. */
function differences(kind: NatKind, expected: ExpectedKind): readonly string[] {
  const wrong: string[] = [];
  const compare = (what: string, saw: unknown, wanted: unknown): void => {
    if (saw !== wanted) wrong.push(`${what} ${String(saw)}, expected ${String(wanted)}`);
  };
  compare("type", kind.type, expected.type);
  compare("mapping", kind.mapping, expected.mapping);
  compare("filtering", kind.filtering, expected.filtering);
  compare("delta", kind.delta.type, expected.delta);
  const { ports } = expected;
  const size = ports === undefined || expected.delta !== "preserving" ? 0 : ports[1] - ports[0] + 1;
  if (size === 0 || (kind.delta.value - expected.value) % size !== 0)
    compare("value", kind.delta.value, expected.value);
  if (ports === undefined) {
    compare("range", kind.range?.join("-"), undefined);
    return wrong;
  }
  const [low, high] = kind.range ?? [0, 0];
  const isWithin = low >= ports[0] && high <= ports[1] && low <= high;
  // Runs of neighbours that wrap in a narrow range may fall together.
  const isSpread =
    expected.delta === "equal" ||
    expected.delta === "random" ||
    (expected.delta === "preserving" && size > 32_768);
  const isWide = !isSpread || high - low >= SPREAD * (ports[1] - ports[0]);
  if (!isWithin || !isWide)
    wrong.push(`range ${low}-${high}, expected ${isSpread ? "most of " : "part of "}${ports.join("-")}`);
  return wrong;
}

/** External minus local port of most mappings of one protocol; undefined where there are none. */
function preservedOffset(table: readonly TableEntry[]): number | undefined {
  const offsets = table.map(({ internal, external }) => external.port - internal.port);
  const count = (offset: number): number => offsets.filter((one) => one === offset).length;
  return offsets.toSorted((a, b) => count(b) - count(a))[0];
}
